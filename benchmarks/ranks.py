"""What several ranks gain for an update: the same joint batch on 1, 2, ... processes, each with a GPU of its own or its
share of the cores.

All numbers of ranks take turns, and medians are over the turns, so that what else the machine does falls on all. ``ms``
of an update, by the slowest rank; ``speedup`` against one rank; ``all_reduce_ms``: the update's all-reduces alone;
``gradients_mb``: what they average.

    python -m benchmarks.ranks [--ranks 1 2] [--benchmarks mt10] [--widths 128 400 1024] [--weighting mean] [--rounds 7]
        [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import socket
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict

from lit_mtrl.bench.update import transitions
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import cores, die_with_parent, spin_briefly
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.runs.build import build_algorithm, build_suite, build_weightings
from lit_mtrl.training.engine import Engine

UPDATES = {"cpu": 2, "cuda": 20}


class Group:
    """``size`` ranks that measure when they are asked to, and sleep otherwise."""

    def __init__(self, size: int, kind: str):
        spawn = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        pairs = [spawn.Pipe() for _ in range(size)]
        self.pipes = [ours for ours, _ in pairs]
        self.processes = [
            spawn.Process(target=_serve, args=(theirs, rank, size, kind, address), daemon=True)
            for rank, (_, theirs) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()

    def ask(self, *learner: Any) -> list[tuple[float, ...]]:
        """Every rank's answer: to a ``learner`` that it is to build, the size of its gradients in MB; else seconds of
        an update and of its all-reduces.
        """
        for pipe in self.pipes:
            pipe.send(learner)
        return [pipe.recv() for pipe in self.pipes]

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()


def _serve(pipe: Any, rank: int, size: int, kind: str, address: str) -> None:
    die_with_parent()
    torch.set_num_threads(max(1, cores() // size))
    device = torch.device(kind, rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", init_method=address, rank=rank, world_size=size)
    learner: tuple[Engine, TensorDict] | None = None
    while True:
        values = pipe.recv()
        if values:
            learner = None
            learner = _learner(*values, device=device)
            for _ in range(2):
                learner[0].run(learner[1])
            pipe.send((sum(flat.nbytes for flat in _flats(learner[0])) / 1e6,))
        else:
            assert learner is not None
            whole = _seconds(partial(learner[0].run, learner[1]), device) / len(learner[1])
            pipe.send((whole, _seconds(partial(_reduce, learner[0]), device)))


def _flats(engine: Engine) -> list[torch.Tensor]:
    return [part.gradients.flat for part in engine.parts.values()]


def _reduce(engine: Engine) -> None:
    for flat in _flats(engine):
        engine.ranks.mean_(flat)


def _learner(benchmark: str, width: int, weighting: str, device: torch.device) -> tuple[Engine, TensorDict]:
    ranks = Ranks.here()
    cfg = compose([], [f"benchmark={benchmark}", f"network.width={width}", f"weighting={weighting}"])
    suite = build_suite(cfg)
    torch.manual_seed(0)
    algorithm = build_algorithm(cfg, suite).to(device)
    weightings = {name: each.to(device) for name, each in build_weightings(cfg, suite).items()}
    engine = Engine(algorithm, weightings, "auto", ranks=ranks)
    torch.manual_seed(ranks.rank)
    require(cfg.replay.per_task % ranks.size == 0, f"--ranks {ranks.size}: does not divide {cfg.replay.per_task}")
    tasks, part = len(suite.tasks), cfg.replay.per_task // ranks.size
    chunk = torch.stack([transitions(suite, tasks, part) for _ in range(UPDATES[device.type])])
    assert isinstance(chunk, TensorDict)
    return engine, chunk.to(device)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    dist.barrier()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(groups: dict[int, Group], benchmark: str, width: int, weighting: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each number of ranks."""
    size = {number: group.ask(benchmark, width, weighting)[0][0] for number, group in groups.items()}
    found: dict[int, list[tuple[float, ...]]] = {number: [] for number in groups}
    for _ in range(rounds):
        for number, group in groups.items():
            found[number].append(tuple(max(parts) for parts in zip(*group.ask(), strict=True)))
    first = next(iter(groups))
    rows = []
    for number, times in found.items():
        speedups = [alone[0] / each[0] for alone, each in zip(found[first], times, strict=True)]
        whole, reduce = (1000 * statistics.median(part) for part in zip(*times, strict=True))
        row = {"benchmark": benchmark, "width": width, "weighting": weighting, "ranks": number, "ms": round(whole, 2)}
        row |= {"speedup": round(statistics.median(speedups), 2), "all_reduce_ms": round(reduce, 2)}
        rows.append({**row, "gradients_mb": round(size[number], 1)})
    return rows


def main() -> int:
    """Print the rows, and write them to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpus = torch.cuda.device_count()
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2] if not gpus else [*range(1, gpus + 1)])
    parser.add_argument("--benchmarks", nargs="+", default=["mt10"])
    parser.add_argument("--widths", nargs="+", type=int, default=[128, 400, 1024])
    parser.add_argument("--weighting", default="mean")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    try:
        require(not gpus or max(args.ranks) <= gpus, f"--ranks {max(args.ranks)}: this machine has {gpus} GPUs")
    except ConfigError as error:
        parser.error(str(error))
    spin_briefly()
    groups = {number: Group(number, "cuda" if gpus else "cpu") for number in args.ranks}
    rows = []
    for benchmark in args.benchmarks:
        for width in args.widths:
            for row in measure(groups, benchmark, width, args.weighting, args.rounds):
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    for group in groups.values():
        group.close()
    machine = torch.cuda.get_device_name() if gpus else f"{os.cpu_count()} cores, {platform.machine()}"
    if args.out:
        command = shlex.join(["python", "-m", "benchmarks.ranks", *sys.argv[1:]])
        args.out.write_text(json.dumps({"command": command, "machine": machine, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
