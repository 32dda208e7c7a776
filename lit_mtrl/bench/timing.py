"""Timing in turns, so that what else the machine does falls on everything that is compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

ROUNDS = 5


def turns(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds per call, one value per round, of each of ``calls``, which take turns.

    ``seconds``: how long each is measured, all rounds together; a call that takes longer than its turn is made once per
    turn, and rounds end early when twice the time is spent. Each is called twice before, to warm up and to see how
    often it fits into a turn.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, int(seconds / ROUNDS / timed(call)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(timed(call, repeats[name]))
        if time.perf_counter() - start > 2 * seconds * len(calls):
            break
    return times


def timed(call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds per call, with everything that it gave to the GPU."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - start) / repeats


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(times: Mapping[str, list[float]], first: str, second: str) -> float:
    """Median over the rounds of the time of ``first`` divided by that of ``second`` in the same round."""
    return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))
