"""The composition root: from a configuration to the objects of a run."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from lit_mtrl import __version__
from lit_mtrl.agent import Agent
from lit_mtrl.algos.base import Algorithm
from lit_mtrl.checkpoint import find_sidecar
from lit_mtrl.data.module import DataModule
from lit_mtrl.envs.base import Suite
from lit_mtrl.execution import resolve_mode
from lit_mtrl.folder import LOCK, require_idle
from lit_mtrl.labels import RUN, build_logger, counts, tags
from lit_mtrl.logger import CSVLogger
from lit_mtrl.make import make, plain
from lit_mtrl.processes import hold
from lit_mtrl.spec import ConfigError, require, task_names
from lit_mtrl.tables import keep_rows_until
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")


class Run:
    """A run that is ready to train: agent, data module and Lightning trainer."""

    def __init__(self, cfg: DictConfig, checkpoint: dict[str, Any] | None = None):
        """Build everything and touch no file; with ``checkpoint``, the run in ``output_dir`` will be continued from it."""
        _quiet()
        lightning.seed_everything(cfg.seed, verbose=False)
        self.cfg, self.folder, self.checkpoint = cfg, Path(cfg.output_dir), checkpoint
        self.done = checkpoint["lit_mtrl"]["frames"] if checkpoint else 0
        suite = build_suite(cfg)
        suite.check()
        algorithm = build_algorithm(cfg, suite)
        self.agent = Agent(
            algorithm,
            list(suite.tasks),
            weightings=build_weightings(cfg, suite),
            engine=cfg.engine.mode,
            precision=cfg.engine.precision,
            log_frames=cfg.logger.log_frames,
        )
        algorithm.objectives()  # raises on a wrong learning rate now, not after things have been started
        self.data = build_data(cfg, suite, algorithm)
        if checkpoint:
            self.data.resume_replay(find_sidecar(self.folder / "checkpoints", self.done) / "replay")
        self.loggers: list[Any] = [CSVLogger(self.folder)]
        self.labels = {"tags": tags(cfg, suite), "parameters": counts(algorithm)}
        if "_target_" in cfg.logger:
            self.loggers.append(build_logger(cfg, self.labels, checkpoint))
        callbacks = [make(cfg.eval), *(make(value) for value in cfg.callbacks.values())]
        for callback in callbacks:
            if hasattr(callback, "check"):
                callback.check(self.agent)
        self.trainer = build_trainer(cfg, self.data.epochs, callbacks, self.loggers)
        device = self.trainer.strategy.root_device
        self.mode = resolve_mode(cfg.engine.mode, cfg.engine.precision, device.type)
        self.place = self.data.settle(device)
        cfg.collector.policy_device = self.data.policy_device  # a measurement, so it belongs to the run from here on
        self.agent.config = plain(cfg)
        if cfg.trainer.threads:
            torch.set_num_threads(cfg.trainer.threads)

    def fit(self) -> None:
        """Train to the end of the budget."""
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = hold(self.folder / LOCK)
        except BlockingIOError:
            require_idle(self.folder)
            raise
        try:
            for logger in self.loggers:
                if hasattr(logger, "connect"):
                    logger.connect()
        except ConfigError:
            lock.close()
            if missing:
                (self.folder / LOCK).unlink()
            for folder in missing:
                folder.rmdir()
            raise
        OmegaConf.save(self.cfg, self.folder / "config.yaml", resolve=True)
        run_id = next(filter(None, (getattr(logger, "run_id", None) for logger in self.loggers)), None)
        (self.folder / RUN).write_text(json.dumps({**self.labels, "run_id": run_id}, indent=2) + "\n")
        for logger in self.loggers:
            for name in ("config.yaml", RUN) if hasattr(logger, "log_artifact") else ():
                logger.log_artifact(self.folder / name)
        file = logging.FileHandler(self.folder / "train.log")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)
        for table in self.folder.glob("*.csv"):
            keep_rows_until(table, self.done)
        path = self.folder / "checkpoints" / "last.ckpt" if self.checkpoint else None
        try:
            log.info("%s", self.describe())
            self.trainer.fit(self.agent, self.data, ckpt_path=path, weights_only=True if path else None)
            log.info("done at %s frames", f"{self.agent.frames:,}")
        except BaseException as error:
            log.error("stopped at %s frames: %s", f"{self.agent.frames:,}", str(error) or type(error).__name__)
            raise
        finally:
            self.data.teardown("fit")
            for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
                callback.teardown(self.trainer, self.agent, "fit")
            log.removeHandler(file)
            file.close()
            lock.close()

    def describe(self) -> str:
        """One line about what runs where."""
        data, tags = self.data, self.data.suite.tags()
        return (
            f"lit_mtrl {__version__}: {self.cfg.algo.name} {self.cfg.network.name} on"
            f" {', '.join(f'{k} {v}' for k, v in tags.items())}; seed {self.cfg.seed}; {data.budget:,} frames in"
            f" {data.epochs} epochs; {data.workers} collecting processes{' beside the updates' if data.overlap else ''}, the policy on {data.policy_device};"
            f" updates {self.mode} in {self.cfg.engine.precision} on {self.trainer.strategy.root_device},"
            f" {torch.get_num_threads()} threads; {self.place}; {self.folder}"
        )


def build_suite(cfg: DictConfig) -> Suite:
    """The environment suite of ``benchmark`` and ``env``."""
    return make(cfg.env, skip=("copies", "stagger"), tasks=task_names(cfg.benchmark.tasks), seed=cfg.seed)


def build_algorithm(cfg: DictConfig, suite: Suite) -> Algorithm:
    """The algorithm with freshly initialised networks; seed PyTorch first."""
    parts: Any = {part: _factory(cfg[part], cfg.network) for part in ("actor", "critic")}
    return make(cfg.algo, **parts, **_sizes(suite))


def build_weightings(cfg: DictConfig, suite: Suite) -> dict[str, Weighting]:
    """The weighting of each objective that ``weighting`` names."""
    built = {}
    for name, part in cfg.weighting.items():
        try:
            built[name] = make(part, num_tasks=len(suite.tasks))
        except ConfigError as error:
            raise ConfigError(f"weighting.{name}.{str(error).removeprefix(part._target_ + ': ')}") from error
        if len(suite.tasks) == 1 and not isinstance(built[name], Mean):
            log.warning("weighting.%s=%s: there is one task, nothing to weigh it against; use mean", name, part.name)
    return built


def build_part(part: DictConfig, network: DictConfig, suite: Suite) -> torch.nn.Module:
    """The actor or the critics of ``network``, alone."""
    return _factory(part, network)(**_sizes(suite))


def build_data(cfg: DictConfig, suite: Suite, algorithm: Algorithm) -> DataModule:
    """Collector, replay and budget."""
    collector: Any = {**cfg.collector, "workers": cfg.collector.workers or default_workers(suite)}
    budget: Any = dict(seed=cfg.seed, frames=cfg.frames, epoch_frames=cfg.epoch_frames)
    environments: Any = dict(copies=cfg.env.copies, stagger=cfg.env.stagger)
    return DataModule(suite, algorithm, **environments, **budget, **collector, **cfg.replay)


def default_workers(suite: Suite) -> int:
    """One collecting process per core, but no more than tasks; one if the environments have threads of their own.

    `fit` writes it into the configuration: noise depends on it.
    """
    return 1 if suite.threaded else min(len(os.sched_getaffinity(0)), len(suite.tasks))


def build_trainer(cfg: DictConfig, epochs: int, callbacks: list[Any], loggers: list[Any]) -> lightning.Trainer:
    """Lightning's trainer; an epoch is ours (a fixed number of frames), a batch is an iteration."""
    try:
        return lightning.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            max_epochs=epochs,
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=cfg.output_dir,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error


def _sizes(suite: Suite) -> dict[str, Any]:
    return dict(obs_dim=suite.obs_dim, action_dim=suite.action_dim, num_tasks=len(suite.tasks))


def _factory(part: DictConfig, network: DictConfig) -> partial:
    own = OmegaConf.merge(network, part.network)
    assert isinstance(own, DictConfig)
    require(own.get("match") is None, "network.match: is resolved by fit and params only; give network.width here")
    return partial(make, part, skip=("network",), network=partial(make, own, skip=("match",)))


class _AboveTheBar(logging.StreamHandler):
    """Writes lines above a progress bar instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _quiet() -> None:
    """Leave the terminal to our own lines: libraries' informational messages off, warnings that do not apply to us off."""
    if not log.handlers:
        log.addHandler(_AboveTheBar())
        log.setLevel(logging.INFO)
        log.propagate = False
    for name in ("lightning.pytorch", "lightning.fabric", "torchrl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*transfer_batch_to_device.*", ".*isinstance.treespec, LeafSpec.*", ".*litlogger.*"):
        warnings.filterwarnings("ignore", message)
