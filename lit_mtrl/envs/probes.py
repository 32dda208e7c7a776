"""Probes: tiny multi-task environments whose action values are known in closed form, after those of rejax (Liesen et
al.).

An algorithm that misses one of these values has a fault that the kind of probe points at: rewards (`constant`), the use
of observations (`observation`), discounting over steps (`delay`), the policy's gradient (`action`, `both`), the
bootstrap at a time limit (`endless`). Every task has a level and a target of its own, so one task's value is wrong for
all others.

With T tasks, task t = 0 .. T-1 has level l = (-1)^t (t+1)/T and target m = 3/4 l. The observation is ``(signal,
phase)``: the signal z is drawn from `Probes.signals` with the goal and stays for the episode; the phase is 1 after the
first step of `delay`, else 0. The action a is one number. The reward r and the value Q of the policy that maximises the
return:

=============  ======================================  ==========================================
kind           r                                       Q((z, phase), a)
=============  ======================================  ==========================================
`constant`     l, then the episode terminates          l
`observation`  l z, then it terminates                 l z
`delay`        0, then l and it terminates             gamma l in phase 0, l in phase 1
`action`       l - (a - m)^2, then it terminates       l - (a - m)^2
`both`         l - (a - m z)^2, then it terminates     l - (a - m z)^2
`endless`      l; truncated at the horizon             l / (1 - gamma)
=============  ======================================  ==========================================

The entropy bonus of a maximum-entropy method counts from the next step on: at temperature alpha and policy entropy H, Q
is larger by gamma alpha H in phase 0 of `delay` and by gamma alpha H / (1 - gamma) in `endless`, and unchanged in the
kinds of one step.

An episode succeeds when it terminates, in `action` and `both` only with |a - m| (or |a - m z|) below
`SUCCESS_WITHIN`; `endless` never does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.envs.base import Suite

KINDS = ("constant", "observation", "delay", "action", "both", "endless")
SUCCESS_WITHIN = 0.25


class Probes(Suite):
    """One kind of probe for a list of arbitrarily named tasks; see `lit_mtrl.envs.base.Suite`.

    ``goals``: signals per task, evenly spaced in [-1, 1] (1 alone for a single goal). ``seed`` is taken because every
    suite is given one: nothing here is drawn when the suite is made.
    """

    obs_dim, action_dim = 2, 1

    def __init__(
        self,
        tasks: Sequence[str] = ("first", "second", "third"),
        kind: str = "both",
        horizon: int = 10,
        goals: int = 2,
        seed: int = 0,
    ):
        require(kind in KINDS, unknown("env.kind", kind, KINDS))
        require(len(tasks) > 0, "benchmark.tasks: name at least one task")
        require(
            len(set(tasks)) == len(tasks),
            "benchmark.tasks: a task is named twice; use collector.copies for several copies",
        )
        shortest = 2 if kind == "delay" else 1
        require(
            horizon >= shortest, f"env.horizon={horizon}: episodes of the probe '{kind}' take {shortest} or more steps"
        )
        require(goals > 0, f"env.goals={goals}: at least one goal is needed")
        self.tasks, self.kind, self.horizon, self.num_goals = list(tasks), kind, horizon, goals
        self.signals = np.linspace(-1, 1, goals) if goals > 1 else np.ones(1)

    def level(self, task: int) -> float:
        """l, the task's reward at best."""
        return (-1) ** task * (task + 1) / len(self.tasks)

    def best_action(self, task: int, obs: NDArray) -> NDArray:
        """The action ``[..., 1]`` of highest value at ``obs [..., 2]``, for kinds where actions matter."""
        require(self.kind in ("action", "both"), f"env.kind={self.kind}: all actions are equally good in this probe")
        signal = obs[..., :1] if self.kind == "both" else np.ones_like(obs[..., :1])
        return 0.75 * self.level(task) * signal

    def true_q(self, task: int, obs: NDArray, action: NDArray, gamma: float) -> NDArray:
        """Q ``[...]`` of the return-maximising policy (temperature zero) at ``obs [..., 2]`` and ``action [...,
        1]``.
        """
        level = self.level(task) * np.ones_like(obs[..., 0])
        if self.kind == "observation":
            return level * obs[..., 0]
        if self.kind == "delay":
            return level * gamma ** (1 - obs[..., 1])
        if self.kind in ("action", "both"):
            return level - ((action - self.best_action(task, obs)) ** 2)[..., 0]
        return level / (1 - gamma) if self.kind == "endless" else level

    def make(self, task: int) -> ProbeTask:
        return ProbeTask(self, task)

    def tags(self) -> dict[str, str]:
        return {
            "backend": "probes",
            "benchmark": f"{self.kind}-mt{len(self.tasks)}",
            "rewards": self.kind,
            "horizon": str(self.horizon),
            "goals": str(self.num_goals),
        }


class ProbeTask:
    """One task of a suite of probes."""

    def __init__(self, suite: Probes, task: int):
        self._suite, self._task = suite, task
        self._obs = np.zeros(2, np.float32)

    def reset(self, goal: int) -> NDArray:
        self._obs = np.array([self._suite.signals[goal], 0], np.float32)
        return self._obs

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        suite, obs = self._suite, self._obs
        if suite.kind == "delay" and obs[1] == 0:
            self._obs = np.array([obs[0], 1], np.float32)
            return self._obs, 0.0, False, False
        reward = float(suite.true_q(self._task, obs, action, 0.0))  # without a future, the value is the reward
        if suite.kind == "endless":
            return obs, reward, False, False
        miss = abs(action - suite.best_action(self._task, obs))[0] if suite.kind in ("action", "both") else 0
        return obs, reward, True, bool(miss < SUCCESS_WITHIN)

    def close(self) -> None:
        pass
