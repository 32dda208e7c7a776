"""The configuration that is measured, with one group exchanged."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.folders import file_of
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.runs.build import build_suite


def engines(cfg: DictConfig) -> list[str]:
    """Values of ``env.engine`` that can step the configured tasks here; of a suite that has no engines its name."""
    suite = build_suite(cfg)
    if not isinstance(suite, MetaWorld):
        return [cfg.env._target_.split(".")[-2]]
    native = build_suite(with_engine(cfg, "native"))
    assert isinstance(native, MetaWorld)
    return ["native", "python"] if native.native() else ["python"]


def with_engine(cfg: DictConfig, engine: str) -> DictConfig:
    """``cfg`` with another engine, where it has one."""
    return _replaced(cfg, env={**cfg.env, "engine": engine}) if "engine" in cfg.env else cfg


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
