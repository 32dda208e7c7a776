"""From a configuration to the parts of a run: each function builds one part, and gets those it needs."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.config.instantiate import make
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import cores
from lit_mtrl.data.module import DataModule
from lit_mtrl.data.placement import require_free_memory, transition_bytes
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.benchmarks import task_names
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")


def build_suite(cfg: DictConfig) -> Suite:
    """The environment suite of ``benchmark`` and ``env``."""
    return make(cfg.env, Suite, "env", skip=("copies", "stagger"), tasks=task_names(cfg.benchmark.tasks), seed=cfg.seed)


def build_algorithm(cfg: DictConfig, suite: Suite) -> Algorithm:
    """The algorithm with freshly initialised networks; seed PyTorch first."""
    parts: Any = {part: _factory(cfg[part], cfg.network, part) for part in ("actor", "critic")}
    return make(cfg.algo, Algorithm, "algo", **parts, **_sizes(suite))


def build_sizes(cfg: DictConfig, suite: Suite) -> Algorithm | None:
    """The algorithm on PyTorch's meta device: sizes alone, in no time, and without a random number; None of a class
    that needs values.

    `ConfigError` for sizes that no tensor can have.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return build_algorithm(cfg, suite)
    except RuntimeError as error:
        if "overflow" not in str(error):
            return None
        reason = str(error).splitlines()[0]
        raise ConfigError(f"network.*: no tensor can be so large ({reason}); choose smaller sizes") from error


def require_memory(cfg: DictConfig, suite: Suite, learner: torch.device) -> None:
    """`ConfigError` if networks, gradients and Adam's moments, or the batches of an iteration, are larger than what
    ``learner`` has free.
    """
    algorithm = build_sizes(cfg, suite)
    if algorithm is None:
        return
    tensors = [*algorithm.parameters(), *algorithm.buffers()]
    size = sum(t.numel() * t.element_size() * (4 if t.requires_grad else 1) for t in tensors)
    require_free_memory("network.*, critic.size", "networks, gradients and optimizers", size, learner)
    steps, tasks = cfg.collector.steps, len(suite.tasks)
    drawn = cfg.collector.updates_per_step * steps * tasks * cfg.replay.per_task
    require_free_memory(
        "collector.steps, collector.updates_per_step, replay.per_task",
        "the batches of an iteration",
        int(drawn * transition_bytes(suite)),
        learner,
    )
    collected = 2 * steps * tasks * cfg.env.copies * transition_bytes(suite)
    require_free_memory("collector.steps, env.copies", "the steps of an iteration", collected, torch.device("cpu"))


def build_weightings(cfg: DictConfig, suite: Suite) -> dict[str, Weighting]:
    """The weighting of each objective that ``weighting`` names."""
    built = {}
    for name, part in cfg.weighting.items():
        try:
            built[name] = make(part, Weighting, f"weighting.{name}", num_tasks=len(suite.tasks))
        except ConfigError as error:
            raise ConfigError(f"weighting.{name}.{str(error).removeprefix(f'weighting.{name}.')}") from error
        if len(suite.tasks) == 1 and not isinstance(built[name], Mean):
            log.warning("weighting.%s=%s: there is one task, nothing to weigh it against; use mean", name, part.name)
    return built


def build_part(cfg: DictConfig, part: str, suite: Suite) -> torch.nn.Module:
    """The ``actor`` or the ``critic`` alone."""
    return _factory(cfg[part], cfg.network, part)(**_sizes(suite))


def build_data(cfg: DictConfig, suite: Suite, algorithm: Algorithm, rank: int = 0, ranks: int = 1) -> DataModule:
    """Collector, replay and budget, for one of the run's ranks."""
    collector: Any = {**cfg.collector, "workers": cfg.collector.workers or default_workers(suite, ranks)}
    budget: Any = dict(seed=cfg.seed, frames=cfg.frames, epoch_frames=cfg.epoch_frames)
    environments: Any = dict(copies=cfg.env.copies, stagger=cfg.env.stagger)
    return DataModule(suite, algorithm, **environments, **budget, **collector, **cfg.replay, rank=rank, ranks=ranks)


def default_workers(suite: Suite, ranks: int = 1) -> int:
    """One collecting process per core, shared by ``ranks``, but no more than tasks; one if the environments have
    threads of their own.

    A run writes it into its configuration: noise depends on it.
    """
    return 1 if suite.threaded else min(cores(ranks), len(suite.tasks))


def build_callbacks(cfg: DictConfig) -> list[lightning.Callback]:
    """The evaluation, then the callbacks of ``callbacks``, in the order in which Lightning calls them."""
    callbacks = [make(value, lightning.Callback, f"callbacks.{name}") for name, value in cfg.callbacks.items()]
    return [make(cfg.eval, lightning.Callback, "eval"), *callbacks]


def _sizes(suite: Suite) -> dict[str, Any]:
    return dict(obs_dim=suite.obs_dim, action_dim=suite.action_dim, num_tasks=len(suite.tasks))


def _factory(part: DictConfig, network: DictConfig, key: str) -> partial:
    own = OmegaConf.merge(network, part.network)
    assert isinstance(own, DictConfig)
    require(own.get("match") is None, "network.match: is resolved by fit and params only; give network.width here")
    net = partial(make, own, torch.nn.Module, "network", skip=("match",))
    return partial(make, part, torch.nn.Module, key, skip=("network",), network=net)
