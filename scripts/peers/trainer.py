"""One architecture on this rank: what a measured step does."""

from contextlib import nullcontext
from time import perf_counter

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from model import ARCHITECTURES, Model, is_expert

CLIP_NORM = 1.0


class Trainer:
    def __init__(self, name, sizes, reductions, *, exchange, micro_batches, wire_gradients, **init):
        """`reductions`: a process group of its own, so that no bucket is ahead of an all-to-all in its queue."""
        self.model = Model(ARCHITECTURES[name], sizes, exchange, **init)
        parameters = dict(self.model.named_parameters())
        self.experts = [p for n, p in parameters.items() if is_expert(n)]
        self.replicated = [p for n, p in parameters.items() if not is_expert(n)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            self.model, [n for n in parameters if is_expert(n)]
        )
        self.parallel = DistributedDataParallel(
            self.model, process_group=reductions, gradient_as_bucket_view=True, init_sync=False
        )
        if wire_gradients == "bf16":
            self.parallel.register_comm_hook(reductions, bf16_compress_hook)
        decayed = [p for p in parameters.values() if p.dim() > 1]
        others = [p for p in parameters.values() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
        random = torch.Generator().manual_seed(7 + dist.get_rank())
        shape = (micro_batches, 2, sizes.tokens)
        self.data = torch.randint(sizes.vocab, shape, generator=random)
        # Gradients of the embeddings are the last of a backward pass: from then on it waits for reductions alone.
        self.last_gradient = 0.0
        for embedding in (self.model.embedding, self.model.positions):
            embedding.weight.register_post_accumulate_grad_hook(self._mark)

    def _mark(self, _parameter):
        self.last_gradient = perf_counter()

    def zero(self):
        self.optimizer.zero_grad(set_to_none=False)

    @torch.no_grad()
    def forward(self):
        return self.model(*self.data[0])

    def train(self):
        """Forward and backward of one micro-batch, into gradients that are zero; nothing is reduced."""
        with self.parallel.no_sync():
            loss = self.parallel(*self.data[0])
            loss.backward()
        return loss

    def step(self, micro_batches=None):
        """An optimiser step. @returns the gradients' norm before clipping"""
        network = self.model.network
        count = micro_batches or len(self.data)
        self.zero()
        for i, batch in enumerate(self.data[:count]):
            with nullcontext() if i == count - 1 else self.parallel.no_sync():
                (self.parallel(*batch) / count).backward()
        network.waited += perf_counter() - self.last_gradient
        norm = self.clip()
        self.optimizer.step()
        return norm

    @torch.no_grad()
    def clip(self):
        own = [p.grad for p in self.experts]
        # Experts' gradients are sums over the ranks' losses, the others means.
        torch._foreach_div_(own, dist.get_world_size())
        squares = get_total_norm(own, foreach=True).square()
        self.model.network.wait(dist.all_reduce(squares, async_op=True))
        norm = (squares + get_total_norm([p.grad for p in self.replicated], foreach=True).square()).sqrt()
        clip_grads_with_norm_([*self.replicated, *self.experts], CLIP_NORM, norm, foreach=True)
        return norm
