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
from lit_mtrl.data.module import DataModule
from lit_mtrl.spec import ConfigError, require

MANIFEST = "manifest.json"


class Checkpoint(LightningCheckpoint):
    """Writes ``<folder>/last.ckpt`` and ``<folder>/last/`` every ``every_epochs`` epochs, ``best.ckpt`` at the best evaluation."""

    def __init__(self, folder: str | Path, every_epochs: int = 1):
        require(every_epochs > 0, f"callbacks.checkpoint.every_epochs={every_epochs}: 1 or more")
        self.folder, self.every_epochs = Path(folder), every_epochs
        self.best = float("-inf")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        score = float(trainer.callback_metrics.get("eval/success", float("-inf")))
        improved = score > self.best
        self.best = max(self.best, score)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if improved or last or (trainer.current_epoch + 1) % self.every_epochs == 0:
            self._save_last(trainer, pl_module.frames)
        if improved:
            new = self.folder / "best.ckpt.new"
            shutil.copyfile(self.folder / "last.ckpt", new)
            new.replace(self.folder / "best.ckpt")

    def _save_last(self, trainer: lightning.Trainer, frames: int) -> None:
        module = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(module, DataModule) and module.replay is not None
        sidecar, new, old = (self.folder / name for name in ("last", "last.new", "last.old"))
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        module.replay.dumps(new / "replay")
        (new / MANIFEST).write_text(json.dumps({"frames": frames}))
        trainer.save_checkpoint(self.folder / "last.ckpt.new")
        shutil.rmtree(old, ignore_errors=True)
        if sidecar.exists():
            sidecar.rename(old)
        new.rename(sidecar)
        (self.folder / "last.ckpt.new").replace(self.folder / "last.ckpt")
        shutil.rmtree(old, ignore_errors=True)

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best = state_dict["best"]


def find_sidecar(folder: Path, frames: int) -> Path:
    """The sidecar in ``folder`` that belongs to the checkpoint at ``frames``; `ConfigError` if there is none."""
    for name in ("last", "last.old", "last.new"):
        manifest = folder / name / MANIFEST
        if manifest.exists() and json.loads(manifest.read_text())["frames"] == frames:
            return folder / name
    raise ConfigError(f"{folder}/last: no replay belongs to last.ckpt at {frames} frames; the run cannot be resumed exactly")
