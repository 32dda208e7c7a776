"""Milliseconds of an update: every network, engine mode and batch, against the update's matrix products alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDict

from lit_mtrl.bench.products import record, replay
from lit_mtrl.bench.timing import ratio, turns
from lit_mtrl.bench.variants import learner_device, with_network
from lit_mtrl.core.keys import ACTION, NEXT_OBS, OBS, REWARD, TERMINATED
from lit_mtrl.envs.base import Suite
from lit_mtrl.runs.build import build_algorithm, build_suite, build_weightings
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.modes import MODES

UPDATES = {"cpu": 2, "cuda": 10}
"""Of the chunk that the engine gets: more where an update is short."""
ALONE = "products alone"


def update(cfg: DictConfig, seconds: float, networks: Sequence[str], every_mode: bool) -> list[dict[str, Any]]:
    """One row per network, mode and batch.

    The configured network is measured in every mode of this machine, with the configured samples per task and with
    twice as many; the others in ``eager`` alone, or as the configured one if ``every_mode``.
    """
    rows = []
    for name in networks:
        full = every_mode or name == cfg.network.name
        for per_task in (cfg.replay.per_task, 2 * cfg.replay.per_task)[: 1 + full]:
            modes = available_modes(learner_device(cfg)) if full else ["eager"]
            rows += _network(with_network(cfg, name), modes, per_task, seconds)
    return rows


def available_modes(device: torch.device) -> list[str]:
    """Modes of the engine that ``device`` can run."""
    return [mode for mode in MODES if "cudagraph" not in mode or device.type == "cuda"]


def _network(cfg: DictConfig, modes: Sequence[str], per_task: int, seconds: float) -> list[dict[str, Any]]:
    torch._dynamo.reset()  # it compiles a function eight times at most, and a loss is one function for all networks
    updates = UPDATES[learner_device(cfg).type]
    eager, chunk = learner(cfg, "eager", per_task, updates)
    products = record(lambda: eager.update(chunk[0]))
    calls: dict[str, Callable[[], object]] = {ALONE: replay(products)}
    for mode in modes:
        engine = eager if mode == "eager" else learner(cfg, mode, per_task, updates)[0]
        calls[mode] = partial(engine.run, chunk)
    times = turns(calls, seconds)
    times = {name: [t / (1 if name == ALONE else updates) for t in each] for name, each in times.items()}
    flops, alone = sum(p.flops for p in products), statistics.median(times[ALONE])
    rows = []
    for mode in modes:
        each = statistics.median(times[mode])
        row = {"network": cfg.network.name, "mode": mode, "per_task": per_task, "update_ms": 1000 * each}
        row |= {"products_ms": 1000 * alone, "times_products": ratio(times, mode, ALONE)}
        rows.append({**row, "gflop": flops / 1e9, "gflop_per_second": flops / each / 1e9})
    return rows


def learner(cfg: DictConfig, mode: str, per_task: int, updates: int) -> tuple[Engine, TensorDict]:
    """An engine as `fit` would build it, in ``mode``, and a random chunk ``[updates, T, per_task]``, both on the
    learner's device.
    """
    torch.manual_seed(0)
    suite, device = build_suite(cfg), learner_device(cfg)
    algorithm = build_algorithm(cfg, suite).to(device)
    weightings = {name: weighting.to(device) for name, weighting in build_weightings(cfg, suite).items()}
    chunk = transitions(suite, updates, len(suite.tasks), per_task).to(device)
    return Engine(algorithm, weightings, mode, cfg.engine.precision), chunk


def transitions(suite: Suite, *shape: int) -> TensorDict:
    """Random ones of this shape, with rewards in Meta-World's range, 0 to 10."""
    values = {
        OBS: torch.randn(*shape, suite.obs_dim),
        ACTION: torch.rand(*shape, suite.action_dim) * 2 - 1,
        NEXT_OBS: torch.randn(*shape, suite.obs_dim),
        REWARD: torch.rand(*shape, 1) * 10,
        TERMINATED: torch.zeros(*shape, 1, dtype=torch.bool),
    }
    return TensorDict(values, batch_size=shape)  # pyright: ignore[reportArgumentType]
