"""Meta-World's environments in compiled steps, behind the interfaces of any suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.processes import cores
from lit_mtrl.envs.native.group import Group
from lit_mtrl.envs.native.starts import SavedStarts
from lit_mtrl.envs.vector import VectorEnv

if TYPE_CHECKING:
    from lit_mtrl.envs.metaworld import MetaWorld, MetaWorldTask


class NativeVector(VectorEnv):
    """`VectorEnv` over one `Group`: the same goals, observations, rewards and successes, to the last bit.

    Threads: as many as the suite says, else this process's share of its rank's cores, by its share of the tasks.
    """

    suite: MetaWorld

    def _open(self) -> None:
        tasks = [task for task, _ in self._rows]
        share = cores(self.suite.ranks) * len(set(tasks)) // len(self.suite.tasks)
        threads = min(self.suite.threads or max(1, share), len(tasks))
        names = [self.suite.tasks[task] for task in tasks]
        saved = SavedStarts() if self.suite.keep_starts else None
        self._group = Group(names, [self.suite.make_official(task) for task in tasks], threads, saved)
        self._succeeded = np.zeros(len(tasks), bool)

    def _begin(self, rows: Sequence[int], obs: NDArray) -> None:
        self._group.begin(rows, [int(self._rngs[i].integers(self.suite.num_goals)) for i in rows], obs)

    def _advance(self, actions: NDArray, obs: NDArray, reward: NDArray, terminated: NDArray) -> None:
        self._group.advance(np.ascontiguousarray(actions), obs, reward, self._succeeded)
        self._success |= self._succeeded
        terminated[:] = False

    def _shut(self) -> None:
        self._group.close()


class NativeTask:
    """One task's environment in compiled steps; see `lit_mtrl.envs.base.TaskEnv`."""

    def __init__(self, name: str, official: MetaWorldTask, keep_starts: bool = False):
        self._group = Group([name], [official], threads=1, saved=SavedStarts() if keep_starts else None)
        self._obs = np.zeros((1, 39), np.float32)

    def reset(self, goal: int) -> NDArray:
        self._group.begin([0], [goal], self._obs)
        return self._obs[0].copy()

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        obs, reward, success = self._group.step(np.ascontiguousarray(action, np.float32))
        return obs, reward, False, success

    def close(self) -> None:
        self._group.close()
