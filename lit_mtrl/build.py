"""The composition root: from a configuration to the objects of a run."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.agent import Agent
from lit_mtrl.algos.base import Algorithm
from lit_mtrl.data.module import DataModule
from lit_mtrl.envs.base import Suite
from lit_mtrl.logger import CSVLogger
from lit_mtrl.spec import BENCHMARKS


def build_suite(cfg: DictConfig) -> Suite:
    """The environment suite of ``benchmark`` and ``env``."""
    tasks = cfg.benchmark.tasks
    tasks = BENCHMARKS[tasks] if isinstance(tasks, str) else list(tasks)
    return make(cfg.env, skip=("copies",), tasks=tasks, seed=cfg.seed)


def build_algorithm(cfg: DictConfig, suite: Suite) -> Algorithm:
    """The algorithm with freshly initialised networks; seed PyTorch first."""
    sizes = dict(obs_dim=suite.obs_dim, action_dim=suite.action_dim, num_tasks=len(suite.tasks))
    factories = {part: _factory(cfg[part], cfg.network) for part in ("actor", "critic")}
    return make(cfg.algo, **factories, **sizes)


def build(cfg: DictConfig) -> tuple[Agent, DataModule, lightning.Trainer]:
    """Agent, data module and trainer of a run."""
    lightning.seed_everything(cfg.seed, verbose=False)
    suite = build_suite(cfg)
    algorithm = build_algorithm(cfg, suite)
    weightings = {name: make(value) for name, value in cfg.weighting.items() if name != "name"}
    agent = Agent(
        algorithm,
        list(suite.tasks),
        weightings=weightings,
        engine=cfg.engine.mode,
        log_frames=cfg.logger.log_frames,
        config=plain(cfg),
    )
    workers = cfg.collector.workers or min(len(os.sched_getaffinity(0)), len(suite.tasks))
    collector: Any = {**cfg.collector, "workers": workers}
    data = DataModule(
        suite,
        algorithm,
        seed=cfg.seed,
        frames=cfg.frames,
        epoch_frames=cfg.epoch_frames,
        copies=cfg.env.copies,
        **collector,
        **cfg.replay,
    )
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    trainer = lightning.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        max_epochs=data.epochs,
        logger=[CSVLogger(cfg.output_dir)],
        callbacks=[make(value) for value in cfg.callbacks.values()],
        default_root_dir=cfg.output_dir,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    return agent, data, trainer


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dicts, lists and scalars."""
    out = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(out, dict)
    return {str(key): value for key, value in out.items()}


def save_config(cfg: DictConfig) -> None:
    """Write the resolved ``config.yaml`` into the run's folder."""
    folder = Path(cfg.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)


def make(cfg: DictConfig, skip: tuple[str, ...] = (), **more: Any) -> Any:
    """Call the ``_target_`` of a group with its values (less ``name`` and what ``skip`` names) and ``more``."""
    values = plain(cfg)
    target = get_object(values.pop("_target_"))
    return target(**{k: v for k, v in values.items() if k not in ("name", *skip)}, **more)


def _factory(part: DictConfig, network: DictConfig) -> partial:
    own = OmegaConf.merge(network, part.network)
    assert isinstance(own, DictConfig)
    return partial(make, part, skip=("network",), network=partial(make, own))
