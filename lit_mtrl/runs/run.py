"""A run: everything built from its configuration, in an order in which each part needs only those before it."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from lit_mtrl import __version__
from lit_mtrl.config.resolve import as_written, with_values
from lit_mtrl.core.errors import require
from lit_mtrl.core.files import trouble
from lit_mtrl.core.signals import Ended, ended_by_signals
from lit_mtrl.data.placement import require_processes
from lit_mtrl.evaluation.evaluator import processes
from lit_mtrl.runs.build import (
    build_algorithm,
    build_callbacks,
    build_data,
    build_suite,
    build_weightings,
    default_workers,
    require_memory,
)
from lit_mtrl.runs.console import speak
from lit_mtrl.runs.loggers import build_loggers
from lit_mtrl.runs.ranks import learner_device, prepare_ranks, rank_of, require_started, set_threads, stop_together
from lit_mtrl.runs.records import Records, StoppedError
from lit_mtrl.runs.tags import counts, tags
from lit_mtrl.runs.trainer import build_trainer
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback
from lit_mtrl.training.checkpoint import Saved
from lit_mtrl.training.modes import resolve_mode
from lit_mtrl.training.strategies import PATIENCE, RanksStrategy
from lit_mtrl.training.weights import require_continuable

log = logging.getLogger("lit_mtrl")


class Run:
    """A run that is ready to train: agent, data module and Lightning trainer. One of its ranks, if it has several; the
    first writes.

    ``cfg``: its configuration, with all that the machine has decided (numbers of processes, where the policy acts).
    """

    def __init__(self, cfg: DictConfig, saved: Saved | None = None):
        """Build everything and touch no file; `ConfigError` for what cannot be trained.

        cfg: the composed configuration; it is not changed.
        saved: what the run in ``output_dir`` will be continued from; None for a new one.
        """
        rank, ranks = rank_of(cfg), cfg.trainer.devices
        speak(first=rank == 0)
        lightning.seed_everything(cfg.seed, verbose=False)
        learner = learner_device(cfg, rank)
        mode = resolve_mode(cfg.engine.mode, cfg.engine.precision, learner.type)
        require(
            ranks == 1 or cfg.trainer.strategy in ("auto", "ddp") or "cudagraph" not in mode,
            f"trainer.strategy={cfg.trainer.strategy}: cannot be recorded in CUDA graphs;"
            " use trainer.strategy=ddp, or engine=eager",
        )
        checkpoint = saved.content if saved else None

        suite = build_suite(cfg, ranks)
        suite.check()
        before = checkpoint["lit_mtrl"]["config"]["collector"]["workers"] if checkpoint else None
        workers = cfg.collector.workers or before or default_workers(suite, ranks, cfg.collector.overlap)
        cfg = _settled(cfg, "collector.workers", workers)  # noise depends on it
        require_memory(cfg, suite, learner)

        algorithm = build_algorithm(cfg, suite)
        algorithm.objectives()  # raises on a wrong learning rate now, not after things have been started
        weightings = build_weightings(cfg, suite)

        self.data = build_data(cfg, suite, algorithm, rank, ranks)
        self.place = self.data.settle(learner)
        cfg = _settled(cfg, "collector.policy_device", self.data.policy_device)  # may be a measurement: it is kept
        players = processes(cfg.eval.workers, cfg.eval.background, ranks)
        steps, copies = self.data.steps // ranks, self.data.copies
        require_processes(suite, self.data.policy, steps, copies, workers, players, ranks)

        self.agent = Agent(
            algorithm,
            list(suite.tasks),
            weightings=weightings,
            engine=cfg.engine.mode,
            precision=cfg.engine.precision,
            log_frames=cfg.logger.log_frames,
            config=as_written(cfg),
        )
        if saved:
            require_continuable(self.agent, saved.content, f"--resume {saved.path}")
            self.data.resume_buffer(saved.sidecar)

        labels = {"tags": tags(cfg, suite), "parameters": counts(algorithm)}
        loggers = build_loggers(cfg, labels, checkpoint) if rank == 0 else []
        callbacks = build_callbacks(cfg)
        for callback in callbacks:
            if isinstance(callback, Callback):
                callback.check(self.agent)

        self.trainer = build_trainer(cfg, callbacks, loggers, epochs=self.data.epochs)
        require_started(self.trainer, rank, ranks, learner)
        set_threads(cfg)
        if ranks > 1:
            prepare_ranks(self.trainer)

        self.cfg, self.saved, self.mode = cfg, saved, mode
        self.records = Records(cfg, labels, loggers, saved)

    def fit(self) -> None:
        """Train to the end of the budget.

        Raises `ConfigError` and leaves nothing behind if the ranks, started by somebody else, were not started with the
        same configuration, and `lit_mtrl.core.signals.Ended` if a signal has ended it: at once, or with several ranks
        before the next iteration, and at once at a second.
        """
        first, ranks = self.trainer.is_global_zero, self._ranks
        if ranks is not None:
            ranks.compare_early()
        records = self.records.kept(self.describe(), lambda: self.agent.frames) if first else nullcontext()
        with records, ended_by_signals(at_once=ranks is None) as came:
            stop_together(self.trainer, came)
            path = self.saved.path if self.saved else None
            together = False
            try:
                self.trainer.fit(self.agent, self.data, ckpt_path=path, weights_only=True if path else None)
            except SIGTERMException as error:  # all ranks stop here, since the first has been told
                together = True
                raise Ended(came[0] if came else signal.SIGTERM) from error
            except Exception as error:
                reason = trouble(error, Path(self.cfg.output_dir))
                if not first and not came:
                    log.error("rank %d stopped: %s", self.trainer.global_rank, reason or error)
                    if reason is not None:
                        raise StoppedError(reason) from error
                raise
            finally:
                self._end(PATIENCE if together else 0)

    def _end(self, patience: float) -> None:
        """End what training has started, processes above all: Lightning does not, where an exception has ended it.

        ``patience``: seconds that other ranks get after a signal.
        """
        ranks, error = self._ranks, sys.exception()
        if ranks is not None and error is not None:
            ranks.watch_no_more()
        self.data.teardown("fit")
        for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            callback.teardown(self.trainer, self.agent, "fit")
        if ranks is not None:
            self.agent.engine = None  # recorded graphs hold all-reduces: they go before the group does
            if isinstance(error, Ended):
                ranks.end_others(patience)

    @property
    def _ranks(self) -> RanksStrategy | None:
        """What connects the ranks; None of a single one."""
        return self.trainer.strategy if isinstance(self.trainer.strategy, RanksStrategy) else None

    def describe(self) -> str:
        """One line about what runs where."""
        data, cfg = self.data, self.cfg
        tags = ", ".join(f"{key} {value}" for key, value in data.suite.tags().items())
        beside = " beside the updates" if data.overlap else ""
        ranks = self.trainer.world_size
        keeps = "" if self.trainer.checkpoint_callbacks else " no checkpoints, so it cannot be continued;"
        several = f", on each of {ranks} ranks ({type(self.trainer.strategy).__name__})" if ranks > 1 else ""
        return (
            f"lit_mtrl {__version__}: {cfg.algo.name} {cfg.network.name} on {tags}; seed {cfg.seed};"
            f" {data.budget:,} frames in {data.epochs} epochs; {data.workers} collecting processes{beside}, the policy"
            f" on {data.policy_device}; updates {self.mode} in {cfg.engine.precision} on"
            f" {self.trainer.strategy.root_device}, {torch.get_num_threads()} threads{several}; {self.place};{keeps}"
            f" {Path(cfg.output_dir)}"
        )


def _settled(cfg: DictConfig, key: str, value: Any) -> DictConfig:
    """The configuration with the value that is used; where it has that already, it keeps its reference, if it is
    one.
    """
    return cfg if OmegaConf.select(cfg, key) == value else with_values(cfg, {key: value})
