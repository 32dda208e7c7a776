"""From a configuration to the parts of a run: each function builds one part, and gets those it needs."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.config.contract import made_by, parameters
from lit_mtrl.config.instantiate import find_class, make
from lit_mtrl.core.errors import PAGE, ConfigError, require
from lit_mtrl.core.processes import cores
from lit_mtrl.core.suggest import nearest
from lit_mtrl.data.buffer import Buffer
from lit_mtrl.data.module import DataModule
from lit_mtrl.data.placement import require_free_memory, transition_bytes
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.benchmarks import task_names
from lit_mtrl.nets.base import Network
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")


def build_suite(cfg: DictConfig, ranks: int = 1) -> Suite:
    """The environment suite of ``benchmark`` and ``env``, for one of the run's ranks."""
    suite = make(cfg.env, Suite, "env", tasks=task_names(cfg.benchmark.tasks), seed=cfg.seed)
    suite.ranks = ranks
    return suite


def build_algorithm(cfg: DictConfig, suite: Suite) -> Algorithm:
    """The algorithm with freshly initialised networks; seed PyTorch first."""
    parts: Any = {part: _factory(cfg, part) for part in algorithm_class(cfg).parts}
    return make(cfg.algo, Algorithm, "algo", **parts, **_sizes(suite), **_own_actions(suite))


def algorithm_class(cfg: DictConfig) -> type[Algorithm]:
    """The class that ``algo`` names."""
    return find_class(cfg.algo._target_, Algorithm, f"algo._target_={cfg.algo._target_}")


def build_network(cfg: DictConfig, *, in_dim: int, out_dim: int, num_tasks: int, **more: Any) -> torch.nn.Module:
    """A network of ``network``. On the meta device, where that costs nothing, it is called once: `ConfigError` unless
    it gives ``[T, b, out_dim]`` for ``[T, b, in_dim]``.
    """
    sizes = dict(in_dim=in_dim, out_dim=out_dim, num_tasks=num_tasks)
    net = make(cfg, Network, "network", skip=("match",), **sizes, **more)
    if torch.empty(0).device.type == "meta":
        x = torch.zeros(num_tasks, 3, in_dim)
        try:
            y = net(x)
        except Exception:  # some networks need values; what fails in earnest fails again
            return net
        if getattr(y, "shape", None) != (num_tasks, 3, out_dim):
            gave = list(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            asked = f"it must give {[num_tasks, 3, out_dim]}, [T, b, out_dim]; see {PAGE}"
            raise ConfigError(f"network._target_={cfg._target_}: forward gives {gave} for x {list(x.shape)}; {asked}")
    return net


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
    steps, copies, transition = cfg.collector.steps, cfg.collector.copies, transition_bytes(suite, algorithm.stored)
    buffer = build_buffer(cfg, suite)
    updates = buffer.updates(steps, copies, cfg.collector.updates_per_step)
    keys = "collector.steps, collector.updates_per_step, replay.per_task"
    drawn = updates * len(suite.tasks) * (buffer.per_task or 0) * transition
    require_free_memory(keys, "the batches of an iteration", drawn, learner)
    collected = 2 * steps * copies * len(suite.tasks) * transition
    keys = "collector.steps, collector.copies"
    require_free_memory(keys, "the steps of an iteration", collected, torch.device("cpu"))


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
    """One of the algorithm's parts alone, such as its actor, to be counted: it does not know which tasks have fewer
    actions.
    """
    return _factory(cfg, part)(**_sizes(suite))


def build_buffer(cfg: DictConfig, suite: Suite, rank: int = 0, ranks: int = 1) -> Buffer:
    """The buffer of ``replay``, for one of the run's ranks; it takes no memory yet."""
    return make(cfg.replay, Buffer, "replay", num_tasks=len(suite.tasks), seed=cfg.seed, rank=rank, ranks=ranks)


def build_data(cfg: DictConfig, suite: Suite, algorithm: Algorithm, rank: int = 0, ranks: int = 1) -> DataModule:
    """Collector, buffer and budget, for one of the run's ranks."""
    workers = cfg.collector.workers or default_workers(suite, ranks, cfg.collector.overlap)
    collector: Any = {**cfg.collector, "workers": workers}
    budget: Any = dict(seed=cfg.seed, frames=cfg.frames, epoch_frames=cfg.epoch_frames)
    buffer = build_buffer(cfg, suite, rank, ranks)
    return DataModule(suite, algorithm, buffer, **budget, **collector, rank=rank, ranks=ranks)


def default_workers(suite: Suite, ranks: int = 1, overlap: bool = False) -> int:
    """One collecting process per core, shared by ``ranks``, but no more than tasks; one where the suite steps its
    environments together, on threads, unless that is beside the updates, which need Python's lock as well.

    A run writes it into its configuration: noise depends on it.
    """
    together = suite.vector_class() is not None
    return 1 if together and not overlap else min(cores(ranks), len(suite.tasks))


def build_callbacks(cfg: DictConfig) -> list[lightning.Callback]:
    """The evaluation, then the callbacks of ``callbacks``, in the order in which Lightning calls them."""
    for name, value in cfg.callbacks.items():
        chosen = "_target_" in value
        require(
            chosen, f"callbacks.{name}: no callback that was chosen has this name; choose it: callbacks=[default,...]"
        )
    callbacks = [make(value, lightning.Callback, f"callbacks.{name}") for name, value in cfg.callbacks.items()]
    for name, callback in zip(cfg.callbacks, callbacks, strict=True):
        _require_hooks(type(callback), f"callbacks.{name}._target_={cfg.callbacks[name]._target_}")
    return [make(cfg.eval, lightning.Callback, "eval"), *callbacks]


def _require_hooks(callback: type, where: str) -> None:
    """`ConfigError` for a method that is named like a hook and is none: nobody would call it."""
    hooks = [name for name in dir(lightning.Callback) if name.startswith("on_")]
    for name in dir(callback):
        if name.startswith("on_") and name not in hooks:
            near = nearest(name, hooks)
            raise ConfigError(f"{where}: {name} is no hook of Lightning" + (f"; did you mean {near}?" if near else ""))


def _sizes(suite: Suite) -> dict[str, Any]:
    return dict(obs_dim=suite.obs_dim, action_dim=suite.action_dim, num_tasks=len(suite.tasks))


def _own_actions(suite: Suite) -> dict[str, Any]:
    """``action_dims``, each task's own number of actions, where tasks differ; nothing where they do not."""
    dims = list(suite.action_dims)
    return {} if set(dims) == {suite.action_dim} else {"action_dims": dims}


def _factory(cfg: DictConfig, part: str) -> partial:
    """What makes one of an algorithm's parts, called with the sizes; its network is the run's, but for its own keys."""
    require(part in cfg, f"algo={cfg.algo.name}: is built from a '{part}', and none is chosen; add it to its defaults")
    takes = parameters(algorithm_class(cfg))
    base = made_by(takes[part], torch.nn.Module) if part in takes else torch.nn.Module
    if "network" not in cfg[part]:
        return partial(make, cfg[part], base, part)
    own = OmegaConf.merge(cfg.network, cfg[part].network)
    assert isinstance(own, DictConfig)
    require(own.get("match") is None, "network.match: is resolved by fit and params only; give network.width here")
    net = partial(build_network, own)
    return partial(make, cfg[part], base, part, skip=("network",), network=net)
