"""Official environments that are stepped together in compiled code, and begin episodes from starts that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.native.crew import Crew
from lit_mtrl.envs.native.layout import MJ
from lit_mtrl.envs.native.rows import STATE, build, values_of
from lit_mtrl.envs.native.starts import SavedStarts
from lit_mtrl.envs.native.step import Starts, copy_model, restart, step_row

if TYPE_CHECKING:
    from lit_mtrl.envs.metaworld import MetaWorldTask

MOST_STARTS = 4096
"""Starts that are kept, of about 6 kB each; a goal beyond them is reset officially every time."""


class Group:
    """Environments of ``tasks`` (names; one each of ``envs``), stepped by ``threads`` threads.

    An official reset takes as long as a hundred compiled steps, and depends on task and goal alone, whatever came
    before. So the first episode on a goal begins with the official reset, which is kept; later ones begin with a copy.
    ``saved`` has those of earlier runs.
    """

    def __init__(
        self, tasks: Sequence[str], envs: Sequence[MetaWorldTask], threads: int, saved: SavedStarts | None = None
    ):
        self.tasks, self.envs, self.threads, self.saved = tasks, envs, threads, saved
        for env in envs:
            env.reset(0)
        self.rows, self._kept = build(tasks, [env.official for env in envs])
        self._crew = Crew(self.rows, threads)
        self._slots: dict[tuple[str, int], int] = {}
        states = [MJ.mj_stateSize(env.official.model, STATE) for env in envs]
        models = self.rows.edited[:, :, 1].sum(1)
        each = zip(states, models, map(values_of, tasks), strict=True)
        self._sizes = [(int(state), int(model), values, 18, 39) for state, model, values in each]
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
        rows = self.rows
        rows.actions[:] = actions
        self._crew.run()
        obs[:], reward[:, 0], success[:] = rows.obs, rows.out[:, 0], rows.out[:, 1] > 0

    def step(self, action: NDArray) -> tuple[NDArray, float, bool]:
        """Observation ``[39]``, float64, reward and success after a step of the first row.

        action: ``[4]``, float32.
        """
        step_row(self.rows, 0, action)
        out = self.rows.out[0]
        return self.rows.obs[0].copy(), float(out[0]), bool(out[1])

    def compile(self) -> None:
        """Have compiled what waits for its first call otherwise."""
        self._crew.compile()

    def close(self) -> None:
        """End the threads and the official environments."""
        self._crew.close()
        for env in self.envs:
            env.close()

    def _first(self, i: int, goal: int, obs: NDArray) -> None:
        """The first episode on a goal: its start is read from the disk or made by an official reset, and kept if there
        is room.
        """
        task, env, sizes = self.tasks[i], self.envs[i], self._sizes[i]
        slot = len(self._slots)
        if slot == MOST_STARTS:
            self._reset(i, goal, obs)
            return
        if slot == len(self._starts.state):
            more = self._empty(2 * slot)
            for old, new in zip(self._starts, more, strict=True):
                new[:slot] = old
            self._starts = more
        kept = [array[slot, :size] for array, size in zip(self._starts, sizes, strict=True)]
        found = self.saved.read(task, env.goals[goal], sizes) if self.saved else None
        if found is None:
            self._reset(i, goal, obs)
            official, rows = env.official, self.rows
            MJ.mj_getState(official.model, official.data, kept[0], STATE)
            copy_model(rows, i, kept[1], True)
            kept[2][:], kept[3][:], kept[4][:] = rows.values[i, : sizes[2]], rows.frame[i, 0], obs[i]
            if self.saved:
                self.saved.write(task, env.goals[goal], kept)
        else:
            for array, numbers in zip(kept, found, strict=True):
                array[:] = numbers
            restart(self.rows, np.array([i]), np.array([slot]), self._starts, obs)
        self._slots[task, goal] = slot

    def _reset(self, i: int, goal: int, obs: NDArray) -> None:
        """An official reset."""
        env, rows = self.envs[i], self.rows
        obs[i] = env.reset(goal)
        for name, place in self._kept[i]:
            value = np.asarray(getattr(env.official, name), np.float64).reshape(-1)
            rows.values[i, place : place + len(value)] = value
        rows.frame[i, 0] = env.official._prev_obs

    def _empty(self, count: int) -> Starts:
        state, model, values, frame, obs = map(max, zip(*self._sizes, strict=True))
        return Starts(
            np.zeros((count, state)),
            np.zeros((count, model)),
            np.zeros((count, values)),
            np.zeros((count, frame)),
            np.zeros((count, obs), np.float32),
        )
