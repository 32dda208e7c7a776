"""Evaluates the deterministic policy at epoch ends and writes ``eval.csv``."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from lit_mtrl.core.errors import require
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.tables import append_rows, keep_rows_until
from lit_mtrl.envs.base import Suite
from lit_mtrl.evaluation.evaluator import PENDING, Episodes, Evaluator, Job, read_scores
from lit_mtrl.evaluation.official import OfficialEvaluator
from lit_mtrl.policies.base import Policy
from lit_mtrl.training.agent import Agent
from lit_mtrl.training.callback import Callback
from lit_mtrl.training.checkpoint import load
from lit_mtrl.training.weights import load_algorithm

COLUMNS = ("task", "success", "return", "length")
DIGITS = {"success": (3, 2), "return": (1, 1)}
"""Of a score in the log: of the mean over tasks, and of one task."""
PROTOCOLS = {"every_goal": Evaluator, "official": OfficialEvaluator}
LONG = 1.0
"""Seconds; training that waits longer for an evaluation in the background says so."""

log = logging.getLogger("lit_mtrl")


@dataclass
class _Pending:
    frames: int
    job: Job
    started: float
    held: float
    """Seconds for which it has held training up."""


class Evaluation(Callback):
    """Every ``every_epochs`` epochs and at the end: one row per task in ``eval.csv``, and ``eval/*`` to the loggers.

    The suite's score (success or return) goes to the loggers per task, too, and
    ``trainer.callback_metrics["eval/<score>"]`` hands its mean over tasks to other callbacks. Of a suite that is judged
    by return no success is logged; it is 0 in ``eval.csv``. ``time/evaluation`` is the time that training was held up.
    Several ranks share the episodes out; all get the result.

    In the background a copy of the weights is evaluated while training goes on, one at a time: an evaluation that is
    due waits for the one before, and the last for its own result. Results carry the frames of the copy. While one is
    under way ``trainer.callback_metrics["eval/pending"]`` holds these frames; `lit_mtrl.callbacks.checkpoint` keeps the
    weights, and if the run is killed, its continuation evaluates them again.

    episodes: of each task.
    workers: processes that play; 0 is one per core.
    protocol: ``every_goal`` is `lit_mtrl.evaluation.evaluator.Evaluator`; ``official`` is Meta-World's own
        ``evaluation()``, which cannot be in the background.
    background: evaluate beside the training instead of holding it up.
    """

    key = "eval"

    def __init__(
        self,
        every_epochs: int = 1,
        episodes: int = 50,
        workers: int = 0,
        protocol: str = "every_goal",
        background: bool = False,
    ):
        super().__init__(every_epochs)
        require(episodes > 0, f"eval.episodes={episodes}: play at least one episode per task")
        require(workers >= 0, f"eval.workers={workers}: 0 for one per core, or a positive number")
        require(protocol in PROTOCOLS, unknown("eval.protocol", protocol, PROTOCOLS))
        require(
            not background or protocol == "every_goal",
            f"eval.background=true: eval.protocol={protocol} holds training up; use every_goal, or background=false",
        )
        self.episodes, self.workers, self.protocol, self.background = episodes, workers, protocol, background
        self.evaluator: Evaluator | OfficialEvaluator | None = None
        self._pending: _Pending | None = None

    def evaluate(self, suite: Suite, policy: Policy, tasks: Sequence[int] | None = None) -> list[dict]:
        """One mapping per task: its name, mean success, return and length.

        suite: makes the environments.
        policy: acts in them by its mode.
        tasks: numbers of those of the suite's tasks whose results are wanted; None is all.
        """
        if self.evaluator is None:
            protocol = PROTOCOLS[self.protocol]
            self.evaluator = protocol(suite, self.episodes, self.workers, ranks=Ranks.here(), tasks=tasks)
        assert self.evaluator is not None
        return _rows([suite.tasks[task] for task in self.evaluator.tasks], self.evaluator.run(policy))

    def close(self) -> None:
        """End the evaluation's processes and environments; an evaluation under way is given up."""
        self._pending = None
        if self.evaluator is not None:
            self.evaluator.close()
            self.evaluator = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        """Evaluate again what was being evaluated when the run was killed."""
        folder = self.folder(trainer)
        if not trainer.strategy.broadcast(trainer.is_global_zero and _lost(folder, pl_module)):
            return
        path = folder / "checkpoints" / PENDING
        checkpoint = load(path, "--resume")
        frames = checkpoint["lit_mtrl"]["frames"]
        algorithm = copy.deepcopy(pl_module.algorithm).cpu()
        load_algorithm(algorithm, checkpoint, f"--resume {path}")
        if trainer.is_global_zero:
            keep_rows_until(folder / "eval.csv", frames - 1)
        log.info("%s frames: evaluated again, since the run ended meanwhile", f"{frames:,}")
        self._begin(trainer, frames, algorithm.policy)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if self._pending is not None and self._pending.job.done():
            self._await(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Agent) -> None:
        if not self.due(trainer):
            return
        if self._pending is not None and (waited := self._await(trainer)) > LONG:
            message = (
                "training waited %.0f s for the evaluation before: fewer eval.episodes, or a larger eval.every_epochs"
            )
            log.info(message, waited)
        self._begin(trainer, pl_module.frames, pl_module.algorithm.policy)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self._await(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._await(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.close()

    def _begin(self, trainer: lightning.Trainer, frames: int, policy: Policy) -> None:
        """Evaluate the present weights of a policy, which are those at ``frames``; in the background, return at
        once.
        """
        start = time.perf_counter()
        suite = trainer.datamodule.suite  # pyright: ignore[reportAttributeAccessIssue]
        if not self.background:
            rows = self.evaluate(suite, policy)
            seconds = time.perf_counter() - start
            self._report(trainer, frames, rows, seconds, seconds)
            return
        if self.evaluator is None:
            self.evaluator = Evaluator(suite, self.episodes, self.workers, background=True, ranks=Ranks.here())
        assert isinstance(self.evaluator, Evaluator)
        job = self.evaluator.submit(policy)
        self._pending = _Pending(frames, job, start, time.perf_counter() - start)
        trainer.callback_metrics["eval/pending"] = torch.tensor(frames)

    def _await(self, trainer: lightning.Trainer) -> float:
        """Report the evaluation under way, if there is one, when it is there; returns the seconds waited."""
        if self._pending is None:
            return 0.0
        start = time.perf_counter()
        suite = trainer.datamodule.suite  # pyright: ignore[reportAttributeAccessIssue]
        rows = _rows(suite.tasks, self._pending.job.result())
        pending, self._pending = self._pending, None
        waited, seconds = time.perf_counter() - start, time.perf_counter() - pending.started
        self._report(trainer, pending.frames, rows, pending.held + waited, seconds)
        del trainer.callback_metrics["eval/pending"]
        return waited

    def _report(self, trainer: lightning.Trainer, frames: int, rows: list[dict], held: float, seconds: float) -> None:
        """``held``: seconds for which training was held up; ``seconds`` that the evaluation took."""
        if trainer.is_global_zero:
            append_rows(self.folder(trainer) / "eval.csv", [{"frames": frames, **row} for row in rows])
        score = trainer.datamodule.suite.score  # pyright: ignore[reportAttributeAccessIssue]
        metrics = {"eval/" + key: sum(row[key] for row in rows) / len(rows) for key in COLUMNS[1:]}
        if score != "success":
            del metrics["eval/success"]
        metrics.update({f"eval/{score}/{row['task']}": row[score] for row in rows})
        metrics["time/evaluation"] = held
        self.log_metrics(trainer, metrics, frames)
        trainer.callback_metrics[f"eval/{score}"] = torch.tensor(metrics[f"eval/{score}"])
        of_mean, of_task = DIGITS[score]
        log.info(
            "%s frames: evaluation %s %.*f in %.0f s (%s)",
            f"{frames:,}",
            score,
            of_mean,
            metrics[f"eval/{score}"],
            seconds,
            " ".join(f"{row['task']} {row[score]:.{of_task}f}" for row in rows),
        )


def _lost(folder: Path, agent: Agent) -> bool:
    """Whether there are weights whose evaluation was under way when the run was killed."""
    if not (folder / "checkpoints" / PENDING).exists():
        return False
    frames = load(folder / "checkpoints" / PENDING, "--resume")["lit_mtrl"]["frames"]
    complete = len(read_scores(folder / "eval.csv", "success").get(frames, [])) == len(agent.tasks)
    return not complete and frames <= agent.frames


def _rows(tasks: Sequence[str], result: Episodes) -> list[dict]:
    means = [x.mean(-1).tolist() for x in (result.success, result.returns, result.lengths)]
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(tasks, *means, strict=True)]
