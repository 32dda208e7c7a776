"""The LightningModule: hands an iteration to the engine, keeps counters, reports."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import RankError, Ranks
from lit_mtrl.core.seeds import mixed_seed
from lit_mtrl.core.signals import raise_if_told
from lit_mtrl.data.module import Iteration
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.metrics import first_infinite, for_loggers, to_host, warn_of_floored
from lit_mtrl.training.random_state import random_state, restore_random_state, saved_random_states
from lit_mtrl.training.strategies import HookedDDP
from lit_mtrl.training.window import RecentEpisodes, Window
from lit_mtrl.weighting.base import Weighting

log = logging.getLogger("lit_mtrl")


class DivergedError(RuntimeError):
    """A loss is no longer finite; the message names objective and task."""


class Agent(lightning.LightningModule):
    """Trains an algorithm; one `training_step` is one iteration (K updates), counted in frames.

    algorithm: its losses are minimised by an `Engine`, which is made when training starts.
    tasks: names in one-hot order.
    weightings: of objectives, by name; without one, an objective is averaged over tasks.
    engine: how updates are executed; see `lit_mtrl.training.engine.Engine`.
    precision: of the networks' products, likewise.
    log_frames: training metrics are logged once in so many frames, averaged over the iterations between.
    config: the resolved configuration as plain types, saved in every checkpoint.

    For callbacks, ``iteration`` holds the last iteration's metrics, ``"<objective>/<key>"`` to T values, or one;
    ``latest`` what the loggers got last.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        tasks: list[str],
        *,
        weightings: dict[str, Weighting] | None = None,
        engine: str = "auto",
        precision: str = "fp32",
        log_frames: int = 10_000,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        require(log_frames > 0, f"logger.log_frames={log_frames}: report once in so many frames, 1 or more")
        self.automatic_optimization = False
        self.algorithm, self.tasks, self.config = algorithm, tasks, config or {}
        self.weightings = torch.nn.ModuleDict(weightings or {})
        self.execution, self.log_frames = (engine, precision), log_frames
        self.engine: Engine | None = None
        self.frames = 0
        self.seconds = 0.0
        self.ranks = Ranks()
        self.episodes, self.window = RecentEpisodes(), Window(self.frames)
        self.latest: dict[str, float] = {}
        self.iteration: dict[str, list[float]] = {}
        self._restored: dict[str, Any] | None = None
        self._warned: set[str] = set()
        self._started = time.perf_counter()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        self.ranks = Ranks.here()
        hooked = isinstance(self.trainer.strategy, HookedDDP)
        backward = self.manual_backward if hooked else None
        weightings: Any = dict(self.weightings)
        self.engine = Engine(self.algorithm, weightings, *self.execution, self.ranks, backward)
        return list(self.engine.optimizers.values())

    def transfer_batch_to_device(self, batch: Iteration, device: torch.device, dataloader_idx: int) -> Iteration:
        return batch  # already there

    def training_step(self, batch: Iteration, batch_idx: int) -> None:
        assert self.engine is not None
        if self.ranks.size == 1:  # several stop together
            raise_if_told()
        self.frames = batch.frames
        self.episodes.add(batch.frames, batch.episodes)
        self.window.collect_seconds += batch.collect_seconds
        if batch.chunk is not None:
            start = time.perf_counter()
            metrics = to_host(*self.engine.run(batch.chunk))
            self._require_finite(metrics)
            self.iteration = metrics
            self.window.add(metrics, len(batch.chunk), time.perf_counter() - start)
        if self.frames - self.window.start >= self.log_frames or self.trainer.is_last_batch:
            self.report()

    def _require_finite(self, metrics: dict[str, list[float]]) -> None:
        found = first_infinite(metrics, self.tasks)
        if found is not None:
            key, first = found
            what = f"{key} is not finite at {self.frames} frames, first for {', '.join(first)}"
            raise DivergedError(f"{what}; the last checkpoint is kept")

    def report(self) -> None:
        """Send the metrics gathered since the last report to the loggers, at the present frames.

        Raises `RankError` if ranks no longer have the same parameters.
        """
        assert self.engine is not None
        self._compare_ranks()
        self.episodes.gather(self.ranks)
        means = self.window.means()
        warn_of_floored(means, self.tasks, self.engine.weightings, self._warned)
        self.latest = {
            **self.window.speed(self.frames),
            "time/total": self.training_seconds(),
            **self.episodes.means(self.trainer.datamodule.suite.score),  # pyright: ignore[reportAttributeAccessIssue]
            **for_loggers(means, self.tasks, self.algorithm.per_task),
        }
        for logger in self.loggers:
            logger.log_metrics(self.latest, step=self.frames)
        self.window = Window(self.frames)

    def _compare_ranks(self) -> None:
        differ = self.ranks.different({**dict(self.named_parameters()), **dict(self.named_buffers())})
        if differ:
            found = f"{len(differ)}, first {differ[0]}"
            what = f"ranks no longer have the same parameters at {self.frames} frames ({found})"
            raise RankError(f"{what}; the last checkpoint is kept")

    def training_seconds(self) -> float:
        """Seconds from the start of training, evaluations included; not those between a stop and the continuation."""
        return self.seconds + time.perf_counter() - self._started

    def on_train_epoch_end(self) -> None:
        folder = Path(self.trainer.default_root_dir)
        for logger in self.loggers:
            if hasattr(logger, "log_artifact"):
                for table in sorted(folder.glob("*.csv")):
                    logger.log_artifact(table)  # pyright: ignore[reportAttributeAccessIssue]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.engine is not None
        checkpoint["lit_mtrl"] = {
            "frames": self.frames,
            "seconds": self.training_seconds(),
            "updates": self.engine.updates,
            "recent": self.episodes.state(),
            "tasks": list(self.tasks),
            "config": self.config,
            "run_id": next(filter(None, (getattr(logger, "run_id", None) for logger in self.loggers)), None),
            "random": self.ranks.gather(random_state(self.device)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self._restored = checkpoint["lit_mtrl"]
        self.frames = state["frames"]
        self.seconds = state.get("seconds", 0.0)
        self.episodes.restore(state["recent"])

    def on_train_start(self) -> None:
        self._started = time.perf_counter()
        state, self._restored = self._restored, None
        if self.ranks.size > 1:  # until here all had the same random numbers, and so the same networks
            torch.manual_seed(mixed_seed(self.config["seed"], self.frames, self.ranks.rank, 1))
        if state is not None:
            assert self.engine is not None
            self.engine.updates = state["updates"]
            saved = saved_random_states(state)
            if len(saved) == self.ranks.size:
                restore_random_state(saved[self.ranks.rank], self.device)
            else:
                message = "continued on %d ranks, saved by %d: replays are dealt anew, random numbers start anew"
                log.warning(message, self.ranks.size, len(saved))
        self.window = Window(self.frames)

    def on_train_epoch_start(self) -> None:
        self.window = Window(self.frames)
