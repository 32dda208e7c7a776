"""Checkpoints that a run can be continued from exactly: ``last.ckpt`` with its sidecar ``last/``, and ``best.ckpt``.

Both halves of ``last`` are written under temporary names, synced and renamed, the sidecar first; its manifest has the
checksums of both (`lit_mtrl.core.manifest`). So whenever the process is killed, one whole pair exists. The pair before
stays as ``last.ckpt.old`` and ``last.old/`` until the next is written, for the case that files get damaged: two pairs
are the most that the disk holds at any time.

Weights that are evaluated in the background wait in ``best.ckpt.pending`` until their rows are in ``eval.csv``; then
they become ``best.ckpt``, or go. A run that is killed before that settles it when it is continued. Both files are
written before the ``last.ckpt`` of the same frames.

With several ranks each writes its replay, rank 0 everything else, and rank 0 decides.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from lit_mtrl.core.files import Sum, checksum, remove, replacing, sync
from lit_mtrl.core.manifest import replay_folder, write_manifest
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.tables import summary
from lit_mtrl.data.module import DataModule
from lit_mtrl.evaluation.evaluator import PENDING, read_scores
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback
from lit_mtrl.training.checkpoint import keep, load


class Checkpoint(Callback, LightningCheckpoint):  # Lightning's, so that it adds none of its own, and calls it last
    """In the run's folder: ``checkpoints/last.ckpt`` and ``checkpoints/last/`` every ``every_epochs`` epochs and at the
    end, ``checkpoints/best.ckpt`` whenever the evaluation is the best so far: the mean over tasks
    of the suite's score, success or return.

    At the end both checkpoints go to every logger that takes artifacts.
    """

    key = "callbacks.checkpoint"

    def __init__(self, every_epochs: int = 1):
        super().__init__(every_epochs)
        self.best = float("-inf")
        self._pending: int | None = None
        """Frames of ``best.ckpt.pending``."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        if trainer.is_global_zero:
            self._look_back(self.folder(trainer), pl_module.frames, _score(trainer))
        self.best, self._pending = trainer.strategy.broadcast((self.best, self._pending))
        self._settle(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        self._settle(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        self._settle(trainer)
        folder = self.folder(trainer) / "checkpoints"
        score = float(trainer.callback_metrics.get(f"eval/{_score(trainer)}", float("-inf")))
        improved = score > self.best
        self.best = max(self.best, score)
        evaluating = _evaluating(trainer) == pl_module.frames
        if improved or self.due(trainer):
            copied = folder / "best.ckpt" if improved else folder / PENDING if evaluating else None
            _save_last(folder, trainer, pl_module.frames, copied)
        elif evaluating:
            folder.mkdir(exist_ok=True)
            trainer.save_checkpoint(folder / f"{PENDING}.new", weights_only=False)
            if trainer.is_global_zero:
                (folder / f"{PENDING}.new").replace(folder / PENDING)
                sync(folder)
        if evaluating:
            self._pending = pl_module.frames

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._settle(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for path in sorted((self.folder(trainer) / "checkpoints").glob("*.ckpt")):
            self.log_artifact(trainer, path, "checkpoints")

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best = state_dict["best"]

    def _settle(self, trainer: lightning.Trainer) -> None:
        """Keep the pending weights if they are the best, and remove them if not, once they have been evaluated."""
        if self._pending is None or self._pending == _evaluating(trainer):
            return
        if trainer.is_global_zero:
            folder = self.folder(trainer)
            score = _mean(read_scores(folder / "eval.csv", _score(trainer))[self._pending])
            if score > self.best:
                self.best = score
                (folder / "checkpoints" / PENDING).replace(folder / "checkpoints" / "best.ckpt")
            else:
                (folder / "checkpoints" / PENDING).unlink()
        self.best, self._pending = trainer.strategy.broadcast(self.best), None

    def _look_back(self, folder: Path, done: int, score: str) -> None:
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
        scores = read_scores(folder / "eval.csv", score)
        # An evaluation may have come after the checkpoint was written.
        self.best = max([self.best, *(_mean(scores[frames]) for frames in scores if frames != self._pending)])


def _evaluating(trainer: lightning.Trainer) -> int | None:
    """Frames of the weights that are being evaluated in the background."""
    frames = trainer.callback_metrics.get("eval/pending")
    return None if frames is None else int(frames)


def _score(trainer: lightning.Trainer) -> str:
    return trainer.datamodule.suite.score  # pyright: ignore[reportAttributeAccessIssue]


def _mean(scores: list[float]) -> float:
    """As ``eval/<score>`` has it, in single precision."""
    return float(torch.tensor(sum(scores) / len(scores)))


def _sums(module: DataModule, sidecar: Path, ranks: Ranks) -> dict[str, Sum]:
    """Write every rank's replay; sizes and checksums by name in ``sidecar``. Where one rank cannot, all raise its
    `OSError`.
    """
    own = replay_folder(sidecar, ranks.rank)
    try:
        found = {f"{own.name}/{name}": value for name, value in module.buffer.dumps(own).items()}
    except OSError as error:
        found = error
    everyone = ranks.gather(found)
    for error in everyone:
        if isinstance(error, OSError):
            raise error
    return {name: value for part in everyone if isinstance(part, dict) for name, value in part.items()}


def _save_last(folder: Path, trainer: lightning.Trainer, frames: int, copied: Path | None) -> None:
    """Write both halves of ``last``, and before they count a copy of ``last.ckpt`` to ``copied``: after a kill, it
    would not be made again.
    """
    module = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(module, DataModule)
    sidecar, new, old = (folder / name for name in ("last", "last.new", "last.old"))
    path, path_new, path_old = (folder / name for name in ("last.ckpt", "last.ckpt.new", "last.ckpt.old"))
    if trainer.is_global_zero:
        if module.resumed is not None:
            keep(folder, module.resumed)
        for left in (new, path_new, old, path_old):  # the oldest now, so that there is room
            remove(left)
        new.mkdir(parents=True)
    module.resumed = None
    trainer.strategy.barrier()
    try:
        sums = _sums(module, new, Ranks.here())
        trainer.save_checkpoint(path_new, weights_only=False)  # returns when all ranks have come here
        if not trainer.is_global_zero:
            return
        write_manifest(new, _manifest(folder, trainer.world_size, frames, sums))
        if copied is not None:
            with replacing(copied) as temporary:
                shutil.copyfile(path_new, temporary)
    except OSError:
        if trainer.is_global_zero:
            for left in (new, path_new):
                remove(left)
        raise
    if sidecar.exists():
        sidecar.rename(old)
    new.rename(sidecar)
    if path.exists():
        path.replace(path_old)
    path_new.replace(path)
    sync(folder)


def _manifest(folder: Path, ranks: int, frames: int, sums: dict[str, Sum]) -> dict[str, Any]:
    """Of ``last.ckpt.new``, and of the run's tables and configuration as they are now."""
    run = folder.parent
    tables = {table.name: held for table in sorted(run.glob("*.csv")) if (held := summary(table))}
    config = checksum(run / "config.yaml") if (run / "config.yaml").exists() else None
    about = {"frames": frames, "ranks": ranks, "checkpoint": checksum(folder / "last.ckpt.new")}
    return {**about, "files": sums, "tables": tables, "config": config}
