"""Evaluates the deterministic policy at epoch ends and writes ``eval.csv``."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import lightning

from lit_mtrl.agent import Agent
from lit_mtrl.evaluate import Evaluation as Result
from lit_mtrl.evaluate import Evaluator
from lit_mtrl.spec import require

COLUMNS = ("frames", "task", "success", "return", "length")


class Evaluation(lightning.Callback):
    """Every ``every_epochs`` epochs: one row per task in ``<folder>/eval.csv`` and ``eval/*`` to the loggers.

    ``trainer.callback_metrics["eval/success"]`` holds the latest mean success for other callbacks.
    """

    def __init__(self, folder: str | Path, every_epochs: int = 1, episodes: int = 50, workers: int = 0):
        require(every_epochs > 0, f"eval.every_epochs={every_epochs}: evaluate once in so many epochs, 1 or more")
        self.every_epochs, self.episodes, self.workers = every_epochs, episodes, workers
        self.path = Path(folder) / "eval.csv"
        self.evaluator: Evaluator | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        self.evaluator = Evaluator(trainer.datamodule.suite, self.episodes, self.workers)
        keep_rows_until(self.path, pl_module.frames)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if (trainer.current_epoch + 1) % self.every_epochs and not last:
            return
        start = time.perf_counter()
        assert self.evaluator is not None
        result = self.evaluator.run(pl_module.algorithm.actor)
        rows = rows_of(result, pl_module.tasks)
        self._write(pl_module.frames, rows)
        metrics = {"eval/" + key: float(sum(row[key] for row in rows) / len(rows)) for key in COLUMNS[2:]}
        metrics.update({f"eval/success/{row['task']}": row["success"] for row in rows})
        metrics["time/evaluation"] = time.perf_counter() - start
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=pl_module.frames)
        trainer.callback_metrics["eval/success"] = metrics["eval/success"]  # pyright: ignore[reportArgumentType]

    def _write(self, frames: int, rows: list[dict]) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerows({"frames": frames, **row} for row in rows)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self.evaluator is not None:
            self.evaluator.close()


def rows_of(result: Result, tasks: list[str]) -> list[dict]:
    """One mapping per task: its name, mean success, return and length."""
    means = [x.mean(-1).tolist() for x in (result.success, result.returns, result.lengths)]
    return [dict(zip(COLUMNS[1:], row, strict=True)) for row in zip(tasks, *means, strict=True)]


def keep_rows_until(path: Path, frames: int) -> None:
    """Drop what a CSV file holds beyond ``frames``: rows of a run that was killed after its last checkpoint."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = reader.fieldnames or [], [row for row in reader if row["frames"] and int(row["frames"]) <= frames]
    temporary = path.with_suffix(".new")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
