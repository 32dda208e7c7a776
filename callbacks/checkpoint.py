"""Checkpoints that a run can be continued from exactly: ``last.ckpt`` with its sidecar ``last/``, and ``best.ckpt``.

Both halves of ``last`` are written under temporary names and renamed, the sidecar first; each names the frames it belongs to, and the
previous sidecar stays until the new ``last.ckpt`` is in place. So whenever the process is killed, one matching pair exists.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from lit_mtrl.agent import Agent
from lit_mtrl.checkpoint import MANIFEST
from lit_mtrl.data.module import DataModule
from lit_mtrl.spec import require


class Checkpoint(LightningCheckpoint):
    """In the run's folder: ``checkpoints/last.ckpt`` and ``checkpoints/last/`` every ``every_epochs`` epochs and at the end,
    ``checkpoints/best.ckpt`` whenever the mean evaluation success is the best so far.

    At the end both checkpoints go to every logger that takes artifacts.
    """

    def __init__(self, every_epochs: int = 1):
        require(every_epochs > 0, f"callbacks.checkpoint.every_epochs={every_epochs}: 1 or more")
        self.every_epochs = every_epochs
        self.best = float("-inf")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        score = float(trainer.callback_metrics.get("eval/success", float("-inf")))
        improved = score > self.best
        self.best = max(self.best, score)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if improved or last or (trainer.current_epoch + 1) % self.every_epochs == 0:
            _save_last(folder, trainer, pl_module.frames)
        if improved:
            new = folder / "best.ckpt.new"
            shutil.copyfile(folder / "last.ckpt", new)
            new.replace(folder / "best.ckpt")

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for path in sorted(Path(trainer.default_root_dir, "checkpoints").glob("*.ckpt")):
            for logger in trainer.loggers:
                if hasattr(logger, "log_artifact"):
                    logger.log_artifact(path, "checkpoints")  # pyright: ignore[reportAttributeAccessIssue]

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best = state_dict["best"]


def _save_last(folder: Path, trainer: lightning.Trainer, frames: int) -> None:
    module = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(module, DataModule) and module.replay is not None
    sidecar, new, old = (folder / name for name in ("last", "last.new", "last.old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    module.replay.dumps(new / "replay")
    (new / MANIFEST).write_text(json.dumps({"frames": frames}))
    trainer.save_checkpoint(folder / "last.ckpt.new", weights_only=False)
    shutil.rmtree(old, ignore_errors=True)
    if sidecar.exists():
        sidecar.rename(old)
    new.rename(sidecar)
    (folder / "last.ckpt.new").replace(folder / "last.ckpt")
    shutil.rmtree(old, ignore_errors=True)
