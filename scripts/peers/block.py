"""One pre-norm GPT block on one thread, eager or compiled: the peer of `scmoe bench block`. Prints a JSON line.

  python block.py [--width 512] [--heads 8] [--sequence 256] [--batch 4] [--rounds 25] [--compile]

Medians of rounds, in ms: forward without gradients, forward and backward, and the block's four linear layers as bare products x·Wᵀ.
"""

import argparse
import json
import os
import sys
from statistics import median
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"
sys.dont_write_bytecode = True

import mkl  # before torch
import torch
import torch.nn.functional as F
from torch import nn

WARM_UP_ROUNDS = 3


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm0, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h):
        batch, sequence, width = h.shape
        qkv = self.qkv(self.norm0(h)).view(batch, sequence, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).reshape(h.shape))
        return h + self.down(F.gelu(self.up(self.norm1(h))))


def timed(run):
    since = perf_counter()
    run()
    return 1e3 * (perf_counter() - since)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name, usual in dict(width=512, heads=8, sequence=256, batch=4, rounds=25).items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--compile", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    block = Block(o.width, o.heads)
    run = torch.compile(block) if o.compile else block
    h = torch.randn(o.batch, o.sequence, o.width, requires_grad=True)
    gradient = torch.randn_like(h)
    x, wide = torch.randn(o.batch * o.sequence, o.width), torch.randn(o.batch * o.sequence, 4 * o.width)
    layers = [(x, block.qkv.weight), (x, block.out.weight), (x, block.up.weight), (wide, block.down.weight)]

    @torch.no_grad()
    def forward():
        run(h)

    def both():
        run(h).backward(gradient)

    @torch.no_grad()
    def products():
        for rows, weight in layers:
            F.linear(rows, weight)

    rounds = []
    for _ in range(WARM_UP_ROUNDS + o.rounds):
        rounds.append([timed(forward), timed(both), timed(products)])
        for value in (h, *block.parameters()):
            value.grad = None
    ms = [median(column) for column in zip(*rounds[WARM_UP_ROUNDS:])]
    tokens = o.batch * o.sequence
    # As `bench block` counts: attention over all keys, backward twice forward.
    products_flop = 24 * tokens * o.width**2
    flop = products_flop + 4 * tokens * o.sequence * o.width
    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "mkl": mkl.KERNELS,
                "compiled": o.compile,
                "width": o.width,
                "forwardMs": round(ms[0], 2),
                "totalMs": round(ms[1], 2),
                "gflopPerSecond": round(3 * flop / ms[1] / 1e6, 1),
                "gemmGflopPerSecond": round(products_flop / ms[2] / 1e6, 1),
            }
        )
    )


main()
