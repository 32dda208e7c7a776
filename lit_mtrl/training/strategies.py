"""Lightning strategies for runs with several ranks."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.signals import starting_processes
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.tables import flat

MEASURED = ("collector.policy_device",)
"""Keys that each rank may have found by itself; rank 0's count."""


PATIENCE = 12.0
"""Seconds that other ranks have to end by themselves: a little more than TorchRL gives collecting processes."""


class _Launcher(_SubprocessScriptLauncher):
    def _call_children_scripts(self) -> None:
        with starting_processes():
            super()._call_children_scripts()
        self.others = list(self.procs)


class RanksStrategy(DDPStrategy):
    """What both have in common. ``config``: nested mappings that must be the same on all ranks."""

    def __init__(self, config: Mapping[str, Any] = MappingProxyType({}), **options: Any):
        # A rank that ends is noticed at once; a long wait is for one that plays or saves.
        super().__init__(timeout=timedelta(hours=4), **options)
        self.config = config

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def watch_no_more(self) -> None:
        """Lightning kills this process within five seconds after another rank has ended badly; here it is ending
        itself, and may take longer.
        """
        if isinstance(self._launcher, _Launcher):
            self._launcher.procs.clear()

    def end_others(self, patience: float) -> None:
        """Wait ``patience`` seconds for the ranks that this process has started, if it has, and kill those that are
        left.
        """
        until = time.monotonic() + patience
        for process in getattr(self._launcher, "others", ()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
            process.wait()

    def compare_early(self) -> None:
        """Meet ranks that were started from outside, which exist already; as `setup_environment`."""
        if self.cluster_environment is not None and self.cluster_environment.creates_processes_externally:
            self.setup_environment()

    def setup_environment(self) -> None:
        """Meet the other ranks; raises `ConfigError` if they were started with another configuration."""
        met = dist.is_initialized()
        super().setup_environment()
        if not met:
            require_same(Ranks.here().gather(flat(dict(self.config))))


class FlatDDP(RanksStrategy):
    """``trainer.strategy=ddp``: the engine averages each objective's gradients by one all-reduce.

    DDP's own wrapper is left out. It reduces at every backward pass what its hooks have seen of the whole module, while
    an objective moves its own parameters only, and CUDA graphs cannot record the hooks.
    """

    def configure_ddp(self) -> None:
        """Give every rank what rank 0 has, once."""
        assert self.model is not None
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.data, 0)


class HookedDDP(RanksStrategy):
    """``trainer.strategy=ddp_find_unused_parameters_true``: PyTorch's DDP as Lightning wraps it, to compare with."""

    def __init__(self, config: Mapping[str, Any] = MappingProxyType({})):
        super().__init__(config, find_unused_parameters=True)


STRATEGIES = {"ddp": FlatDDP, "ddp_find_unused_parameters_true": HookedDDP}


def choose_strategy(name: str, several: bool, config: Mapping[str, Any]) -> Strategy | str:
    """What Lightning's trainer gets for ``trainer.strategy = name``; ``auto`` is ``ddp`` where there are ``several``
    devices. Their ranks compare ``config``.
    """
    require(name in ("auto", *STRATEGIES), unknown("trainer.strategy", name, ("auto", *STRATEGIES)))
    return STRATEGIES["ddp" if name == "auto" else name](config) if several else "auto"


def require_same(configs: list[dict[str, Any]]) -> None:
    """Raise `ConfigError` unless all ranks have the same configuration, ``configs[rank]`` by dotted key."""
    for rank, config in enumerate(configs):
        differ = sorted(k for k in {*configs[0], *config} if configs[0].get(k) != config.get(k) and k not in MEASURED)
        shown = ", ".join(f"{k} ({configs[0].get(k)} on rank 0, {config.get(k)} on rank {rank})" for k in differ)
        require(not differ, f"ranks have different configurations: {shown}; start all of them with the same command")
