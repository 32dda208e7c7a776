"""What the weightings of ``conf/weighting`` cost on the CPU, against ``mean``, for a multi-head network.

1. Updates: milliseconds per SAC update (`Engine.update`, random batch of Meta-World's sizes), and as a multiple of
   ``mean``. All weightings take turns, so that what else the machine does falls on all; medians are over the turns,
   that of the ratios over each turn's own.
2. Memory: MiB by which the resident memory of a fresh process peaks, in its first two updates, above what it holds
   before them: activations, gradients, Adam's moments and the libraries' pages that updates are the first to touch, not
   imports and parameters.

A weighting that needs losses above a floor has a row for the critic alone and one for both objectives. On MT10,
``separate`` is PCGrad from T separate backward passes, each of the whole batch with the graph kept: task gradients one
by one, held together. Its Gramians are first compared with those of ``pcgrad``; its projections are the cheap ones of
``pcgrad``, so that only how gradients are formed differs.

    python -m benchmarks.weightings [--benchmarks mt10 mt50] [--widths 400 1024] [--weightings NAME ...] [--out FILE]
    python -m benchmarks.weightings --memory-only --benchmarks mt50 --widths 4096 --weightings mean pcgrad
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from timeit import timeit
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from benchmarks.networks import HEAVY_SECONDS, machine, show
from lit_mtrl.bench.update import transitions
from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import groups
from lit_mtrl.runs.build import build_algorithm, build_suite, build_weightings
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.update import ObjectiveUpdate

SEPARATE = "separate"
UPDATES = 2  # the second has Adam's moments beside the activations


class Case(NamedTuple):
    """What a row is about."""

    benchmark: str
    width: int
    weighting: str
    objectives: str


class SeparateBackwards(ObjectiveUpdate):
    """Rows of the Jacobian from one backward pass each; no tape, and no further pass through the network."""

    def evaluate_with_gramian(self, batch: TensorDictBase, shared_only: bool = False) -> tuple[TensorDict, Tensor]:
        out, params = self.eager_loss(batch), self.objective.params
        losses = out["loss"]
        jacobian = torch.empty(len(losses), sum(p.numel() for p in params))
        for row, loss in zip(jacobian, losses, strict=True):
            grads = torch.autograd.grad(loss, params, retain_graph=True)
            torch.cat([grad.flatten() for grad in grads], out=row)
        # The same values, but linear in the parameters: the engine's own backward pass is then a product with the rows.
        moved = torch.cat([(p - p.detach()).flatten() for p in params])
        return out.set("loss", losses.detach() + jacobian @ moved), jacobian @ jacobian.t()


def cases(benchmark: str, width: int, weightings: Sequence[str]) -> list[Case]:
    """The rows for ``weightings``; the first is ``mean``, asked for or not."""
    rows = []
    for weighting in ["mean", *(name for name in weightings if name != "mean")]:
        cfg = compose([f"{benchmark}_mtmhsac"], [f"weighting={weighting}"])
        positive = build_weightings(cfg, build_suite(cfg))["critic"].floor is not None
        rows += [Case(benchmark, width, weighting, which) for which in (["critic"] if positive else []) + ["both"]]
    if benchmark == "mt10" and "pcgrad" in weightings:  # its time grows with T squared
        rows.append(Case(benchmark, width, SEPARATE, "both"))
    return rows


def prepare(case: Case, args: argparse.Namespace) -> tuple[Engine, TensorDict]:
    """The engine of a row, and a batch."""
    torch.manual_seed(0)
    name = "pcgrad" if case.weighting == SEPARATE else case.weighting
    key = "weighting" if case.objectives == "both" else f"weighting.{case.objectives}"
    cfg = compose([f"{case.benchmark}_mtmhsac"], [f"network.width={case.width}", f"{key}={name}"])
    suite = build_suite(cfg)
    engine = Engine(build_algorithm(cfg, suite), build_weightings(cfg, suite), cfg.engine.mode)
    if case.weighting == SEPARATE:
        engine.parts = {name: SeparateBackwards(**vars(part)) for name, part in engine.parts.items()}
    return engine, transitions(suite, len(suite.tasks), args.per_task)


def updates(rows: list[Case], args: argparse.Namespace) -> list[dict]:
    """Milliseconds and ratio to the first of each row; `AssertionError` if ``separate`` has other gradients."""
    prepared = {case: prepare(case, args) for case in rows}
    found = {}
    for case, (engine, batch) in prepared.items():
        if case.weighting in ("pcgrad", SEPARATE):
            torch.manual_seed(1)
            found[case.weighting] = engine.gramians(batch)
    if SEPARATE in found:
        for name, theirs in found[SEPARATE].items():
            assert (found["pcgrad"][name] - theirs).norm() <= 1e-4 * theirs.norm(), f"{name}: the two Gramians differ"
    return turns([partial(engine.update, batch) for engine, batch in prepared.values()], args)


def turns(calls: Sequence[Callable[[], object]], args: argparse.Namespace) -> list[dict]:
    """`benchmarks.networks.turns` for any number of calls, each against the first; heavy goes by the mean call."""
    times, repeats = [], args.repeats
    while len(times) <= repeats:
        times.append([1000 * timeit(call, number=1) for call in calls])
        if len(times) == 1 and 2 * statistics.mean(times[0]) > 1000 * HEAVY_SECONDS:
            repeats = min(args.repeats, args.heavy_repeats)
    counted = times[1:]
    rows = []
    for each in zip(*counted, strict=True):
        ratios = [ms / turn[0] for ms, turn in zip(each, counted, strict=True)]
        rows.append({"ms": statistics.median(each), "ratio": statistics.median(ratios), "repeats": repeats})
    return rows


def memory(case: Case, args: argparse.Namespace) -> dict:
    """Peak of the resident memory above its present size; for a process that does nothing else."""
    torch.set_num_threads(args.threads)
    engine, batch = prepare(case, args)
    # `ru_maxrss` would keep the peak of what came before, even that of the process which launched this one.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in range(UPDATES):
        engine.update(batch)
    return {"peak_mib": resident("VmHWM") - before}


def resident(key: str) -> float:
    """MiB of this process: at present (``VmRSS``), at the peak (``VmHWM``)."""
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Measure, print a table, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = groups()["weighting"]
    parser.add_argument("--benchmarks", nargs="+", choices=["mt10", "mt50"], default=["mt10", "mt50"])
    parser.add_argument("--widths", nargs="+", type=int, default=[400, 1024])
    parser.add_argument("--weightings", nargs="+", choices=names, default=names, help="mean is always measured")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--heavy-repeats", type=int, default=5, help=f"where two updates take over {HEAVY_SECONDS:.0f} s"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-task", type=int, default=128, help="samples per task in a batch; small for a quick try")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    # For the fresh processes: large blocks return to the system when freed, else the peak depends on chance.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    torch.set_num_threads(args.threads)
    report: dict = {"machine": machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    report |= {"command": shlex.join(["python", "-m", "benchmarks.weightings", *sys.argv[1:]]), "rows": []}
    for benchmark, width in itertools.product(args.benchmarks, args.widths):
        rows = cases(benchmark, width, args.weightings)
        timed = [{} for _ in rows] if args.memory_only else updates(rows, args)
        for case, row in zip(rows, timed, strict=True):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                row = {**case._asdict(), **row, **fresh.submit(memory, case, args).result()}
            show(row, header=not report["rows"])
            report["rows"].append(row)
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
