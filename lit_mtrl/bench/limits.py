"""What the machine can do at best: physics and environments without anything around them, matrix products, memory."""

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

from lit_mtrl.bench.bare import Cores
from lit_mtrl.bench.products import record, replay
from lit_mtrl.bench.timing import turns
from lit_mtrl.bench.update import learner
from lit_mtrl.bench.variants import engines, learner_device, with_engine
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
    with ExitStack() as stack:
        calls: dict[str, tuple[Callable[[], object], int]] = {}
        for engine in engines(cfg):
            calls |= _stepped(build_suite(with_engine(cfg, engine)), engine, stack)
        times = turns({name: call for name, (call, _) in calls.items()}, seconds)
    return [_row(name, STEPS * calls[name][1] / statistics.median(t), "frames/s") for name, t in times.items()]


def _stepped(suite: Suite, engine: str, stack: ExitStack) -> dict[str, tuple[Callable[[], object], int]]:
    """What steps the environments bare: a function that makes `STEPS` vector steps, and environments."""
    tasks, calls = len(suite.tasks), {}
    workers = min(len(os.sched_getaffinity(0)), tasks)
    if suite.vector_class() is not None:
        for n in COPIES:
            cores = Cores(suite, 1, n)
            stack.callback(cores.close)
            calls[f"{engine} step, {n} per task, threads"] = partial(cores.run, "environment", STEPS), tasks * n
        return calls
    cores = Cores(suite, workers)
    stack.callback(cores.close)
    calls[f"{engine} step, {workers} processes"] = partial(cores.run, "environment", STEPS), tasks
    if isinstance(suite, MetaWorld):
        calls[f"5 mj_step + mj_forward, {workers} processes"] = partial(cores.run, "physics", STEPS), tasks
    return calls


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
