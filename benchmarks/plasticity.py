"""What the plasticity callback costs, as a share of the updates between two evaluations of ``mt10_mtmhsac`` and
``mt50_mtmhsac``.

One measurement (`lit_mtrl.callbacks.plasticity.Plasticity.measure`) and ``--updates`` updates are timed in turns on one
batch of random numbers; the share is the median measurement divided by the median update times the updates in an epoch.
Collection and evaluation, which a run also needs, would make the share smaller.

    python -m benchmarks.plasticity [--threads 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lit_mtrl.bench.update import transitions
from lit_mtrl.callbacks.plasticity import Plasticity
from lit_mtrl.config.compose import compose
from lit_mtrl.runs.build import build_algorithm, build_suite
from lit_mtrl.training.agent import Agent

CASES = [("mt10_mtmhsac", 400), ("mt10_mtmhsac", 1024), ("mt50_mtmhsac", 400)]


def seconds(call: Any) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cost(experiment: str, width: int, updates: int, rounds: int) -> dict[str, Any]:
    """Seconds of a measurement and of an update, and the share of an epoch's updates."""
    cfg = compose([experiment], [f"network.width={width}"])
    suite = build_suite(cfg)
    agent = Agent(build_algorithm(cfg, suite), list(suite.tasks))
    agent.configure_optimizers()
    assert agent.engine is not None
    batch = transitions(suite, len(suite.tasks), cfg.replay.per_task)
    engine, chunk = agent.engine, batch.expand(updates, *batch.shape)
    with tempfile.TemporaryDirectory() as folder:
        trainer: Any = SimpleNamespace(default_root_dir=folder, loggers=[])
        callback = Plasticity()
        callback.setup(trainer, agent, "fit")
        times = []
        for i in range(rounds + 1):
            pair = (
                seconds(lambda: callback.measure(trainer, agent, batch)),
                seconds(lambda: engine.run(chunk)) / updates,
            )
            if i:  # the first round warms both up
                times.append(pair)
        table = (Path(folder) / "plasticity.csv").read_text()
    assert table.count("\n") > rounds
    epoch = int(cfg.epoch_frames / len(suite.tasks) * cfg.collector.updates_per_step)
    measure, update = (statistics.median(t[i] for t in times) for i in (0, 1))
    found = {"experiment": experiment, "width": width, "measure_seconds": measure, "update_seconds": update}
    return {**found, "updates_per_epoch": epoch, "share": measure / (update * epoch)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = json.dumps([cost(*case, args.updates, args.rounds) for case in CASES], indent=2)
    print(report)
    if args.out:
        args.out.write_text(report + "\n")


if __name__ == "__main__":
    main()
