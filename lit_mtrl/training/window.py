"""What is gathered between two reports, on the host: metrics, speed, and how episodes ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from lit_mtrl.core.ranks import Ranks

EPISODES = 100
"""Training success and return are means over the last so many episodes of all tasks."""


class Window:
    """Metrics and times since the last report, from ``frames`` on."""

    def __init__(self, frames: int):
        self.start, self.updates = frames, 0
        self.collect_seconds = self.update_seconds = 0.0
        self._began = time.perf_counter()
        self._iterations = 0
        self._sums: dict[str, list[float]] = {}

    def add(self, metrics: Mapping[str, list[float]], updates: int, seconds: float) -> None:
        """Metrics of an iteration, which are means over its ``updates``; these took ``seconds``."""
        for key, values in metrics.items():
            before = self._sums.get(key)
            self._sums[key] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]
        self._iterations += 1
        self.updates += updates
        self.update_seconds += seconds

    def means(self) -> dict[str, list[float]]:
        """The metrics' means over iterations."""
        return {key: [value / self._iterations for value in values] for key, values in self._sums.items()}

    def speed(self, frames: int) -> dict[str, float]:
        """Rates and seconds, as the loggers get them, at ``frames``."""
        elapsed = time.perf_counter() - self._began
        return {
            "speed/frames_per_second": (frames - self.start) / elapsed,
            "speed/updates_per_second": self.updates / elapsed,
            "time/collect": self.collect_seconds,
            "time/update": self.update_seconds,
            "time/other": elapsed - self.collect_seconds - self.update_seconds,
        }


class RecentEpisodes:
    """Success and return of the last `EPISODES` episodes of all tasks and ranks."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=EPISODES)
        self._new: list[tuple[int, float, float]] = []

    def add(self, frames: int, episodes: Tensor) -> None:
        """Those of this rank that ended before ``frames``, rows of task, return, length, success."""
        self._new.extend((frames, row[3], row[1]) for row in episodes.tolist())

    def gather(self, ranks: Ranks) -> None:
        """Take in the new ones of all ranks, in the order in which they ended."""
        new = [episode for episodes in ranks.gather(self._new) for episode in episodes]
        self._recent.extend((success, total) for _, success, total in sorted(new, key=lambda episode: episode[0]))
        self._new = []

    def means(self, score: str) -> dict[str, float]:
        """As the loggers get them; nothing before the first episode.

        score: what the suite is judged by, ``success`` or ``return``; without a success, none is reported.
        """
        if not self._recent:
            return {}
        success, total = (sum(values) / len(values) for values in zip(*self._recent, strict=True))
        return ({"train/success": success} if score == "success" else {}) | {"train/return": total}

    def state(self) -> list[list[float]]:
        """For a checkpoint."""
        return [list(pair) for pair in self._recent]

    def restore(self, state: Iterable[Sequence[float]]) -> None:
        """Add what `state` returned."""
        self._recent.extend((success, total) for success, total in state)
