"""The composition root: from a configuration to the objects of a run."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from lit_mtrl.processes import cores, die_with_parent, hold
from lit_mtrl.spec import ConfigError, require, task_names
from lit_mtrl.strategies import RanksStrategy, choose_strategy
from lit_mtrl.tables import keep_rows_until
from lit_mtrl.weighting.base import Weighting
from lit_mtrl.weighting.mean import Mean

log = logging.getLogger("lit_mtrl")


class Run:
    """A run that is ready to train: agent, data module and Lightning trainer. One of its ranks, if it has several; the first writes."""

    def __init__(self, cfg: DictConfig, checkpoint: dict[str, Any] | None = None):
        """Build everything and touch no file; with ``checkpoint``, the run in ``output_dir`` will be continued from it."""
        _quiet()
        lightning.seed_everything(cfg.seed, verbose=False)
        self.cfg, self.folder, self.checkpoint = cfg, Path(cfg.output_dir), checkpoint
        self.done = checkpoint["lit_mtrl"]["frames"] if checkpoint else 0
        suite = build_suite(cfg)
        suite.check()
        callbacks = [make(cfg.eval), *(make(value) for value in cfg.callbacks.values())]
        self.trainer = build_trainer(cfg, callbacks)
        self.first, ranks = self.trainer.is_global_zero, self.trainer.world_size
        cfg.collector.workers = cfg.collector.workers or _workers_before(checkpoint) or default_workers(suite, ranks)
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
        self.data = build_data(cfg, suite, algorithm, self.trainer.global_rank, ranks)
        self.trainer.fit_loop.max_epochs = self.data.epochs
        if checkpoint:
            self.data.resume_replay(find_sidecar(self.folder / "checkpoints", self.done))
        self.labels = {"tags": tags(cfg, suite), "parameters": counts(algorithm)}
        self.loggers: list[Any] = [CSVLogger(self.folder)] if self.first else []
        if self.first and "_target_" in cfg.logger:
            self.loggers.append(build_logger(cfg, self.labels, checkpoint))
        self.trainer.loggers = self.loggers
        for callback in callbacks:
            if hasattr(callback, "check"):
                callback.check(self.agent)
        device = self.trainer.strategy.root_device
        self.mode = resolve_mode(cfg.engine.mode, cfg.engine.precision, device.type)
        require(
            ranks == 1 or cfg.trainer.strategy in ("auto", "ddp") or "cudagraph" not in self.mode,
            f"trainer.strategy={cfg.trainer.strategy}: cannot be recorded in CUDA graphs; use trainer.strategy=ddp, or engine=eager",
        )
        self.place = self.data.settle(device)
        cfg.collector.policy_device = self.data.policy_device  # a measurement, so it belongs to the run from here on
        self.agent.config = plain(cfg)
        if cfg.trainer.threads:
            torch.set_num_threads(cfg.trainer.threads)
        if ranks > 1:
            _prepare_ranks(self.trainer, cfg)

    def fit(self) -> None:
        """Train to the end of the budget.

        Raises `ConfigError` and leaves nothing behind if the ranks, started by somebody else, were not started with the same configuration.
        """
        strategy = self.trainer.strategy
        if isinstance(strategy, RanksStrategy):
            strategy.config = self.agent.config
            if strategy.cluster_environment.creates_processes_externally:  # pyright: ignore[reportOptionalMemberAccess]
                strategy.setup_environment()
        with self._records() if self.first else nullcontext():
            path = self.folder / "checkpoints" / "last.ckpt" if self.checkpoint else None
            try:
                self.trainer.fit(self.agent, self.data, ckpt_path=path, weights_only=True if path else None)
            except Exception as error:
                if not self.first:
                    log.error("rank %d stopped: %s", self.trainer.global_rank, error)
                raise
            finally:
                self.data.teardown("fit")
                for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
                    callback.teardown(self.trainer, self.agent, "fit")

    @contextmanager
    def _records(self) -> Iterator[None]:
        """The run's folder, locked and ready: configuration, tags, log, tables that end at the checkpoint, and loggers that are connected."""
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
        try:
            log.info("%s", self.describe())
            yield
            log.info("done at %s frames", f"{self.agent.frames:,}")
        except BaseException as error:
            log.error("stopped at %s frames: %s", f"{self.agent.frames:,}", str(error) or type(error).__name__)
            raise
        finally:
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
            f" {torch.get_num_threads()} threads{self._ranks()}; {self.place}; {self.folder}"
        )

    def _ranks(self) -> str:
        ranks = self.trainer.world_size
        return f", on each of {ranks} ranks ({type(self.trainer.strategy).__name__})" if ranks > 1 else ""


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


def build_data(cfg: DictConfig, suite: Suite, algorithm: Algorithm, rank: int = 0, ranks: int = 1) -> DataModule:
    """Collector, replay and budget, for one of the run's ranks."""
    collector: Any = {**cfg.collector, "workers": cfg.collector.workers or default_workers(suite)}
    budget: Any = dict(seed=cfg.seed, frames=cfg.frames, epoch_frames=cfg.epoch_frames)
    environments: Any = dict(copies=cfg.env.copies, stagger=cfg.env.stagger)
    return DataModule(suite, algorithm, **environments, **budget, **collector, **cfg.replay, rank=rank, ranks=ranks)


def default_workers(suite: Suite, ranks: int = 1) -> int:
    """One collecting process per core, shared by ``ranks``, but no more than tasks; one if the environments have threads of their own.

    A run writes it into its configuration: noise depends on it.
    """
    return 1 if suite.threaded else max(1, min(cores() // ranks, len(suite.tasks)))


def build_trainer(cfg: DictConfig, callbacks: list[Any]) -> lightning.Trainer:
    """Lightning's trainer, without loggers and budget; an epoch is ours (a fixed number of frames), a batch is an iteration."""
    devices, gpus = cfg.trainer.devices, torch.cuda.device_count()
    require(devices > 0, f"trainer.devices={devices}: 1 or more")
    wanted = cfg.trainer.accelerator in ("gpu", "cuda") or (cfg.trainer.accelerator == "auto" and gpus > 0)
    require(
        not wanted or devices <= gpus,
        f"trainer.devices={devices}: this machine has {gpus} GPUs; ask for no more, or for CPU ranks by trainer.accelerator=cpu",
    )
    strategy = choose_strategy(cfg.trainer.strategy, devices > 1)
    try:
        return lightning.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=devices,
            strategy=strategy,
            max_epochs=-1,
            logger=False,
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


def _prepare_ranks(trainer: lightning.Trainer, cfg: DictConfig) -> None:
    """Share the cores among the ranks, and check the port where they will meet."""
    if not trainer.is_global_zero:
        die_with_parent()
        log.setLevel(logging.WARNING)
    threads = cfg.trainer.threads or int(os.environ.get("OMP_NUM_THREADS", max(1, cores() // trainer.world_size)))
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # or Lightning would choose
    port = os.environ.get("MASTER_PORT")
    if port and trainer.is_global_zero and "TORCHELASTIC_RUN_ID" not in os.environ:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except (OSError, ValueError, OverflowError) as error:
                raise ConfigError(
                    f"MASTER_PORT={port}: ranks cannot meet there ({error}); unset it, or choose a free port"
                ) from error


def _workers_before(checkpoint: dict[str, Any] | None) -> int | None:
    return checkpoint["lit_mtrl"]["config"]["collector"]["workers"] if checkpoint else None


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
