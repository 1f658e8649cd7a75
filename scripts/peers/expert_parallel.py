"""Expert parallelism in PyTorch over Gloo, one thread per rank: the peer of `scmoe bench compare`.

  mpirun -n 2 python expert_parallel.py [--modes forward,train,step] [--rounds 3]     (or torchrun; MASTER_ADDR names rank 0's host)
  python expert_parallel.py --check                                                  on its own: is it the same mathematics?

Rank 0 prints a JSON line that says what it is, then one per case and round: ms of the slowest rank, and ms waited for the
network, mean over ranks. Modes: forward (no gradients), train (forward and backward of a micro-batch), step (a whole optimiser
step: micro-batches, reduction by DistributedDataParallel beside the last one's backward, clipping, AdamW).
"""

import argparse
import json
import os
import sys
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"
sys.dont_write_bytecode = True

import mkl  # before torch
import torch
import torch.distributed as dist

from model import ARCHITECTURES, Sizes
from trainer import Trainer

MODES = ("forward", "train", "step")


def words(known):
    def parse(text):
        found = text.replace(",", " ").split()
        unknown = [word for word in found if word not in known]
        if unknown or not found:
            raise argparse.ArgumentTypeError(f"wanted some of {', '.join(known)}; found {text!r}")
        return found

    return parse


def arguments():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    sizes = dict(width=512, heads=None, sequence=256, batch=4, experts=8, pairs=3, vocab=1024)
    for name, usual in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--archs", type=words(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--modes", type=words(MODES), default=list(MODES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--exchange", choices=("pairs", "all-to-all"), default="pairs")
    parser.add_argument("--wire-gradients", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    options.heads = options.heads or max(1, options.width // 64)
    options.sizes = Sizes(**{name: getattr(options, name) for name in sizes})
    return options


def measure(trainer, mode, **how):
    """One run on all ranks. @returns ms of the slowest and mean ms waited"""
    trainer.zero()
    dist.barrier()
    trainer.model.network.waited = 0.0
    since = perf_counter()
    getattr(trainer, mode)(**how)
    own = torch.tensor([perf_counter() - since, trainer.model.network.waited])
    ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(ranks, own)
    ms = 1e3 * torch.stack(ranks)
    return ms[:, 0].max().item(), ms[:, 1].mean().item()


def main():
    options = arguments()
    if options.check:
        import check

        return check.run()
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("RANK", 0)))
    ranks = int(os.environ.get("OMPI_COMM_WORLD_SIZE", os.environ.get("WORLD_SIZE", 1)))
    sizes = options.sizes
    if sizes.experts % ranks or sizes.tokens % sizes.experts or sizes.width % sizes.heads:
        sys.exit(f"ranks ({ranks}) must divide experts, experts tokens per rank, heads width: {sizes}")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    group = dist.new_group()

    def say(**line):
        if rank == 0:
            print(json.dumps(line), flush=True)

    how = {name: getattr(options, name) for name in ("exchange", "micro_batches", "wire_gradients")}
    say(torch=torch.__version__, mkl=mkl.KERNELS, ranks=ranks, **how)
    trainers = {name: Trainer(name, sizes, group, **how) for name in options.archs}
    cases = [(name, mode) for mode in options.modes for name in options.archs]
    for name, mode in cases:
        # Reducing once is enough for a warm step, and is most of its time.
        measure(trainers[name], mode, **({"micro_batches": 1} if mode == "step" else {}))
    for turn in range(options.rounds):
        # There and back: what drifts while a round goes on meets every case alike.
        for name, mode in cases if turn % 2 == 0 else reversed(cases):
            ms, waited = measure(trainers[name], mode)
            say(arch=name, mode=mode, round=turn, ms=round(ms, 2), waitedMs=round(waited, 2))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
