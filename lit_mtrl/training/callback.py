"""The base of callbacks: what watches a run, or steps in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import lightning

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.training.agent import Agent


class Callback(lightning.Callback):
    """A Lightning callback that knows how often it is due, and where its results go.

    It writes Lightning's hooks that it needs, such as ``on_train_batch_end``, after each iteration, and
    ``on_train_epoch_end``, after each epoch and its evaluation; ``pl_module`` is the `Agent`. With several ranks, all
    call all hooks; the first, ``trainer.is_global_zero``, writes files.

    key: where its values are in the configuration, as error messages name it.
    every_epochs: act once in so many epochs, and at the end; `ConfigError` unless it is 1 or more.
    """

    key: ClassVar[str] = "callbacks.*"

    def __init__(self, every_epochs: int = 1):
        require(every_epochs > 0, f"{self.key}.every_epochs={every_epochs}: 1 or more")
        self.every_epochs = every_epochs

    def check(self, agent: Agent) -> None:
        """Asked when the run is built, before anything is written; raises `ConfigError` if it cannot work with it."""

    def due(self, trainer: lightning.Trainer) -> bool:
        """Whether it is to act in the present epoch: one of every ``every_epochs``, or the last."""
        epoch = trainer.current_epoch + 1
        return epoch % self.every_epochs == 0 or epoch == trainer.max_epochs

    def folder(self, trainer: lightning.Trainer) -> Path:
        """The run's folder."""
        return Path(trainer.default_root_dir)

    def log_metrics(self, trainer: lightning.Trainer, metrics: Mapping[str, float], frames: int) -> None:
        """Send metrics to every logger; ``self.log`` is Lightning's, whose x-axis is not frames.

        metrics: numbers by name, such as ``eval/success``.
        frames: environment steps at which they were measured, summed over tasks: the x-axis.

        Raises `ConfigError` for what is no number.
        """
        numbers = {}
        for name, value in metrics.items():
            try:
                numbers[name] = value if isinstance(value, int) else float(value)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self.key}: log_metrics: {name}={value!r:.100}: a metric is a number") from error
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=frames)

    def log_artifact(self, trainer: lightning.Trainer, path: Path, folder: str) -> None:
        """Send a file to every logger that takes files.

        path: of the file, which exists.
        folder: among the run's artifacts.
        """
        for logger in trainer.loggers:
            if hasattr(logger, "log_artifact"):
                logger.log_artifact(path, folder)  # pyright: ignore[reportAttributeAccessIssue]
