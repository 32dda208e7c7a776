"""Checkpoints that a run can be continued from exactly: ``last.ckpt`` with its sidecar ``last/``, and ``best.ckpt``.

Both halves of ``last`` are written under temporary names and renamed, the sidecar first; each names the frames it belongs to, and the
previous sidecar stays until the new ``last.ckpt`` is in place. So whenever the process is killed, one matching pair exists.

Weights that are evaluated in the background wait in ``best.ckpt.pending`` until their rows are in ``eval.csv``; then they become ``best.ckpt``,
or go. A run that is killed before that settles it when it is continued. Both files are written before the ``last.ckpt`` of the same frames.

With several ranks each writes its replay, rank 0 everything else, and rank 0 decides.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from lit_mtrl.agent import Agent
from lit_mtrl.checkpoint import MANIFEST, load, replay_folder
from lit_mtrl.data.module import DataModule
from lit_mtrl.evaluate import PENDING, read_success
from lit_mtrl.spec import require
from lit_mtrl.tables import to_json


class Checkpoint(LightningCheckpoint):
    """In the run's folder: ``checkpoints/last.ckpt`` and ``checkpoints/last/`` every ``every_epochs`` epochs and at the end,
    ``checkpoints/best.ckpt`` whenever the mean evaluation success is the best so far.

    At the end both checkpoints go to every logger that takes artifacts.
    """

    def __init__(self, every_epochs: int = 1):
        require(every_epochs > 0, f"callbacks.checkpoint.every_epochs={every_epochs}: 1 or more")
        self.every_epochs = every_epochs
        self.best = float("-inf")
        self._pending: int | None = None
        """Frames of ``best.ckpt.pending``."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        if trainer.is_global_zero:
            self._look_back(Path(trainer.default_root_dir), pl_module.frames)
        self.best, self._pending = trainer.strategy.broadcast((self.best, self._pending))
        self._settle(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        self._settle(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        self._settle(trainer)
        folder = Path(trainer.default_root_dir) / "checkpoints"
        score = float(trainer.callback_metrics.get("eval/success", float("-inf")))
        improved = score > self.best
        self.best = max(self.best, score)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        evaluating = _evaluating(trainer) == pl_module.frames
        if improved or last or (trainer.current_epoch + 1) % self.every_epochs == 0:
            copied = folder / "best.ckpt" if improved else folder / PENDING if evaluating else None
            _save_last(folder, trainer, pl_module.frames, copied)
        elif evaluating:
            folder.mkdir(exist_ok=True)
            trainer.save_checkpoint(folder / f"{PENDING}.new", weights_only=False)
            if trainer.is_global_zero:
                (folder / f"{PENDING}.new").replace(folder / PENDING)
        if evaluating:
            self._pending = pl_module.frames

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._settle(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for path in sorted(Path(trainer.default_root_dir, "checkpoints").glob("*.ckpt")):
            for logger in trainer.loggers:
                if hasattr(logger, "log_artifact"):
                    logger.log_artifact(path, "checkpoints")  # pyright: ignore[reportAttributeAccessIssue]

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best = state_dict["best"]

    def _settle(self, trainer: lightning.Trainer) -> None:
        """Keep the pending weights if they are the best, and remove them if not, once they have been evaluated."""
        if self._pending is None or self._pending == _evaluating(trainer):
            return
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            score = _mean(read_success(folder / "eval.csv")[self._pending])
            if score > self.best:
                self.best = score
                (folder / "checkpoints" / PENDING).replace(folder / "checkpoints" / "best.ckpt")
            else:
                (folder / "checkpoints" / PENDING).unlink()
        self.best, self._pending = trainer.strategy.broadcast(self.best), None

    def _look_back(self, folder: Path, done: int) -> None:
        """What a run that is continued at ``done`` frames has left."""
        pending = folder / "checkpoints" / PENDING
        for unfinished in pending.parent.glob("best.ckpt*.new"):
            unfinished.unlink()
        if pending.exists():
            frames = load(pending, "--resume")["lit_mtrl"]["frames"]
            if frames > done:  # the continuation will come there again
                pending.unlink()
            else:
                self._pending = frames
        scores = read_success(folder / "eval.csv")
        # An evaluation may have come after the checkpoint was written.
        self.best = max([self.best, *(_mean(scores[frames]) for frames in scores if frames != self._pending)])


def _evaluating(trainer: lightning.Trainer) -> int | None:
    """Frames of the weights that are being evaluated in the background."""
    frames = trainer.callback_metrics.get("eval/pending")
    return None if frames is None else int(frames)


def _mean(success: list[float]) -> float:
    """As ``eval/success`` has it, in single precision."""
    return float(torch.tensor(sum(success) / len(success)))


def _save_last(folder: Path, trainer: lightning.Trainer, frames: int, copied: Path | None) -> None:
    """Write both halves of ``last``, and before they count a copy of ``last.ckpt`` to ``copied``: after a kill, it would not be made again."""
    module = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(module, DataModule) and module.replay is not None
    sidecar, new, old = (folder / name for name in ("last", "last.new", "last.old"))
    if trainer.is_global_zero:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        (new / MANIFEST).write_text(to_json({"frames": frames, "ranks": trainer.world_size}))
    trainer.strategy.barrier()
    module.replay.dumps(replay_folder(new, trainer.global_rank))
    trainer.save_checkpoint(folder / "last.ckpt.new", weights_only=False)  # returns when all ranks have come here
    if not trainer.is_global_zero:
        return
    if copied is not None:
        temporary = copied.with_name(f"{copied.name}.new")
        shutil.copyfile(folder / "last.ckpt.new", temporary)
        temporary.replace(copied)
    shutil.rmtree(old, ignore_errors=True)
    if sidecar.exists():
        sidecar.rename(old)
    new.rename(sidecar)
    (folder / "last.ckpt.new").replace(folder / "last.ckpt")
    shutil.rmtree(old, ignore_errors=True)
