"""Deterministic evaluation on environments of its own, spread over the cores."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.processes import cores
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.evaluation.players import Player, Worker, share, share_weights, split

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from lit_mtrl.envs.base import Suite
    from lit_mtrl.policies.base import Policy

PENDING = "best.ckpt.pending"
"""Name, beside ``best.ckpt``, of the checkpoint whose weights are being evaluated in the background."""


@dataclass(frozen=True)
class Episodes:
    """What an evaluation has found, per task and episode, each ``[T, E]``: success (0 or 1), undiscounted return,
    length in steps.
    """

    success: NDArray
    returns: NDArray
    lengths: NDArray


class Job:
    """An evaluation under way. Both methods raise `lit_mtrl.evaluation.players.EvaluationError` if one of the processes
    has died.

    ``out``: of this rank's share, zero elsewhere. ``tasks``: those whose results are wanted. All ``ranks`` call the
    methods.
    """

    def __init__(self, out: NDArray, workers: Sequence[Worker], ranks: Ranks, tasks: Sequence[int]):
        self._out, self._ranks, self._tasks = out, ranks, list(tasks)
        self._waiting = {worker.pipe: worker for worker in workers}
        for worker in workers:
            worker.play()

    def done(self) -> bool:
        """Whether `result` would return at once, on all ranks."""
        self._receive(0)
        return self._ranks.all(not self._waiting)

    def result(self) -> Episodes:
        """Wait until all episodes have been played."""
        while self._waiting:
            self._receive(None)
        return Episodes(*self._ranks.sum(torch.from_numpy(self._out)).numpy()[:, self._tasks])

    def _receive(self, timeout: float | None) -> None:
        for pipe in wait(list(self._waiting), timeout):
            worker = self._waiting[cast("Connection", pipe)]
            for part, values in zip(worker.parts, worker.answer(), strict=True):
                self._out[:, part.task, part.first : part.stop] = values
            del self._waiting[cast("Connection", pipe)]


def processes(workers: int, background: bool = False, ranks: int = 1) -> int:
    """Processes that play for each of ``ranks`` on this machine, of an `Evaluator` with ``workers``; 0 if this one
    does.
    """
    count = workers or max(1, cores(ranks) // (2 if background else 1))
    return 0 if count == 1 and not background else count


class Evaluator:
    """Plays ``episodes`` episodes of every task with the mean action; episode e starts on variation e mod their number.

    Where success is the score, an episode ends at its first success, as in Meta-World's protocol, so returns fall as a
    policy gets faster; where the return is, it goes on.
    ``workers``: processes, each playing an equal share of the episodes, started at the first evaluation and kept; 0 is
    one per core. 1 plays in this process. ``background``: leave room for training: 0 is one per two cores, and 1 is a
    process, too. ``ranks`` share the episodes, and the cores of this machine; each has ``workers``. ``tasks``: numbers
    of the suite's tasks whose results are wanted, in their order; None is all.

    NOTE: the results of some tasks are those of all tasks, bit for bit. Products of matrices are rounded differently in
    batches of other sizes, so a share in which one of them is played is played whole; shares without any of them are
    left out.
    """

    def __init__(
        self,
        suite: Suite,
        episodes: int = 50,
        workers: int = 0,
        background: bool = False,
        ranks: Ranks | None = None,
        tasks: Sequence[int] | None = None,
    ):
        self.suite, self.episodes, self._ranks = suite, episodes, ranks or Ranks()
        self.tasks = list(range(len(suite.tasks)) if tasks is None else tasks)
        rank, size = self._ranks.rank, self._ranks.size
        total = len(suite.tasks) * episodes
        require(size <= total, f"eval.episodes={episodes}: {total} episodes cannot be shared by {size} ranks")
        # Every rank must cut the episodes alike, however many cores it has.
        count = self._ranks.first(max(1, processes(workers, background, size)))
        count = min(count, total // size)
        shares = split(len(suite.tasks), episodes, count * size)[rank * count : (rank + 1) * count]
        self._shares = [share for share in shares if any(part.task in self.tasks for part in share)]
        self._here = count == 1 and not background
        self._actor: Policy | None = None
        self._workers: list[Worker] = []
        self._local: Player | None = None

    def submit(self, actor: Policy) -> Job:
        """Begin to evaluate a copy of the actor's present weights; the job before must have been awaited."""
        if self._actor is None:
            self._start(actor)
        assert self._actor is not None
        self._actor.load_state_dict(actor.state_dict())
        out = np.zeros((3, len(self.suite.tasks), self.episodes), np.float32)
        if self._local is not None:
            for part, values in zip(self._local.parts, self._local.play(), strict=True):
                out[:, part.task, part.first : part.stop] = values
        return Job(out, self._workers, self._ranks, self.tasks)

    def run(self, actor: Policy) -> Episodes:
        """Evaluate the actor's present weights."""
        return self.submit(actor).result()

    def _start(self, actor: Policy) -> None:
        self._actor = copy.deepcopy(actor).cpu().requires_grad_(False)
        if self._here:
            self._local = Player(self.suite, [part for share in self._shares for part in share], self._actor)
        else:
            suite, shared = share(self.suite), share_weights(self._actor)
            for parts in self._shares:
                names = ", ".join(self.suite.tasks[part.task] for part in parts)
                self._workers.append(Worker(suite, parts, shared, names))

    def close(self) -> None:
        """End the worker processes; what they are playing is lost."""
        for worker in self._workers:
            worker.close()
        if self._local is not None:
            self._local.close()
        self._workers, self._local, self._actor = [], None, None


def read_scores(table: Path, score: str) -> dict[int, list[float]]:
    """Frames to the ``success`` or ``return`` of each task, from an ``eval.csv``; empty if there is none."""
    found: dict[int, list[float]] = {}
    if table.exists():
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(int(row["frames"]), []).append(float(row[score]))
    return found
