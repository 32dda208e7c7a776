"""A suite of my own: a point in the plane goes to one of several corners, each of which is a task.

Free of PyTorch, so that evaluation processes start fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.envs.base import Suite

CORNERS = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "south": (0, -1)}
"""Tasks by name, with what sets them apart."""
SPEED, NEAR = 0.25, 0.3


class MySuite(Suite):
    """A list of tasks and how to build them; it is pickled and travels to worker processes, so keep it small.

    tasks: names, from ``benchmark.tasks``; task t of every batch is ``tasks[t]``.
    seed: the run's; given to every suite, whether something is drawn or not.
    horizon, goals: your own, with the values of ``conf/env/my_suite.yaml``.
    """

    # Numbers in an observation and in an action, of all tasks; actions lie in [-1, 1]. Tasks of different sizes: see
    # obs_dims and action_dims in lit_mtrl.envs.base.
    obs_dim, action_dim = 2, 2
    # What an agent is judged by: "success" or "return".
    score = "success"

    def __init__(self, tasks: Sequence[str], seed: int = 0, horizon: int = 10, goals: int = 5):
        for name in tasks:
            require(name in CORNERS, unknown("benchmark.tasks", name, CORNERS))  # one line, no traceback
        # Every suite has these; episodes start from one of num_goals variations.
        self.tasks, self.horizon, self.num_goals = list(tasks), horizon, goals

    def make(self, task: int) -> Point:
        """The environment of one task, made in the process that steps it; heavy things are made here."""
        return Point(np.array(CORNERS[self.tasks[task]], np.float32), self.num_goals)

    def tags(self) -> dict[str, str]:
        """What a table of results must state."""
        sizes = {"horizon": str(self.horizon), "goals": str(self.num_goals)}
        return {"backend": "my_suite", "benchmark": f"corners-mt{len(self.tasks)}", "rewards": "distance", **sizes}


class Point:
    """One task in plain NumPy. It never truncates and never resets itself: that is its caller's part."""

    def __init__(self, corner: NDArray, num_goals: int):
        self.corner, self.num_goals = corner, num_goals
        self.place = np.zeros(2, np.float32)

    def reset(self, variation: int) -> NDArray:
        """The first observation, float32; the same variation and actions must give the same episode, whatever was
        before.
        """
        angle = 2 * np.pi * variation / self.num_goals
        self.place = 0.5 * np.array([np.cos(angle), np.sin(angle)], np.float32)
        return self.place

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        """Observation, reward, whether the episode is over for good (no time limit), and whether it is a success."""
        self.place = (self.place + SPEED * action).clip(-2, 2).astype(np.float32)
        distance = float(np.linalg.norm(self.place - self.corner))
        return self.place, -distance, False, distance < NEAR

    def close(self) -> None:
        """Nothing is open."""
