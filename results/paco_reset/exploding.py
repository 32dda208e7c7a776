"""Meta-World tasks of which the second has its rewards multiplied by 1000 for a while: provokes PaCo's mask-out and
reset.

Named by ``env._target_=results.paco_reset.exploding.Exploding``; see results/README.md.
"""

from __future__ import annotations

from numpy.typing import NDArray

from lit_mtrl.envs.metaworld import MetaWorld, MetaWorldTask

TASK, FACTOR = 1, 1000.0
FIRST, LAST = 3000, 3500
"""Steps of an environment between which its rewards explode."""


class Exploding(MetaWorld):
    """Meta-World with one task that misbehaves."""

    def make(self, task: int) -> MetaWorldTask:
        if task != TASK:
            return super().make(task)
        return _ExplodingTask(self.tasks[task], self.draw_goals()[task], self.rewards)


class _ExplodingTask(MetaWorldTask):
    steps = 0

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        obs, reward, terminated, success = super().step(action)
        self.steps += 1
        return obs, reward * (FACTOR if FIRST <= self.steps < LAST else 1.0), terminated, success
