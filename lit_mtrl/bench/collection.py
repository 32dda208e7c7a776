"""Frames per second of collection with the policy acting: each engine and layout, beside the same environments stepped
bare.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig

from lit_mtrl.bench.bare import Cores
from lit_mtrl.bench.limits import COPIES, STEPS
from lit_mtrl.bench.timing import ratio, turns
from lit_mtrl.bench.variants import engines, with_engine
from lit_mtrl.data.collect import TaskCollector
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.benchmarks import MT50
from lit_mtrl.runs.build import build_algorithm, build_suite

RIVAL = "AsyncVectorEnv"


class Way(NamedTuple):
    """How environments are stepped; ``bare`` names what it is compared with."""

    name: str
    workers: int
    copies: int
    bare: str | None
    call: Callable[[], object]


def collection(cfg: DictConfig, seconds: float, compare: bool) -> list[dict[str, Any]]:
    """One row per engine, processes and environments per task; all take turns.

    ``of_bare``: the share of the frames per second of the same environments stepped bare. With ``compare``, gymnasium's
    AsyncVectorEnv over Meta-World's environments is stepped with random actions, and ``times_async`` is the rate
    against its.
    """
    with ExitStack() as stack:
        ways: list[Way] = []
        for engine in engines(cfg):
            ways += _ways(with_engine(cfg, engine), engine, stack)
        suite = build_suite(cfg)
        if compare and set(suite.tasks) <= set(MT50):
            ways.append(Way(RIVAL, len(suite.tasks), 1, None, _async(suite, stack)))
        calls = {_key(way): way.call for way in ways}
        times = turns(calls, seconds)
    frames = {_key(way): STEPS * way.copies * len(suite.tasks) for way in ways}
    times = {key: [t / frames[key] for t in each] for key, each in times.items()}
    rival = next((_key(way) for way in ways if way.name == RIVAL), None)
    rows = []
    for way in ways:
        key = _key(way)
        row = {"environments": way.name, "processes": way.workers, "per_task": way.copies}
        row |= {"frames_per_second": 1 / statistics.median(times[key])}
        row["of_bare"] = ratio(times, way.bare, key) if way.bare else None
        rows.append({**row, "times_async": ratio(times, rival, key)} if rival else row)
    return rows


def _ways(cfg: DictConfig, engine: str, stack: ExitStack) -> list[Way]:
    """The ways to collect with one engine, and it stepped bare; open until ``stack`` closes."""
    suite = build_suite(cfg)
    cores = min(len(os.sched_getaffinity(0)), len(suite.tasks))
    # One process has threads for all cores where the suite steps its environments together.
    together = suite.vector_class() is not None
    bare = [_bare(suite, engine, 1 if together else cores, n, stack) for n in COPIES]
    ways = []
    for copies, beside in zip(COPIES, bare, strict=True):
        for workers in sorted({1, cores}):
            call = collector(cfg, suite, workers, copies, stack)
            ways.append(Way(engine, workers, copies, _key(beside), call))
    return [*bare, *ways]


def _key(way: Way) -> str:
    return f"{way.name} {way.workers} {way.copies}"


def collector(cfg: DictConfig, suite: Suite, workers: int, copies: int, stack: ExitStack) -> Callable[[], object]:
    """A function that collects `STEPS` vector steps as `fit` does, the configured policy acting; it ends with
    ``stack``.
    """
    torch.manual_seed(0)
    policy = build_algorithm(cfg, suite).acting_policy()
    acting = TaskCollector(suite, policy, STEPS, copies, workers)
    stack.callback(acting.shutdown)
    acting.restart(0)
    acting.publish()
    return acting.collect


def _bare(suite: Suite, engine: str, workers: int, copies: int, stack: ExitStack) -> Way:
    cores = Cores(suite, workers, copies)
    stack.callback(cores.close)
    return Way(f"{engine}, bare", workers, copies, None, partial(cores.run, "environment", STEPS))


def _async(suite: Suite, stack: ExitStack) -> Callable[[], object]:
    import gymnasium
    import metaworld  # noqa: F401  (registers make_vec's names)

    names = [f"{task}-v3" for task in suite.tasks]
    envs = gymnasium.make_vec("Meta-World/custom-mt-envs", vector_strategy="async", envs_list=names, seed=1)
    stack.callback(envs.close)
    envs.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, len(names), 4)).astype(np.float32)

    def steps() -> None:
        for action in actions:
            envs.step(action)

    return steps
