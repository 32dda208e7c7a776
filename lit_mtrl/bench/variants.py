"""The configuration that is measured, with one group exchanged."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.folders import file_of

BACKENDS = ("metaworld", "envpool")


def backends(cfg: DictConfig) -> list[str]:
    """Choices of ``env`` that can step the configured tasks here; a suite that is not Meta-World's has its own
    alone.
    """
    own = cfg.env._target_.split(".")[-2]
    return [name for name in BACKENDS if available(name)] if own in BACKENDS else [own]


def available(backend: str) -> bool:
    """Whether what ``env=<backend>`` needs is installed."""
    return backend != "envpool" or find_spec("envpool") is not None


def with_env(cfg: DictConfig, backend: str) -> DictConfig:
    """``cfg`` on another backend, with what both know (horizon, goals, rewards, ...) as configured."""
    if cfg.env._target_.split(".")[-2] == backend:
        return cfg
    other = _group("env", backend)
    same = {k: v for k, v in cfg.env.items() if k in other and k != "_target_"}
    return _replaced(cfg, env=OmegaConf.merge(other, same))


def with_network(cfg: DictConfig, name: str) -> DictConfig:
    """``cfg`` with another network, at that network's own defaults."""
    if cfg.network.name == name:
        return cfg
    bare = {part: {**cfg[part], "network": {}} for part in ("actor", "critic")}
    return _replaced(cfg, network=_group("network", name), **bare)


def learner_device(cfg: DictConfig) -> torch.device:
    """Where `fit` would put the learner."""
    wanted = cfg.trainer.accelerator in ("auto", "gpu", "cuda")
    return torch.device("cuda", 0) if wanted and torch.cuda.is_available() else torch.device("cpu")


def _group(group: str, name: str) -> DictConfig:
    found = OmegaConf.load(file_of(group, name))
    assert isinstance(found, DictConfig)
    return found


def _replaced(cfg: DictConfig, **groups: Any) -> DictConfig:
    out = OmegaConf.create({**cfg, **groups})
    return DictConfig(OmegaConf.to_container(out, resolve=True))
