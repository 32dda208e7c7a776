"""A suite outside the library: a point on a line, which every task wants at a place of its own; judged by the
return.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.base import Suite


class Line(Suite):
    """Task t of T wants the point at t / T; tasks may have any names."""

    obs_dim = action_dim = 1
    score = "return"

    def __init__(self, tasks: Sequence[str], seed: int, horizon: int = 5, goals: int = 3, speed: float = 0.5):
        self.tasks, self.horizon, self.num_goals, self.speed = list(tasks), horizon, goals, speed

    def make(self, task: int) -> Point:
        return Point(task / len(self.tasks), self.speed, self.num_goals)

    def tags(self) -> dict[str, str]:
        sizes = {"horizon": str(self.horizon), "goals": str(self.num_goals)}
        return {"backend": "line", "benchmark": f"line-mt{len(self.tasks)}", "rewards": "distance", **sizes}


class Point:
    def __init__(self, wanted: float, speed: float, goals: int):
        self.wanted, self.speed, self.starts = wanted, speed, np.linspace(-1, 1, goals, dtype=np.float32)
        self.place = np.zeros(1, np.float32)

    def reset(self, variation: int, /) -> NDArray:
        self.place = self.starts[variation : variation + 1]
        return self.place

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        self.place = (self.place + self.speed * action).clip(-2, 2).astype(np.float32)
        distance = float(abs(self.place[0] - self.wanted))
        return self.place, -distance, False, distance < 0.1

    def close(self) -> None:
        pass
