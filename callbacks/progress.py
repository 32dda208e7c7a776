"""A progress bar in frames."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import lightning
from tqdm import tqdm

from lit_mtrl.data.module import DataModule
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback

DIGITS = {"success": 2, "return": 1}
TERMINAL_SECONDS, FILE_SECONDS = 0.5, 30


class Progress(Callback):
    """Frames and time left, frames/s, updates/s, training and evaluation score; one line per half minute where there
    is no terminal.

    It ends where standard error cannot be written to any more, because a pipe's reader or the terminal has gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm | None = None
        self._shown: dict[str, tuple[str, int]] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, DataModule)
        if not trainer.is_global_zero:
            return
        score = data.suite.score
        self._shown = {
            "updates/s": ("speed/updates_per_second", 0),
            "train": (f"train/{score}", DIGITS[score]),
            "eval": (f"eval/{score}", DIGITS[score]),
        }
        every = TERMINAL_SECONDS if sys.stderr.isatty() else FILE_SECONDS
        with suppress(OSError):
            self.bar = tqdm(
                total=data.budget,
                initial=data.frames,
                unit=" frames",
                unit_scale=True,
                mininterval=every,
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Agent, *args: Any) -> None:
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        self._show(trainer, pl_module)  # the last evaluation

    def _show(self, trainer: lightning.Trainer, agent: Agent) -> None:
        if self.bar is not None:
            latest = {**agent.latest, **trainer.callback_metrics}
            shown = {name: f"{latest[key]:.{digits}f}" for name, (key, digits) in self._shown.items() if key in latest}
            self.bar.set_postfix(shown, refresh=False)
            try:
                self.bar.update(agent.frames - self.bar.n)
            except OSError:
                self.bar.disable, self.bar = True, None

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()
            self.bar = None
