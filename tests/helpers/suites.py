"""Probe suites in which something goes wrong after a while."""

from __future__ import annotations

import os
import signal

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.base import TaskEnv
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
