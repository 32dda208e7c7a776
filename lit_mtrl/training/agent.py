"""The LightningModule: hands an iteration to the engine, keeps counters, reports."""

from __future__ import annotations

import logging
import time
from collections import deque
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import RankError, Ranks
from lit_mtrl.core.seeds import mixed_seed
from lit_mtrl.core.signals import raise_if_told
from lit_mtrl.data.module import Iteration
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.strategies import HookedDDP
from lit_mtrl.weighting.base import Weighting

log = logging.getLogger("lit_mtrl")

EPISODES = 100
"""Training success and return are means over the last so many episodes of all tasks."""


class DivergedError(RuntimeError):
    """A loss is no longer finite; the message names objective and task."""


class Agent(lightning.LightningModule):
    """Trains an algorithm; one `training_step` is one iteration (K updates), counted in frames.

    ``tasks``: names in one-hot order. ``config``: the resolved configuration as plain types, saved in every checkpoint.
    ``engine``, ``precision``: see `lit_mtrl.training.engine.Engine`. ``log_frames``: training metrics are logged once
    in so many frames, averaged over the iterations between. ``iteration`` holds the last iteration's metrics for
    callbacks, ``"<objective>/<key>"`` to T values, or one.
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
        self.recent: deque[tuple[float, float]] = deque(maxlen=EPISODES)
        self._ended: list[tuple[int, float, float]] = []
        self.latest: dict[str, float] = {}
        self.iteration: dict[str, list[float]] = {}
        self._restored: dict[str, Any] | None = None
        self._warned: set[str] = set()
        self._started = time.perf_counter()
        self._reset_window()

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
        self._ended.extend((batch.frames, row[3], row[1]) for row in batch.episodes.tolist())
        self._time["collect"] += batch.collect_seconds
        self._window_frames += batch.frames - self._last_frames
        self._last_frames = batch.frames
        if batch.chunk is not None:
            start = time.perf_counter()
            per_task, scalar = self.engine.run(batch.chunk)
            self._accumulate({**per_task, **scalar})
            self._time["update"] += time.perf_counter() - start
            self._window_updates += len(batch.chunk)
        if self._window_frames >= self.log_frames or self.trainer.is_last_batch:
            self.report()

    def _accumulate(self, metrics: dict[str, Tensor]) -> None:
        """One host transfer for all metrics of the iteration; stop on a loss that is not finite."""
        keys = list(metrics)
        flat = torch.cat([metrics[key].float().flatten() for key in keys]).tolist()
        self._check(keys, metrics, flat)
        values, at = {}, 0
        for key in keys:
            size = metrics[key].numel()
            values[key] = flat[at : at + size]
            at += size
        self.iteration = values
        for key, value in values.items():
            old = self._sums.get(key)
            self._sums[key] = value if old is None else [a + b for a, b in zip(old, value, strict=True)]
        self._iterations += 1

    def _check(self, keys: list[str], metrics: dict[str, Tensor], flat: list[float]) -> None:
        total = sum(flat)
        if total - total == 0:  # finite
            return
        for key in keys:
            if not metrics[key].isfinite().all():
                finite = metrics.get(f"{key.split('/')[0]}/finite", torch.ones(len(self.tasks)))
                first = (finite == finite.min()).nonzero().flatten().tolist()
                names = ", ".join(self.tasks[i] for i in first)
                message = f"{key} is not finite at {self.frames} frames, first for {names}; the last checkpoint is kept"
                raise DivergedError(message)

    def report(self) -> None:
        """Send the metrics gathered since the last report to the loggers, at the present frames.

        Raises `RankError` if ranks no longer have the same parameters.
        """
        self._compare_ranks()
        ended = [episode for episodes in self.ranks.gather(self._ended) for episode in episodes]
        self.recent.extend((success, total) for _, success, total in sorted(ended, key=lambda episode: episode[0]))
        self._ended = []
        elapsed = time.perf_counter() - self._since
        metrics = {
            "speed/frames_per_second": self._window_frames / elapsed,
            "speed/updates_per_second": self._window_updates / elapsed,
            **{f"time/{name}": seconds for name, seconds in self._time.items()},
            "time/other": elapsed - sum(self._time.values()),
            "time/total": self.training_seconds(),
        }
        if self.recent:
            metrics["train/success"] = sum(s for s, _ in self.recent) / len(self.recent)
            metrics["train/return"] = sum(r for _, r in self.recent) / len(self.recent)
        for key, values in self._sums.items():
            objective, name = key.split("/")
            mean = [v / self._iterations for v in values]
            if name in ("finite", "weight"):
                continue
            if name == "floored":
                self._warn_floored(objective, mean)
            elif name == "masked":
                metrics.update({f"masked/{task}": v for task, v in zip(self.tasks, mean, strict=True) if v > 0})
            elif name == "alpha":
                metrics.update({f"alpha/{task}": v for task, v in zip(self.tasks, mean, strict=True)})
            elif name.endswith("_norm"):
                metrics[f"norm/{objective}/{'grad' if name == 'grad_norm' else 'params'}"] = mean[0]
            else:
                metrics[f"{name}/{objective}"] = sum(mean) / len(mean)
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.frames)
        self.latest = metrics
        self._reset_window()

    def _compare_ranks(self) -> None:
        differ = self.ranks.different({**dict(self.named_parameters()), **dict(self.named_buffers())})
        if differ:
            raise RankError(
                f"ranks no longer have the same parameters at {self.frames} frames ({len(differ)}, first {differ[0]}); the last checkpoint is kept"
            )

    def training_seconds(self) -> float:
        """Seconds from the start of training, evaluations included; not those between a stop and the continuation."""
        return self.seconds + time.perf_counter() - self._started

    def on_train_epoch_end(self) -> None:
        folder = Path(self.trainer.default_root_dir)
        for logger in self.loggers:
            if hasattr(logger, "log_artifact"):
                for table in sorted(folder.glob("*.csv")):
                    logger.log_artifact(table)  # pyright: ignore[reportAttributeAccessIssue]

    def _warn_floored(self, objective: str, shares: list[float]) -> None:
        """Say once per run and objective which losses its weighting cannot use."""
        if objective in self._warned or not any(shares):
            return
        self._warned.add(objective)
        weighting = self.weightings[objective]
        names = ", ".join(f"{task} ({x:.0%})" for task, x in zip(self.tasks, shares, strict=True) if x)
        log.warning(
            "weighting.%s: %s needs losses above %g; in some updates those of %s are not, and it does not judge these tasks then;"
            " use weighting.%s=mean, or one that reads gradients, such as pcgrad",
            objective,
            type(weighting).__name__,
            weighting.floor,
            names,
            objective,
        )

    def _reset_window(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._iterations = self._window_frames = self._window_updates = 0
        self._last_frames = self.frames
        self._time = {"collect": 0.0, "update": 0.0}
        self._since = time.perf_counter()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.engine is not None
        checkpoint["lit_mtrl"] = {
            "frames": self.frames,
            "seconds": self.training_seconds(),
            "updates": self.engine.updates,
            "recent": [list(pair) for pair in self.recent],
            "tasks": list(self.tasks),
            "config": self.config,
            "run_id": next(filter(None, (getattr(logger, "run_id", None) for logger in self.loggers)), None),
            "random": self.ranks.gather(_random_state(self.device)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self._restored = checkpoint["lit_mtrl"]
        self.frames = state["frames"]
        self.seconds = state.get("seconds", 0.0)
        self.recent.extend((success, episode_return) for success, episode_return in state["recent"])

    def on_train_start(self) -> None:
        self._started = time.perf_counter()
        state, self._restored = self._restored, None
        if self.ranks.size > 1:  # until here all had the same random numbers, and so the same networks
            torch.manual_seed(mixed_seed(self.config["seed"], self.frames, self.ranks.rank, 1))
        if state is not None:
            assert self.engine is not None
            self.engine.updates = state["updates"]
            found = state["random"] if "random" in state else [_older(state)]
            if len(found) == self.ranks.size:
                _restore(found[self.ranks.rank], self.device)
            else:
                message = "continued on %d ranks, saved by %d: replays are dealt anew, random numbers start anew"
                log.warning(message, self.ranks.size, len(found))
        self._reset_window()

    def on_train_epoch_start(self) -> None:
        self._reset_window()


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Of this process: PyTorch's on the host, and on ``device`` if that is a GPU."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _older(state: dict[str, Any]) -> dict[str, Tensor]:
    """The random state of a checkpoint from before there were ranks."""
    return {"cpu": state["rng"], **({"cuda": state["cuda_rng"][0]} if state["cuda_rng"] else {})}


def _restore(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
