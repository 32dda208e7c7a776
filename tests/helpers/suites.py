"""Suites whose numbers tell where they come from, and in which something goes wrong after a while."""

from __future__ import annotations

import errno
import math
import multiprocessing.reduction
import os
import signal

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.base import Suite, TaskEnv
from lit_mtrl.envs.probes import Probes

AFTER = 130


class _Faulty:
    def __init__(self, env: TaskEnv):
        self.env, self.steps = env, 0

    def reset(self, goal: int) -> NDArray:
        return self.env.reset(goal)

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        self.steps += 1
        if self.steps > AFTER:
            return self.fail(*self.env.step(action))
        return self.env.step(action)

    def fail(self, obs: NDArray, reward: float, terminated: bool, success: bool) -> tuple[NDArray, float, bool, bool]:
        raise NotImplementedError

    def close(self) -> None:
        self.env.close()


class _Exploding(_Faulty):
    def fail(self, obs: NDArray, reward: float, terminated: bool, success: bool) -> tuple[NDArray, float, bool, bool]:
        return obs, np.inf, terminated, success


class _Raising(_Faulty):
    def fail(self, obs: NDArray, reward: float, terminated: bool, success: bool) -> tuple[NDArray, float, bool, bool]:
        raise ValueError("the gripper fell off")


class _Killed(_Faulty):
    def fail(self, obs: NDArray, reward: float, terminated: bool, success: bool) -> tuple[NDArray, float, bool, bool]:
        os.kill(os.getpid(), signal.SIGKILL)
        return obs, reward, terminated, success


class Exploding(Probes):
    """The second task's rewards become infinite."""

    def make(self, task: int) -> TaskEnv:
        return _Exploding(super().make(task)) if task == 1 else super().make(task)


class Raising(Probes):
    """The last task raises."""

    def make(self, task: int) -> TaskEnv:
        return _Raising(super().make(task)) if task == len(self.tasks) - 1 else super().make(task)


class Killed(Probes):
    """The last task kills its process."""

    def make(self, task: int) -> TaskEnv:
        return _Killed(super().make(task)) if task == len(self.tasks) - 1 else super().make(task)


GOALS, SHORT = 1000, 4
"""Of `TraceSuite`: its goals, its horizon."""
LETHAL = 8.0
"""Its environments raise at actions from this tanh on."""


def no_more_files(_: int) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Trace:
    """Observation ``(task, goal / GOALS, steps so far)``, reward 10 task + action."""

    def __init__(self, task: int, starving: bool = False):
        self.task, self.starving = task, starving
        self.goal = self.count = 0

    def _obs(self) -> NDArray:
        return np.array([self.task, self.goal / GOALS, self.count], np.float32)

    def reset(self, goal: int) -> NDArray:
        self.goal, self.count = goal, 0
        return self._obs()

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        if action[0] >= np.float32(math.tanh(LETHAL)):
            raise ValueError(f"task {self.task} broke")
        if self.starving:
            multiprocessing.reduction.DupFd = no_more_files  # which sends a tensor's memory
        self.count += 1
        return self._obs(), 10 * self.task + float(action[0]), False, False

    def close(self) -> None:
        pass


class TraceSuite(Suite):
    obs_dim, action_dim, horizon, num_goals = 3, 1, SHORT, GOALS

    def __init__(self, tasks: int, unbuildable: int = -1, starving: bool = False):
        self.tasks, self.unbuildable = [f"task{i}" for i in range(tasks)], unbuildable
        self.starving = starving

    def make(self, task: int) -> Trace:
        if task == self.unbuildable:
            raise ValueError(f"task {task} cannot be built")
        return Trace(task, self.starving)

    def tags(self) -> dict[str, str]:
        return {}
