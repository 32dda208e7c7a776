"""A run: everything built from its configuration, and its folder while it trains."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from lit_mtrl import __version__
from lit_mtrl.config.instantiate import make
from lit_mtrl.config.resolve import as_written
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.files import LogFile, replacing, trouble
from lit_mtrl.core.processes import cores, die_with_parent
from lit_mtrl.core.signals import Ended, ended_by_signals
from lit_mtrl.core.tables import keep_rows_until, to_json
from lit_mtrl.data.placement import require_processes
from lit_mtrl.evaluation.evaluator import processes
from lit_mtrl.runs.build import (
    build_algorithm,
    build_data,
    build_suite,
    build_trainer,
    build_weightings,
    default_workers,
    require_memory,
)
from lit_mtrl.runs.tags import RUN, build_logger, counts, tags
from lit_mtrl.tracking.csv import CSVLogger
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback
from lit_mtrl.training.checkpoint import Saved
from lit_mtrl.training.modes import resolve_mode
from lit_mtrl.training.strategies import PATIENCE, RanksStrategy
from lit_mtrl.training.weights import require_continuable

log = logging.getLogger("lit_mtrl")


class StoppedError(RuntimeError):
    """The run has ended by an error that has been logged in one line."""


class Run:
    """A run that is ready to train: agent, data module and Lightning trainer. One of its ranks, if it has several; the
    first writes.
    """

    def __init__(self, cfg: DictConfig, saved: Saved | None = None):
        """Build everything and touch no file; with ``saved``, the run in ``output_dir`` will be continued from it."""
        _quiet()
        lightning.seed_everything(cfg.seed, verbose=False)
        self.cfg, self.folder, self.saved = cfg, Path(cfg.output_dir), saved
        self.done, checkpoint = (saved.frames, saved.content) if saved else (0, None)
        suite = build_suite(cfg)
        suite.check()
        callbacks = [
            make(cfg.eval, lightning.Callback, "eval"),
            *(make(value, lightning.Callback, f"callbacks.{name}") for name, value in cfg.callbacks.items()),
        ]
        self.trainer = build_trainer(cfg, callbacks)
        self.first, ranks = self.trainer.is_global_zero, self.trainer.world_size
        require(
            ranks == cfg.trainer.devices,
            f"trainer.devices={cfg.trainer.devices}: SLURM or torchrun has started {ranks} ranks; start as many as devices",
        )
        if not self.first:
            log.setLevel(logging.ERROR)  # the first speaks for all
        cfg.collector.workers = cfg.collector.workers or _workers_before(checkpoint) or default_workers(suite, ranks)
        require_memory(cfg, suite, self.trainer.strategy.root_device)
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
        if saved:
            require_continuable(self.agent, saved.content, f"--resume {saved.path}")
            self.data.resume_buffer(saved.sidecar)
        self.labels = {"tags": tags(cfg, suite), "parameters": counts(algorithm)}
        self.loggers: list[Any] = [CSVLogger(self.folder)] if self.first else []
        if self.first and "_target_" in cfg.logger:
            self.loggers.append(build_logger(cfg, self.labels, checkpoint))
        self.trainer.loggers = self.loggers
        for callback in callbacks:
            if isinstance(callback, Callback):
                callback.check(self.agent)
        device = self.trainer.strategy.root_device
        self.mode = resolve_mode(cfg.engine.mode, cfg.engine.precision, device.type)
        require(
            ranks == 1 or cfg.trainer.strategy in ("auto", "ddp") or "cudagraph" not in self.mode,
            f"trainer.strategy={cfg.trainer.strategy}: cannot be recorded in CUDA graphs; use trainer.strategy=ddp, or engine=eager",
        )
        self.place = self.data.settle(device)
        cfg.collector.policy_device = self.data.policy_device  # a measurement, so it belongs to the run from here on
        self.agent.config = as_written(cfg)
        if cfg.trainer.threads:
            torch.set_num_threads(cfg.trainer.threads)
        data, playing = self.data, processes(cfg.eval.workers, cfg.eval.background, ranks)
        require_processes(suite, data.policy, data.steps // ranks, data.copies, data.workers, playing, ranks)
        if ranks > 1:
            _prepare_ranks(self.trainer, cfg)

    def fit(self) -> None:
        """Train to the end of the budget.

        Raises `ConfigError` and leaves nothing behind if the ranks, started by somebody else, were not started with the
        same configuration, and `lit_mtrl.core.signals.Ended` if a signal has ended it: at once, or with several ranks
        before the next iteration, and at once at a second.
        """
        strategy = self.trainer.strategy
        if isinstance(strategy, RanksStrategy):
            strategy.config = self.agent.config
            if strategy.cluster_environment.creates_processes_externally:  # pyright: ignore[reportOptionalMemberAccess]
                strategy.setup_environment()
        alone = self.trainer.world_size == 1
        with self._records() if self.first else nullcontext(), ended_by_signals(at_once=alone) as came:
            _stop_together(self.trainer, came)
            path = self.saved.path if self.saved else None
            together = False
            try:
                self.trainer.fit(self.agent, self.data, ckpt_path=path, weights_only=True if path else None)
            except SIGTERMException as error:  # all ranks stop here, since the first has been told
                together = True
                raise Ended(came[0] if came else signal.SIGTERM) from error
            except Exception as error:
                reason = trouble(error, self.folder)
                if not self.first and not came:
                    log.error("rank %d stopped: %s", self.trainer.global_rank, reason or error)
                    if reason is not None:
                        raise StoppedError(reason) from error
                raise
            finally:
                if isinstance(strategy, RanksStrategy) and sys.exception() is not None:
                    strategy.watch_no_more()
                self.data.teardown("fit")
                for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
                    callback.teardown(self.trainer, self.agent, "fit")
                if isinstance(strategy, RanksStrategy):
                    self.agent.engine = None  # recorded graphs hold all-reduces: they go before the group does
                    if isinstance(sys.exception(), Ended):
                        strategy.end_others(PATIENCE if together else 0)

    @contextmanager
    def _records(self) -> Iterator[None]:
        """The run's folder, which the caller holds: configuration, tags, log, tables that end at the checkpoint, and
        loggers that are connected.

        An error of the disk, or of a file in the folder, is raised as a `StoppedError` after it has been logged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for logger in self.loggers:
            if hasattr(logger, "connect"):
                logger.connect()
        file = LogFile(self.folder / "train.log")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)
        try:
            self._prepare()
            log.info("%s", self.describe())
            yield
            log.info("done at %s frames", f"{self.agent.frames:,}")
        except Ended as ended:
            ended.logged = True
            log.error("%s at %s frames", ended, f"{self.agent.frames:,}")
            raise
        except BaseException as error:
            reason = trouble(error, self.folder)
            log.error(
                "stopped at %s frames: %s", f"{self.agent.frames:,}", reason or str(error) or type(error).__name__
            )
            if reason is not None:
                raise StoppedError(reason) from error
            raise
        finally:
            log.removeHandler(file)
            with suppress(OSError):  # what could not be written has been said
                file.close()

    def _prepare(self) -> None:
        with replacing(self.folder / "config.yaml") as new:
            OmegaConf.save(self.cfg, new)
        run_id = next(filter(None, (getattr(logger, "run_id", None) for logger in self.loggers)), None)
        with replacing(self.folder / RUN) as new:
            new.write_text(to_json({**self.labels, "run_id": run_id}, indent=2) + "\n")
        for logger in self.loggers:
            for name in ("config.yaml", RUN) if hasattr(logger, "log_artifact") else ():
                logger.log_artifact(self.folder / name)
        for note in self.saved.notes if self.saved else ():
            log.warning("%s", note)
        for table in sorted(self.folder.glob("*.csv")):
            if dropped := keep_rows_until(table, self.done):
                log.info("%s", dropped)

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


def _prepare_ranks(trainer: lightning.Trainer, cfg: DictConfig) -> None:
    """Share the cores among the ranks, and check that and where they will meet."""
    strategy, ranks = trainer.strategy, trainer.world_size
    assert isinstance(strategy, RanksStrategy) and strategy.cluster_environment is not None
    try:
        strategy.cluster_environment.validate_settings(num_devices=ranks, num_nodes=1)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"trainer.devices={ranks}: {str(error).splitlines()[0]}") from error
    if not trainer.is_global_zero:
        die_with_parent()
    given = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else cores(ranks)
    threads = cfg.trainer.threads or given
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


def _stop_together(trainer: lightning.Trainer, came: Sequence[int]) -> None:
    """Stop all ranks before the next iteration once a signal has come to the first.

    Lightning's own handlers, which are not installed, talk to the other ranks from within, wherever the signal finds
    them; two ranks then wait for each other. But it asks the first rank before every iteration whether it has been told
    to stop, and there alone is it told.
    """
    connector, loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    ask = loop._broadcast_sigterm_tensor

    def asked() -> None:
        connector.received_sigterm = bool(came)
        try:
            ask()
        finally:
            connector.received_sigterm = False

    connector.register_signal_handlers = lambda: None
    loop._broadcast_sigterm_tensor = asked


def _workers_before(checkpoint: dict[str, Any] | None) -> int | None:
    return checkpoint["lit_mtrl"]["config"]["collector"]["workers"] if checkpoint else None


class _AboveTheBar(logging.StreamHandler):
    """Writes lines above a progress bar instead of into it; nothing where whoever read them has gone."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


def _quiet() -> None:
    """Leave the terminal to our own lines: libraries' informational messages off, warnings that do not apply to us off."""
    if not log.handlers:
        tqdm.set_lock(threading.RLock())  # its own is for several processes, and takes a semaphore
        log.addHandler(_AboveTheBar())
        log.setLevel(logging.INFO)
        log.propagate = False
    for name in ("lightning.pytorch", "lightning.fabric", "torchrl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*transfer_batch_to_device.*", ".*isinstance.treespec, LeafSpec.*", ".*litlogger.*"):
        warnings.filterwarnings("ignore", message)
