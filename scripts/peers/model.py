"""The GPT-style model of `scmoe bench compare` in PyTorch, its experts shared out over ranks.

Pairs of a dense block (attention, MLP) and an MoE block (attention, experts). The shortcut architectures send their rows off early,
put the experts between MLP and attention, and wait for the answer at the end. Choices of the gate are fixed and even: no
counting, no sorting, no padding, no rank with more rows than another. That flatters this model.
"""

from dataclasses import dataclass
from time import perf_counter

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

BALANCE = 0.01


@dataclass(frozen=True)
class Architecture:
    choices: int
    shared: bool = False
    coefficients: int = 0  # 1: sigmoid on the shared expert; 2: softmax over shared and routed
    leaves: str = "here"  # where routed rows leave: "here" (own block), "middle" or "input" of the block before


ARCHITECTURES = {
    "top2": Architecture(choices=2),
    "shared": Architecture(choices=1, shared=True, coefficients=2),
    "scmoe-pos2": Architecture(choices=1, shared=True, coefficients=1, leaves="middle"),
    "scmoe-pos3": Architecture(choices=1, shared=True, coefficients=1, leaves="input"),
}


@dataclass(frozen=True)
class Sizes:
    width: int
    heads: int
    sequence: int
    batch: int
    experts: int
    pairs: int
    vocab: int

    @property
    def tokens(self):
        return self.batch * self.sequence


class Network:
    """All-to-alls between the ranks, and the seconds spent waiting for them.

    Gloo's own ("all-to-all") tells a rank that it may send only behind the rows that go the other way, so that often one direction waits
    for the other: half of the rate. Receiving before sending ("pairs") does not have that.
    """

    def __init__(self, exchange):
        self.waited, self.exchange = 0.0, exchange
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()

    def start(self, received, sent):
        """@returns what to wait for"""
        if self.exchange == "all-to-all":
            return [dist.all_to_all_single(received, sent, async_op=True)]
        others = [(self.rank + i) % self.ranks for i in range(1, self.ranks)]
        received, sent = received.chunk(self.ranks), sent.chunk(self.ranks)
        works = [dist.irecv(received[other], other) for other in others]
        works += [dist.isend(sent[other], other) for other in others]
        received[self.rank].copy_(sent[self.rank])
        return works

    def wait(self, work):
        since = perf_counter()
        work.wait()
        self.waited += perf_counter() - since


class Flight:
    """One all-to-all. What `start` returns holds the rows only after `finish`."""

    def __init__(self, network):
        self.network = network

    def start(self, rows):
        self.sent = rows.contiguous()
        self.received = torch.empty_like(self.sent)
        self.works = self.network.start(self.received, self.sent)
        return self.received

    def finish(self):
        for work in self.works:
            self.network.wait(work)
        received = self.received
        del self.sent, self.received, self.works
        return received


class Start(torch.autograd.Function):
    """Sends rows off; on the way back it waits, as late as the engine comes to it: nodes run in the reverse of their making."""

    @staticmethod
    def forward(ctx, rows, there, back):
        ctx.back = back
        return there.start(rows)

    @staticmethod
    def backward(ctx, _unfilled):
        return ctx.back.finish(), None, None


class Finish(torch.autograd.Function):
    """Waits for the rows; on the way back it sends their gradients off."""

    @staticmethod
    def forward(ctx, unfilled, there, back):
        ctx.back = back
        there.finish()
        return unfilled.view_as(unfilled)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.back.start(gradient), None, None


class Travel:
    """Rows under way, and their gradients later."""

    def __init__(self, network, rows):
        self.flights = Flight(network), Flight(network)
        self.unfilled = Start.apply(rows, *self.flights)

    def arrive(self):
        return Finish.apply(self.unfilled, *self.flights)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Attention(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.norm = nn.LayerNorm(sizes.width)
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)

    def forward(self, h):
        s = self.sizes
        qkv = self.qkv(self.norm(h)).view(s.batch, s.sequence, 3, s.heads, s.width // s.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(s.tokens, s.width))


class Experts(nn.Module):
    """Gate and routed experts, of which this rank holds a slice. Token t's choice j is expert (t + j) mod N."""

    def __init__(self, sizes, choices, network):
        super().__init__()
        self.ranks, self.network, self.width = network.ranks, network, sizes.width
        self.held = sizes.experts // self.ranks
        self.gate = nn.Linear(sizes.width, sizes.experts, bias=False)
        self.experts = nn.ModuleList(Mlp(sizes.width) for _ in range(self.held))
        token, choice = torch.arange(sizes.tokens)[:, None], torch.arange(choices)[None]
        self.choice = (token + choice) % sizes.experts
        # Rows sorted by expert, and where a token's rows then are.
        order = self.choice.flatten().argsort(stable=True)
        self.encode, self.decode = order // choices, order.argsort()
        self.balance = None

    def dispatch(self, x):
        """Gate, encode, and off they go."""
        p = self.gate(x).softmax(-1)
        weights = p.gather(1, self.choice)
        if weights.shape[1] > 1:
            weights = weights / weights.sum(1, keepdim=True)
        first = F.one_hot(p.argmax(-1), p.shape[1]).to(p.dtype).mean(0)
        self.balance = p.shape[1] * (first * p.mean(0)).sum()
        return Travel(self.network, x.index_select(0, self.encode)), weights

    def compute(self, travel, weights):
        """The experts of this rank on what the ranks sent, and back with it."""
        arrived = travel.arrive().view(self.ranks, self.held, -1, self.width)
        done = [
            expert(rows.reshape(-1, self.width)).view(self.ranks, -1, self.width)
            for expert, rows in zip(self.experts, arrived.unbind(1))
        ]
        return Travel(self.network, torch.stack(done, 1).view(-1, self.width)), weights

    def combine(self, travel, weights):
        """Tokens' rows times the gate's weights, summed over choices."""
        rows = travel.arrive().index_select(0, self.decode)
        if weights.shape[1] == 1:
            return rows * weights
        return (rows.view(*weights.shape, self.width) * weights[:, :, None]).sum(1)


class Pair(nn.Module):
    def __init__(self, architecture, sizes, network):
        super().__init__()
        width = sizes.width
        self.architecture = architecture
        self.attention0, self.attention1 = Attention(sizes), Attention(sizes)
        self.norm0, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.moe = Experts(sizes, architecture.choices, network)
        self.shared = Mlp(width) if architecture.shared else None
        if architecture.coefficients:
            self.coefficients = nn.Linear(width, architecture.coefficients, bias=False)
        if architecture.leaves != "here":
            self.shortcut_norm = nn.LayerNorm(width)

    def forward(self, h):
        leaves = self.architecture.leaves
        if leaves == "input":
            routed = self.moe.dispatch(self.shortcut_norm(h))
        h = h + self.attention0(h)
        if leaves == "middle":
            routed = self.moe.dispatch(self.shortcut_norm(h))
        h = h + self.mlp(self.norm0(h))
        if leaves != "here":
            routed = self.moe.compute(*routed)
        h = h + self.attention1(h)
        x = self.norm1(h)
        if leaves == "here":
            rows = self.moe.combine(*self.moe.compute(*self.moe.dispatch(x)))
        if self.shared is None:
            return h + rows
        c = self.coefficients(x)
        c = c.sigmoid() if c.shape[1] == 1 else c.softmax(-1)
        h = h + c[:, :1] * self.shared(x)
        if leaves != "here":
            rows = self.moe.combine(*routed)
        return h + (rows if c.shape[1] == 1 else c[:, 1:] * rows)


class Model(nn.Module):
    """Loss of tokens [T] and labels [T] of this rank: cross-entropy plus the balance loss."""

    def __init__(self, architecture, sizes, exchange, deviation=0.02, biases=0.0):
        super().__init__()
        self.network = Network(exchange)
        self.embedding = nn.Embedding(sizes.vocab, sizes.width)
        self.positions = nn.Embedding(sizes.sequence, sizes.width)
        self.pairs = nn.ModuleList(Pair(architecture, sizes, self.network) for _ in range(sizes.pairs))
        self.norm = nn.LayerNorm(sizes.width)
        self.place = torch.arange(sizes.sequence).repeat(sizes.batch)
        self.initialize(deviation, biases)

    @torch.no_grad()
    def initialize(self, deviation, biases):
        """Replicated weights alike on all ranks, each expert unlike the others."""
        for held, seed in ((False, 1), (True, 2 + dist.get_rank())):
            random = torch.Generator().manual_seed(seed)
            for name, value in self.named_parameters():
                if is_expert(name) != held:
                    continue
                if value.dim() > 1:
                    value.normal_(0, deviation, generator=random)
                else:
                    value.normal_(0, biases, generator=random).add_("norm" in name and name.endswith("weight"))

    def forward(self, tokens, labels):
        h = self.embedding(tokens) + self.positions(self.place)
        for pair in self.pairs:
            h = pair(h)
        loss = F.cross_entropy(F.linear(self.norm(h), self.embedding.weight), labels)
        return loss + BALANCE * torch.stack([pair.moe.balance for pair in self.pairs]).mean()


def is_expert(name):
    """Whether only one rank holds this parameter."""
    return ".moe.experts." in name
