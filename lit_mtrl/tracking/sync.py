"""A queue that agrees with the store and with ``metrics.csv``, when a run is continued."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lit_mtrl.tracking.queue import Points, Queue, State, logged

log = logging.getLogger(__name__)

KEY = 250
"""MLflow's limit of the characters of a name."""


@cache
def key_of(text: str) -> str:
    """The name that MLflow allows: other characters become ``_``."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:KEY]


def opened(client: Any, queue: Queue, run: str, done: int, new: bool) -> State:
    """What the queue of ``run`` holds, opened for a process that goes on at ``done`` frames; ``new``: the run has
    just been made, and the queue.

    A queue holds every point of ``metrics.csv``. Where that is not so, or the queue is missing or damaged, it is made
    anew from what the store says that it has. Points until ``done`` that are nowhere but in ``metrics.csv`` are
    queued.
    """
    table = queue.path.with_name("metrics.csv")
    state = queue.load(repair=True)
    if state is None or state.run != run or (not new and any(_lacking(table, state.points))):
        if queue.path.exists() or table.exists():
            message = "MLflow: %s is missing, damaged or of another run; made anew from the store and metrics.csv"
            log.warning(message, queue.path)
        _rebuild(client, queue, run)
        state = queue.load()
        assert state is not None
    for step, metrics in _lacking(table, state.points):
        if step <= done:
            queue.append({"step": step, "time": time.time_ns() // 1_000_000, "metrics": metrics})
    queue.append({"run": run})
    state = queue.load()
    assert state is not None
    return state


def _lacking(table: Path, points: Points) -> Iterator[tuple[int, dict[str, float]]]:
    """What of the table is not among the points: frames and metrics."""
    for step, row in logged(table):
        known = points.get(step, frozenset())
        metrics = {name: value for key, value in row.items() if (name := key_of(key)) not in known}
        if metrics:
            yield step, metrics


def _rebuild(client: Any, queue: Queue, run: str) -> None:
    """Make the queue anew, holding all points that the store has, as sent."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for key in client.get_run(run).data.metrics:
        for point in client.get_metric_history(run, key):
            found.setdefault((point.step, point.timestamp), {})[key] = point.value
    queue.start(run)
    queue.append(*({"step": step, "time": at, "metrics": found[step, at]} for step, at in sorted(found)))
    queue.append({"sent": queue.size(), "files": []})
