"""What the networks of ``conf/network`` cost on the CPU, each figure against another of the same run.

1. Updates: milliseconds per SAC update (`Engine.update`, random batch of Meta-World's sizes) of every network at its
   paper's size, against a multi-head network whose actor has as many parameters (``network.match``).
2. Forward and backward: milliseconds of one actor, against a straightforward version with the same parameters. For PaCo
   that is all K parameter sets evaluated on the batch, layer by layer, and their outputs mixed by w; for the others a
   Python loop over experts or modules. Outputs and gradients of both are first compared, in double precision.

What is compared takes turns, and medians are over the turns, so that what else the machine does falls on both.

    python -m benchmarks.networks [--benchmarks mt10 mt50] [--networks NAME ...] [--repeats 20] [--out FILE]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import platform
import re
import resource
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from timeit import timeit

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from lit_mtrl.algos.sac import SAC
from lit_mtrl.bench.update import transitions
from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import groups
from lit_mtrl.nets.base import param_count
from lit_mtrl.nets.care import CARE
from lit_mtrl.nets.layers import ExpertDense, mix
from lit_mtrl.nets.moore import MOORE
from lit_mtrl.nets.paco import ComposedDense, PaCo
from lit_mtrl.nets.soft_modules import SoftModules
from lit_mtrl.runs.build import build_algorithm, build_part, build_suite
from lit_mtrl.runs.match import match_width
from lit_mtrl.training.engine import Engine

# The papers' sizes, as overrides of ``network``; what follows a dash tells two rows of one network apart.
SIZES = {
    "soft_modules": {"mt10": "depth=2 modules=2 width=256", "mt50": "depth=4 modules=4 width=256"},
    "paco-mclean": {"mt10": "variant=mclean parameter_sets=5", "mt50": "variant=mclean parameter_sets=20"},
    "paco-original": {"mt10": "variant=original parameter_sets=5", "mt50": "variant=original parameter_sets=20"},
    "moore": {"mt10": "experts=4", "mt50": "experts=6"},
    "care": {"mt10": "experts=6", "mt50": "experts=10"},
}
COMPARED = ("soft_modules", "paco-mclean", "moore", "care")
HEAVY_SECONDS = 5.0


def cases() -> list[str]:
    """Rows of the tables: the networks of ``conf/network`` that have no entry in `SIZES`, with their defaults, and
    those in it.
    """
    sized = {case.split("-")[0] for case in SIZES}
    return [name for name in groups()["network"] if name not in sized] + list(SIZES)


def config(benchmark: str, case: str, args: argparse.Namespace) -> DictConfig:
    """The default protocol of ``benchmark`` with the network of ``case``."""
    values = SIZES.get(case, {}).get(benchmark, "").split() + ([f"width={args.width}"] if args.width else [])
    network = case.split("-")[0]
    return compose([f"{benchmark}_mtmhsac"], [f"network={network}", *(f"network.{value}" for value in values)])


def turns(calls: Sequence[Callable[[], object]], args: argparse.Namespace) -> tuple[list[float], float, int]:
    """Call both in turns: the median milliseconds of each, the median of the turns' ratios, first to second, and the
    turns counted.

    The first turn warms up; if it took more than `HEAVY_SECONDS`, ``args.heavy_repeats`` follow instead of
    ``args.repeats``.
    """
    times, repeats = [], args.repeats
    while len(times) <= repeats:
        times.append([1000 * timeit(call, number=1) for call in calls])
        if len(times) == 1 and sum(times[0]) > 1000 * HEAVY_SECONDS:
            repeats = min(args.repeats, args.heavy_repeats)
    counted = times[1:]
    medians = [statistics.median(each) for each in zip(*counted, strict=True)]
    return medians, statistics.median(a / b for a, b in counted), repeats


def update(benchmark: str, case: str, args: argparse.Namespace) -> dict:
    """One row of the first table. What actor and critics share counts for both."""
    torch.manual_seed(0)
    cfg = config(benchmark, case, args)
    suite = build_suite(cfg)
    algorithm = build_algorithm(cfg, suite)
    count = param_count(algorithm.policy)
    found = match_width(compose([f"{benchmark}_mtmhsac"], ["network=multi_head", f"network.match={count}"]))
    assert found is not None
    other = compose([f"{benchmark}_mtmhsac"], ["network=multi_head", f"network.width={found[0]}"])
    matched = build_algorithm(other, suite)
    assert isinstance(algorithm, SAC) and isinstance(matched, SAC)
    batch = transitions(suite, len(suite.tasks), args.per_task)
    calls = [partial(Engine(each).update, batch) for each in (algorithm, matched)]
    (ms, matched_ms), ratio, repeats = turns(calls, args)
    row = {
        "benchmark": benchmark,
        "network": case,
        "actor_params": count,
        "critic_params": param_count(algorithm.critic),
    }
    row |= {"matched_width": other.network.width, "matched_actor": param_count(matched.policy)}
    row |= {"matched_critic": param_count(matched.critic), "ms": ms, "matched_ms": matched_ms}
    return {**row, "ratio": ratio, "repeats": repeats}


def forward_backward(benchmark: str, case: str, args: argparse.Namespace) -> dict:
    """One row of the second table; `AssertionError` if the two versions differ."""
    torch.manual_seed(0)
    cfg = config(benchmark, case, args)
    suite = build_suite(cfg)
    net = build_part(cfg, "actor", suite).net
    assert isinstance(net, nn.Module)
    double = copy.deepcopy(net).double()
    x = torch.randn(len(suite.tasks), 4, suite.obs_dim, dtype=torch.float64)
    for ours, theirs in zip(gradients(double, double, x), gradients(straightforward(double), double, x), strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm(), f"{benchmark} {case}: the two versions differ"
    x = torch.randn(len(suite.tasks), args.per_task, suite.obs_dim)
    calls = [partial(gradients, version, net, x) for version in (net, straightforward(net))]
    (ms, straight_ms), ratio, repeats = turns(calls, args)
    row = {"benchmark": benchmark, "network": case, "actor_params": param_count(net), "ms": ms}
    return {**row, "straightforward_ms": straight_ms, "speed_up": 1 / ratio, "repeats": repeats}


def gradients(version: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor) -> list[Tensor]:
    """The output for ``x [T, b, in]``, then the gradients of the sum of its squares for the parameters of ``net``."""
    y = version(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(net.parameters()))]


def straightforward(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same function of ``x [T, b, in]`` and of the same parameters, written plainly."""
    if isinstance(net, PaCo):
        return lambda x: paco_copies(net, x)
    if isinstance(net, SoftModules):
        return lambda x: soft_modules_loop(net, x)
    assert isinstance(net, MOORE | CARE)
    plain = copy.copy(net)  # all but the experts is the same
    plain._modules = {**net._modules, "experts": ExpertLoop(net.experts)}
    return plain


def paco_copies(net: PaCo, x: Tensor) -> Tensor:
    """Every layer of all K sets on the whole batch, ``[K, T b, out]``, then the sum weighted by each sample's w."""
    y = x.flatten(0, 1)
    w = net.w().repeat_interleave(x.shape[1], 0)  # [T b, K]
    assert isinstance(net.torso, nn.ModuleList)
    for layer in [*net.torso, net.head]:
        assert isinstance(layer, ComposedDense)
        y = mix(torch.baddbmm(layer.bias[:, None], y.expand(len(layer.weight), *y.shape), layer.weight), w)
        y = y if layer is net.head else F.relu(y)
    return y.view(*x.shape[:-1], -1)


class ExpertLoop(nn.Module):
    """The experts of `lit_mtrl.nets.layers.expert_mlp`, one after the other."""

    def __init__(self, experts: nn.Sequential):
        super().__init__()
        self.layers = nn.ModuleList(layer for layer in experts if isinstance(layer, ExpertDense))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for expert in zip(*(linears(layer) for layer in self.layers), strict=True):
            y = x
            for i, (weight, bias) in enumerate(expert):
                y = F.linear(F.relu(y) if i else y, weight, bias)
            outputs.append(y)
        return torch.stack(outputs)


def soft_modules_loop(net: SoftModules, x: Tensor) -> Tensor:
    """Module after module, each on its own weighted sum, as in the authors' code (``variant=official``)."""
    assert net.head is not None
    hidden, probabilities = net._route(x, None)
    values = []
    for i, layer in enumerate([*net.layers, net.last]):
        modules = linears(layer)
        inputs = weighted_sums(values, probabilities[i - 1]) if i else [F.relu(hidden)] * len(modules)
        values = [F.linear(y, *module) for y, module in zip(inputs, modules, strict=True)]
    (y,) = weighted_sums(values, probabilities[-1])
    return net.head(y).view(*x.shape[:-1], -1)


def weighted_sums(values: list[Tensor], p: Tensor) -> list[Tensor]:
    """K values ``[n, d]`` and probabilities ``[n, m K]`` to m sums ``[n, d]``, after a ReLU."""
    stacked = torch.stack(values, 1)  # [n, K, d]
    return [F.relu((stacked * row.unsqueeze(-1)).sum(1)) for row in p.split(len(values), 1)]


def linears(layer: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weight ``[out, in]`` and bias of each expert; one stack is all that this adds to the backward pass."""
    assert isinstance(layer, ExpertDense)
    return [(weight.t(), bias) for weight, bias in zip(layer.weight.unbind(0), layer.bias.unbind(0), strict=True)]


def machine() -> dict:
    """Processor, and the cores that this process may use."""
    name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"processor": name[1] if name else platform.machine(), "cores": len(os.sched_getaffinity(0))}


def show(row: dict, header: bool) -> None:
    """One line of a table."""
    widths = [max(len(key), 13) for key in row]
    cells = [v if isinstance(v, str) else f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" for v in row.values()]
    for line in [list(row), cells] if header else [cells]:
        print(*(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)), flush=True)


def main() -> None:
    """Measure, print a table, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", nargs="+", choices=["mt10", "mt50"], default=["mt10", "mt50"])
    parser.add_argument("--networks", nargs="+", choices=cases(), default=cases())
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--heavy-repeats", type=int, default=5, help=f"where a turn takes over {HEAVY_SECONDS:.0f} s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-task", type=int, default=128, help="samples per task in a batch; small for a quick try")
    parser.add_argument("--width", type=int, help="of every network, for a quick try; the default is each one's own")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report: dict = {"machine": machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    report["command"] = shlex.join(["python", "-m", "benchmarks.networks", *sys.argv[1:]])
    compared = [case for case in args.networks if case in COMPARED]
    for part, measure, chosen in ("updates", update, args.networks), ("forward_backward", forward_backward, compared):
        print(f"\n{part}")
        report[part] = []
        for benchmark, case in itertools.product(args.benchmarks, chosen):
            row = measure(benchmark, case, args)
            show(row, header=not report[part])
            report[part].append(row)
    report["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory {report['peak_memory_gib']:.1f} GiB")
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
