"""Official environments that are stepped together in compiled code, and begin episodes from starts that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.native.rows import STATE, build
from lit_mtrl.envs.native.step import Starts, copy_model, restart, step_next, step_row, step_rows

if TYPE_CHECKING:
    from lit_mtrl.envs.metaworld import MetaWorldTask

MOST_STARTS = 4096
"""Starts that are kept, of about 6 kB each; a goal beyond them is reset officially every time."""


class Group:
    """Environments of ``tasks`` (names; one each of ``envs``), stepped by ``threads`` threads.

    An official reset takes as long as a hundred compiled steps, and depends on task and goal alone, whatever came
    before. So the first episode on a goal begins with the official reset, which is kept; later ones begin with a copy.
    """

    def __init__(self, tasks: Sequence[str], envs: Sequence[MetaWorldTask], threads: int):
        self.tasks, self.envs, self.threads = tasks, envs, threads
        for env in envs:
            env.reset(0)
        self.rows, self._kept = build(tasks, [env.official for env in envs])
        self._counter = np.zeros(1, np.int64)
        self._slots: dict[tuple[str, int], int] = {}
        sizes = [mujoco.mj_stateSize(env.official.model, STATE) for env in envs]  # pyright: ignore
        models = self.rows.edited[:, :, 1].sum(1)
        self._sizes = int(max(sizes)), int(max(models)), self.rows.values.shape[1], 18, 39
        self._starts = self._empty(len(envs))

    def begin(self, todo: Sequence[int], goals: Sequence[int], obs: NDArray) -> None:
        """New episodes.

        todo: rows.
        goals: of these rows.
        obs: ``[N, 39]``, float32; their first observations are written.
        """
        known, slots = [], []
        for i, goal in zip(todo, goals, strict=True):
            slot = self._slots.get((self.tasks[i], goal))
            if slot is None:
                self._first(i, goal, obs)
            else:
                known.append(i)
                slots.append(slot)
        if known:
            restart(self.rows, np.array(known), np.array(slots), self._starts, obs)

    def advance(self, actions: NDArray, obs: NDArray, reward: NDArray, success: NDArray) -> None:
        """A step of every row; writes its observation, reward and success.

        actions: ``[N, 4]``, float32.
        obs: ``[N, 39]``, float32.
        reward: ``[N, 1]``, float32.
        success: ``[N]``, bool.
        """
        self._counter[0] = 0
        work = (self.rows, actions, obs, reward, success, self._counter)
        if self.threads == 1:
            step_next(*work)
        else:
            step_rows(*work, self.threads)

    def step(self, action: NDArray) -> tuple[NDArray, float, bool]:
        """Observation ``[39]``, float64, reward and success after a step of the first row.

        action: ``[4]``, float32.
        """
        step_row(self.rows, 0, action)
        out = self.rows.out[0]
        return self.rows.obs[0].copy(), float(out[0]), bool(out[1])

    def close(self) -> None:
        """End the official environments."""
        for env in self.envs:
            env.close()

    def _first(self, i: int, goal: int, obs: NDArray) -> None:
        """An official reset, kept if there is room."""
        env, rows = self.envs[i], self.rows
        obs[i] = env.reset(goal)
        official = env.official
        for name, place in self._kept[i]:
            value = np.asarray(getattr(official, name), np.float64).reshape(-1)
            rows.values[i, place : place + len(value)] = value
        rows.frame[i, 0] = official._prev_obs
        slot = len(self._slots)
        if slot == MOST_STARTS:
            return
        if slot == len(self._starts.state):
            more = self._empty(2 * slot)
            for old, new in zip(self._starts, more, strict=True):
                new[:slot] = old
            self._starts = more
        starts = self._starts
        size = mujoco.mj_stateSize(official.model, STATE)  # pyright: ignore
        mujoco.mj_getState(official.model, official.data, starts.state[slot, :size], STATE)  # pyright: ignore
        copy_model(rows, i, starts.model[slot], True)
        starts.values[slot], starts.frame[slot], starts.obs[slot] = rows.values[i], rows.frame[i, 0], obs[i]
        self._slots[self.tasks[i], goal] = slot

    def _empty(self, count: int) -> Starts:
        state, model, values, frame, obs = self._sizes
        return Starts(
            np.zeros((count, state)),
            np.zeros((count, model)),
            np.zeros((count, values)),
            np.zeros((count, frame)),
            np.zeros((count, obs), np.float32),
        )
