"""The contract of an environment suite, and the vector environment that runs one.

A **suite** (`Suite`) is a small picklable description: it names its tasks in one-hot order, states sizes, horizon and goals, and
builds single task environments. It travels to worker processes, which build only the tasks that they own.

A **task environment** (`TaskEnv`) is plain NumPy: ``reset(goal)`` starts an episode on one of ``num_goals`` variations and
``step`` advances it. It never truncates and never resets itself: the horizon belongs to its caller. `reset` must forget
the past: the same goal and actions give the same episode, whatever was played before.

`VectorEnv` drives many of them as one TorchRL `EnvBase` of batch size ``[tasks * copies]`` and owns what suites share: goals drawn
anew at every reset, seeds, truncation at the horizon, the true last observation (under ``next``, taken before the reset),
success latched over the episode, and episode statistics. A suite with a faster backend may build its own `EnvBase`
with the same specs instead.
"""

# TorchRL's specs take tuples as shapes; their annotations do not say so.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from lit_mtrl.spec import ACTION, OBS, TASK

STATS = ("success", "episode_return", "episode_length")


class TaskEnv(Protocol):
    """One task; see the module's text."""

    def reset(self, goal: int) -> NDArray: ...

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        """Observation, reward, terminated, success after ``action`` (float32, in [-1, 1])."""
        ...

    def close(self) -> None: ...


class Suite(Protocol):
    """A list of tasks and how to build them; picklable."""

    tasks: Sequence[str]
    obs_dim: int
    action_dim: int
    horizon: int
    num_goals: int

    def make(self, task: int) -> TaskEnv:
        """The environment of task index ``task``."""
        ...

    def tags(self) -> dict[str, str]:
        """What a table of results must state: backend, rewards, horizon, goals."""
        ...


class VectorEnv(EnvBase):
    """``copies`` environments of each of ``tasks`` (indices into the suite), row ``i * copies + j`` being copy j of ``tasks[i]``.

    Random streams depend on (seed, task, copy) alone, so a task's episodes do not change with the worker that runs it.
    """

    def __init__(self, suite: Suite, tasks: Sequence[int], copies: int = 1):
        rows = [(task, copy) for task in tasks for copy in range(copies)]
        super().__init__(batch_size=[len(rows)])
        self.suite, self._rows = suite, rows
        self._envs = [suite.make(task) for task, _ in rows]
        self._task = torch.tensor([task for task, _ in rows])
        self._return = np.zeros(len(rows), np.float32)
        self._length = np.zeros(len(rows), np.int64)
        self._success = np.zeros(len(rows), bool)
        self._make_specs()
        self._set_seed(0)

    def _make_specs(self) -> None:
        suite = self.suite
        n = self.batch_size[0]
        stats = {
            "success": Categorical(2, shape=(n, 1), dtype=torch.bool),
            "episode_return": Unbounded((n, 1)),
            "episode_length": Unbounded((n, 1), dtype=torch.int64),
        }
        self.observation_spec = Composite(
            {OBS: Unbounded((n, suite.obs_dim)), TASK: Categorical(len(suite.tasks), shape=(n,)), **stats}, shape=(n,)
        )
        self.action_spec = Bounded(-1, 1, (n, suite.action_dim))
        self.reward_spec = Unbounded((n, 1))
        flag = Categorical(2, shape=(n, 1), dtype=torch.bool)
        flags = {"done": flag, "terminated": flag.clone(), "truncated": flag.clone()}
        self.done_spec = Composite(flags, shape=(n,))  # pyright: ignore[reportArgumentType]

    def _set_seed(self, seed: int | None) -> None:
        self._rngs = [np.random.default_rng((seed or 0, task, copy)) for task, copy in self._rows]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        todo = range(len(self._rows)) if mask is None else mask.flatten().nonzero().flatten().tolist()
        obs = np.zeros((len(self._rows), self.suite.obs_dim), np.float32)
        for i in todo:
            obs[i] = self._envs[i].reset(int(self._rngs[i].integers(self.suite.num_goals)))
            self._return[i], self._length[i], self._success[i] = 0, 0, False
        done = torch.zeros(len(self._rows), 1, dtype=torch.bool)
        return self._out(obs, {"done": done, "terminated": done.clone(), "truncated": done.clone()})

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        actions = tensordict[ACTION].numpy()
        n = len(self._rows)
        obs = np.empty((n, self.suite.obs_dim), np.float32)
        reward = np.empty((n, 1), np.float32)
        terminated = np.empty((n, 1), bool)
        for i, env in enumerate(self._envs):
            obs[i], reward[i], terminated[i], success = env.step(actions[i])
            self._success[i] |= success
        self._return += reward[:, 0]
        self._length += 1
        truncated = (self._length >= self.suite.horizon)[:, None] & ~terminated
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        return self._out(
            obs, {"reward": torch.from_numpy(reward), **{k: torch.from_numpy(v) for k, v in flags.items()}}
        )

    def _out(self, obs: np.ndarray, rest: dict[str, torch.Tensor]) -> TensorDict:
        stats = zip(STATS, (self._success, self._return, self._length), strict=True)
        values = {key: torch.from_numpy(value[:, None].copy()) for key, value in stats}
        return TensorDict({OBS: torch.from_numpy(obs), TASK: self._task.clone(), **values, **rest}, self.batch_size)

    def close(self, *, raise_if_closed: bool = True) -> None:
        for env in self._envs:
            env.close()
        super().close(raise_if_closed=raise_if_closed)
