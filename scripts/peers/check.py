"""The model on two ranks beside the same mathematics written plainly, in one process, at a tiny size: expert_parallel.py --check."""

import json
import math
import os
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from model import ARCHITECTURES, BALANCE, Sizes, is_expert
from trainer import CLIP_NORM, Trainer

RANKS = 2
MICRO_BATCHES = 2
SIZES = Sizes(width=16, heads=2, sequence=8, batch=2, experts=4, pairs=2, vocab=24)
LARGEST = {"f32": 1e-5, "bf16": 1e-2}


def norm(x, w, name):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"] + w[name + ".bias"]


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def mlp(x, w, name):
    u = linear(x, w, name + ".up")
    return linear(u * 0.5 * (1 + torch.erf(u / math.sqrt(2))), w, name + ".down")


def attention(h, w, name):
    s = SIZES
    q, k, v = linear(norm(h, w, name + ".norm"), w, name + ".qkv").split(s.width, 1)
    future = torch.full((s.sequence, s.sequence), -math.inf).triu(1)
    mixed = torch.zeros_like(q)
    size = s.width // s.heads
    for b in range(s.batch):
        rows = slice(b * s.sequence, (b + 1) * s.sequence)
        for head in range(s.heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[rows, part] @ k[rows, part].T / math.sqrt(size)
            mixed[rows, part] = (scores + future).softmax(-1) @ v[rows, part]
    return linear(mixed, w, name + ".out")


def routed(x, w, name, choices):
    """Token by token; @returns the rows and the balance loss"""
    p = (x @ w[name + ".gate.weight"].T).softmax(-1)
    rows = []
    for t, row in enumerate(x):
        chosen = [(t + j) % SIZES.experts for j in range(choices)]
        total = sum(p[t, e] for e in chosen) if choices > 1 else 1
        rows.append(sum(p[t, e] / total * mlp(row, w, f"{name}.experts.{e}") for e in chosen))
    shares = torch.bincount(p.argmax(-1), minlength=SIZES.experts) / len(x)
    return torch.stack(rows), SIZES.experts * (shares * p.mean(0)).sum()


def plain_loss(w, name, tokens, labels):
    a, s = ARCHITECTURES[name], SIZES
    h = w["embedding.weight"][tokens] + w["positions.weight"].repeat(s.batch, 1)
    balances = []
    for i in range(s.pairs):
        pair = f"pairs.{i}"
        start = h
        middle = start + attention(start, w, pair + ".attention0")
        end = middle + mlp(norm(middle, w, pair + ".norm0"), w, pair + ".mlp")
        current = end + attention(end, w, pair + ".attention1")
        x = norm(current, w, pair + ".norm1")
        source = {"input": start, "middle": middle}.get(a.leaves)
        read = x if source is None else norm(source, w, pair + ".shortcut_norm")
        rows, balance = routed(read, w, pair + ".moe", a.choices)
        balances.append(balance)
        shared = mlp(x, w, pair + ".shared") if a.shared else 0
        logits = x @ w[pair + ".coefficients.weight"].T if a.coefficients else None
        if a.coefficients == 1:
            shared = shared / (1 + torch.exp(-logits))
        if a.coefficients == 2:
            c = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
            shared, rows = c[:, :1] * shared, c[:, 1:] * rows
        h = current + shared + rows
    logits = norm(h, w, "norm") @ w["embedding.weight"].T
    chosen = logits.log_softmax(-1)[torch.arange(s.tokens), labels]
    return BALANCE * sum(balances) / len(balances) - chosen.mean()


def plain(w, name, batches):
    """@returns loss and gradients, summed over the batches"""
    for value in w.values():
        value.grad = None
    loss = sum(plain_loss(w, name, *batch) for batch in batches)
    loss.backward()
    return loss.item(), {n: value.grad.clone() for n, value in w.items()}


def adamw(w, gradients, rate):
    """The first update of AdamW from moments of zero."""
    return {
        n: value * (1 - rate * (0.1 if value.dim() > 1 else 0)) - rate * gradients[n] / (gradients[n].abs() + 1e-8)
        for n, value in w.items()
    }


def whole(trainer, read):
    """Every rank's tensors, experts by their number among all."""
    own = {n: read(p).detach().clone() for n, p in trainer.model.named_parameters()}
    ranks = [None] * RANKS
    dist.all_gather_object(ranks, own)
    held = SIZES.experts // RANKS
    found = {}
    for rank, tensors in enumerate(ranks):
        for n, tensor in tensors.items():
            if is_expert(n):
                head, tail = n.split(".experts.")
                number, rest = tail.split(".", 1)
                n = f"{head}.experts.{int(number) + rank * held}.{rest}"
            # Replicated ones: rank 0's.
            found.setdefault(n, tensor)
    return found


def difference(found, wanted):
    """The largest over tensors, beside the tensor; one that is as good as zero beside all of them."""
    floor = 1e-2 * math.sqrt(sum(t.square().sum().item() for t in wanted.values()) / len(wanted))
    return max(((found[n] - t).norm() / max(t.norm().item(), floor)).item() for n, t in wanted.items())


def check(name, exchange, wire):
    how = dict(exchange=exchange, micro_batches=MICRO_BATCHES, wire_gradients=wire)
    trainer = Trainer(name, SIZES, dist.new_group(), **how, deviation=0.3, biases=0.3)
    w = {n: t.requires_grad_() for n, t in whole(trainer, lambda p: p).items()}
    data = [None] * RANKS
    dist.all_gather_object(data, trainer.data)
    first = [ranks[0] for ranks in data]
    forward_loss = trainer.forward().item()
    train_loss = trainer.train().item()
    trained = whole(trainer, lambda p: p.grad)
    rate = trainer.optimizer.param_groups[0]["lr"]
    total = trainer.step().item()
    clipped, updated = whole(trainer, lambda p: p.grad), whole(trainer, lambda p: p)
    if dist.get_rank() != 0:
        return
    own_loss, own = plain(w, name, first[:1])
    _, sums = plain(w, name, first)
    wanted = {n: sums[n] if is_expert(n) else own[n] for n in w}
    _, sums = plain(w, name, [batch for ranks in data for batch in ranks])
    means = {n: g / (RANKS * MICRO_BATCHES) for n, g in sums.items()}
    plain_total = math.sqrt(sum(g.square().sum().item() for g in means.values()))
    scale = min(1, CLIP_NORM / plain_total)
    found = {
        "loss": max(abs(loss - own_loss) / own_loss for loss in (forward_loss, train_loss)),
        "gradients": difference(trained, wanted),
        "gradientsOfStep": difference(clipped, {n: g * scale for n, g in means.items()}),
        "norm": abs(total - plain_total) / plain_total,
        # From the peer's own gradients: Adam makes a whole step of what should be zero.
        "weights": difference(updated, adamw({n: t.detach() for n, t in w.items()}, clipped, rate)),
    }
    largest = max(found.values())
    case = {"arch": name, "exchange": exchange, "wireGradients": wire}
    print(json.dumps({**case, "largest": largest, **found}), flush=True)
    if not largest < LARGEST[wire]:
        print(f"unlike the plain model: more than {LARGEST[wire]}", file=sys.stderr, flush=True)
        os._exit(1)


def rank_main(rank, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank, world_size=RANKS)
    for exchange, wire in (("pairs", "f32"), ("all-to-all", "f32"), ("pairs", "bf16")):
        for name in ARCHITECTURES:
            check(name, exchange, wire)
            dist.barrier()
    dist.destroy_process_group()


def run():
    with tempfile.TemporaryDirectory() as store:
        try:
            processes.spawn(rank_main, (store,), RANKS)
        except processes.ProcessExitedException as error:
            sys.exit(error.exit_code)
