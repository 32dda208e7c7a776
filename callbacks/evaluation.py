"""Evaluates the deterministic policy at epoch ends and writes ``eval.csv``."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import lightning
import torch

from lit_mtrl.agent import Agent
from lit_mtrl.envs.base import Suite
from lit_mtrl.evaluate import Evaluator, OfficialEvaluator
from lit_mtrl.policies import TanhGaussian
from lit_mtrl.spec import require
from lit_mtrl.suggest import unknown
from lit_mtrl.tables import append_rows

COLUMNS = ("task", "success", "return", "length")
PROTOCOLS = {"every_goal": Evaluator, "official": OfficialEvaluator}


class Evaluation(lightning.Callback):
    """Every ``every_epochs`` epochs and at the end: one row per task in ``eval.csv``, and ``eval/*`` to the loggers.

    ``protocol``: ``every_goal`` is `lit_mtrl.evaluate.Evaluator`; ``official`` runs Meta-World's own ``evaluation()``. ``episodes`` per
    task, ``workers`` processes. ``trainer.callback_metrics["eval/success"]`` hands the mean success to other callbacks.
    """

    def __init__(self, every_epochs: int = 1, episodes: int = 50, workers: int = 0, protocol: str = "every_goal"):
        require(every_epochs > 0, f"eval.every_epochs={every_epochs}: evaluate once in so many epochs, 1 or more")
        require(episodes > 0, f"eval.episodes={episodes}: play at least one episode per task")
        require(workers >= 0, f"eval.workers={workers}: 0 for one per core, or a positive number")
        require(protocol in PROTOCOLS, unknown("eval.protocol", protocol, PROTOCOLS))
        self.every_epochs, self.episodes, self.workers, self.protocol = every_epochs, episodes, workers, protocol
        self.evaluator: Evaluator | OfficialEvaluator | None = None

    def evaluate(self, suite: Suite, actor: TanhGaussian) -> list[dict]:
        """One mapping per task: its name, mean success, return and length."""
        self.evaluator = self.evaluator or PROTOCOLS[self.protocol](suite, self.episodes, self.workers)
        result = self.evaluator.run(actor)
        means = [x.mean(-1).tolist() for x in (result.success, result.returns, result.lengths)]
        return [dict(zip(COLUMNS, row, strict=True)) for row in zip(suite.tasks, *means, strict=True)]

    def close(self) -> None:
        """End the evaluation's processes and environments."""
        if self.evaluator is not None:
            self.evaluator.close()
            self.evaluator = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if (trainer.current_epoch + 1) % self.every_epochs and not last:
            return
        start = time.perf_counter()
        suite = trainer.datamodule.suite  # pyright: ignore[reportAttributeAccessIssue]
        rows = self.evaluate(suite, pl_module.algorithm.actor)
        table = [{"frames": pl_module.frames, **row} for row in rows]
        append_rows(Path(trainer.default_root_dir) / "eval.csv", table)
        metrics = {"eval/" + key: sum(row[key] for row in rows) / len(rows) for key in COLUMNS[1:]}
        metrics.update({f"eval/success/{row['task']}": row["success"] for row in rows})
        metrics["time/evaluation"] = time.perf_counter() - start
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=pl_module.frames)
        trainer.callback_metrics["eval/success"] = torch.tensor(metrics["eval/success"])
        logging.getLogger("lit_mtrl").info(
            "%s frames: evaluation success %.3f in %.0f s (%s)",
            f"{pl_module.frames:,}",
            metrics["eval/success"],
            metrics["time/evaluation"],
            " ".join(f"{row['task']} {row['success']:.2f}" for row in rows),
        )

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.close()
