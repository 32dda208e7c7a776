"""What the machine can do at best: physics, environments and pools without anything around them, matrix products,
memory.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from lit_mtrl.bench.bare import Cores, Pools
from lit_mtrl.bench.products import record, replay
from lit_mtrl.bench.timing import turns
from lit_mtrl.bench.update import learner
from lit_mtrl.bench.variants import backends, learner_device, with_env
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.runs.build import build_suite

STEPS = 10
COPIES = (1, 4)
SIDE = {"cpu": 2048, "cuda": 8192}
COPIED = 2**28
"""Bytes of the copy that memory bandwidth is measured with."""


def limits(cfg: DictConfig, seconds: float) -> list[dict[str, Any]]:
    """One row per limit: its name, the value and the unit."""
    return [*_stepping(cfg, seconds), *_computing(cfg, seconds)]


def _stepping(cfg: DictConfig, seconds: float) -> list[dict[str, Any]]:
    own = build_suite(cfg)
    suite = build_suite(with_env(cfg, "metaworld")) if isinstance(own, MetaWorld) else own
    workers, tasks = min(len(os.sched_getaffinity(0)), len(suite.tasks)), len(suite.tasks)
    with ExitStack() as stack:
        return _stepped(suite, workers, tasks, "envpool" in backends(cfg), seconds, stack)


def _stepped(
    suite: Suite, workers: int, tasks: int, envpool: bool, seconds: float, stack: ExitStack
) -> list[dict[str, Any]]:
    cores = Cores(suite, workers)
    stack.callback(cores.close)
    calls = {f"environment class, {workers} processes": (partial(cores.run, "environment", STEPS), tasks)}
    if isinstance(suite, MetaWorld):
        calls |= {f"5 mj_step + mj_forward, {workers} processes": (partial(cores.run, "physics", STEPS), tasks)}
    for n in COPIES if envpool else ():
        pools = Pools(suite.tasks, n, suite.horizon)
        stack.callback(pools.close)
        calls[f"EnvPool, {n} per task"] = partial(pools.step, STEPS), tasks * n
    times = turns({name: call for name, (call, _) in calls.items()}, seconds)
    return [_row(name, STEPS * calls[name][1] / statistics.median(t), "frames/s") for name, t in times.items()]


def _computing(cfg: DictConfig, seconds: float) -> list[dict[str, Any]]:
    device = learner_device(cfg)
    engine, chunk = learner(cfg, "eager", cfg.replay.per_task, updates=1)
    products = record(lambda: engine.update(chunk[0]))
    side = SIDE[device.type]
    calls: dict[str, Callable[[], object]] = {"products of an update": replay(products)}
    for name, dtype, tf32 in _precisions(device):
        a, b, out = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(3))
        calls[f"matrix product, {name}"] = partial(_multiply, a, b, out, tf32)
    source, target = (torch.ones(COPIED, device=device, dtype=torch.uint8) for _ in range(2))
    calls["memory copy"] = partial(target.copy_, source)
    times = {name: statistics.median(t) for name, t in turns(calls, seconds).items()}
    update = times.pop("products of an update")
    copied = times.pop("memory copy")
    return [
        *(_row(f"{name}, side {side}", 2 * side**3 / t / 1e9, "GFLOP/s") for name, t in times.items()),
        _row("products of an update, alone", 1000 * update, "ms"),
        _row("the same, as work per second", sum(p.flops for p in products) / update / 1e9, "GFLOP/s"),
        _row("memory, read + written by a copy", 2 * COPIED / copied / 1e9, "GB/s"),
    ]


def _precisions(device: torch.device) -> list[tuple[str, torch.dtype, bool]]:
    """Name, type of the operands, and whether float32 may be rounded to TF32."""
    more = [("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)] if device.type == "cuda" else []
    return [("fp32", torch.float32, False), *more]


def _multiply(a: Tensor, b: Tensor, out: Tensor, tf32: bool) -> None:
    with _rounding(tf32):
        torch.mm(a, b, out=out)


@contextmanager
def _rounding(tf32: bool) -> Iterator[None]:
    """Whether CUDA's products of float32 may be rounded to TF32, for a while."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def _row(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"limit": name, "value": value, "unit": unit}
