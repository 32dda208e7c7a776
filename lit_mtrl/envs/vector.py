"""The vector environment that runs the task environments of a suite; see `lit_mtrl.envs.base` for the contract.

All tasks begin together after seeding, so all are truncated, and reset, in the same step ever after. **Staggering**
spreads this: it shortens the first episode after seeding of environment i of N (in the whole suite, task by task) to
``ceil((i + 1) / N * horizon)`` steps of its task, at least one. Later episodes have the full horizon and so straddle
the iterations in which others end; the first ones are shorter than their statistics lead one to expect.
"""

# TorchRL's specs take tuples as shapes; their annotations do not say so.
# pyright: reportArgumentType=false

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from lit_mtrl.core.keys import ACTION, OBS, TASK
from lit_mtrl.envs.base import Suite

STATS = ("success", "episode_return", "episode_length")
FLAGS = ("done", "terminated", "truncated")


class VectorEnv(EnvBase):
    """``copies`` environments of each of ``tasks`` (indices into the suite), row ``i * copies + j`` being copy j of
    ``tasks[i]``.

    Random streams depend on (seed, task, copy) alone, so a task's episodes do not change with the worker that runs it.
    ``stagger`` cuts first episodes short, see the module's text.
    """

    def __init__(self, suite: Suite, tasks: Sequence[int], copies: int = 1, stagger: bool = False):
        rows = [(task, copy) for task in tasks for copy in range(copies)]
        super().__init__(device="cpu", batch_size=[len(rows)])
        self.suite, self._rows = suite, rows
        self._open()
        self._horizons = [suite.horizons[task] for task, _ in rows]
        first = [first_horizon(suite, task, copy, copies) for task, copy in rows] if stagger else self._horizons
        self._first = np.array(first)
        self._limit = self._first.copy()
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

    def _open(self) -> None:
        """Build the environments of ``self._rows``."""
        self._envs = [self.suite.make(task) for task, _ in self._rows]
        self._obs_dims = [self.suite.obs_dims[task] for task, _ in self._rows]
        self._action_dims = [self.suite.action_dims[task] for task, _ in self._rows]

    def _seed(self, seed: int) -> None:
        """Every row's random stream from here on."""
        self._rngs = [np.random.default_rng((seed, task, copy)) for task, copy in self._rows]

    def _begin(self, rows: Sequence[int], obs: NDArray) -> None:
        """New episodes in ``rows``; writes their first observations into ``obs [rows, d]``, zero behind their sizes."""
        for i in rows:
            obs[i, : self._obs_dims[i]] = self._envs[i].reset(int(self._rngs[i].integers(self.suite.num_goals)))

    def _advance(self, actions: NDArray, obs: NDArray, reward: NDArray, terminated: NDArray) -> None:
        """One step of every row; writes into ``obs [rows, d]``, zero at first, ``reward [rows, 1]`` and ``terminated
        [rows, 1]``, and latches successes.
        """
        for i, (env, seen, used) in enumerate(zip(self._envs, self._obs_dims, self._action_dims, strict=True)):
            obs[i, :seen], reward[i], terminated[i], success = env.step(actions[i, :used])
            self._success[i] |= success

    def _shut(self) -> None:
        """End the environments."""
        for env in self._envs:
            env.close()

    def _set_seed(self, seed: int | None) -> None:
        self._seed(seed or 0)
        self._stepped = False

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        todo = range(len(self._rows)) if mask is None else _true(mask)
        return self._restarted(todo, np.zeros((len(self._rows), self.suite.obs_dim), np.float32))

    def _restarted(self, rows: Sequence[int], obs: NDArray) -> TensorDict:
        """What precedes the first step of ``rows``, whose observations replace those in ``obs [rows, d]``."""
        self._begin(rows, obs)
        for i in rows:
            self._return[i], self._length[i], self._success[i] = 0, 0, False
            self._limit[i] = self._horizons[i] if self._stepped else self._first[i]
        return self._out(obs, {key: torch.zeros(len(self._rows), 1, dtype=torch.bool) for key in FLAGS})

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """As TorchRL's own, to the bit (but for the old action, which it hands on), without checking what a step of
        ours is made of: half of what a step costs beside physics.
        """
        after = self._step(tensordict)
        done = after["done"]
        if done.any():
            begun = self._restarted(_true(done), after[OBS].numpy().copy())
        else:
            begun = after.exclude("reward")
        return tensordict.set("next", after), begun

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        actions = tensordict[ACTION].numpy()
        n = len(self._rows)
        obs = np.zeros((n, self.suite.obs_dim), np.float32)
        reward = np.empty((n, 1), np.float32)
        terminated = np.empty((n, 1), bool)
        self._advance(actions, obs, reward, terminated)
        self._stepped = True
        self._return += reward[:, 0]
        self._length += 1
        truncated = (self._length >= self._limit)[:, None] & ~terminated
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        return self._out(
            obs, {"reward": torch.from_numpy(reward), **{k: torch.from_numpy(v) for k, v in flags.items()}}
        )

    def _out(self, obs: np.ndarray, rest: dict[str, torch.Tensor]) -> TensorDict:
        stats = zip(STATS, (self._success, self._return, self._length), strict=True)
        values = {key: torch.from_numpy(value[:, None].copy()) for key, value in stats}
        data = {OBS: torch.from_numpy(obs), TASK: self._task.clone(), **values, **rest}
        # With its device named, or TorchRL would convert every tensor, every step.
        return TensorDict(data, self.batch_size, device="cpu")

    def close(self, *, raise_if_closed: bool = True) -> None:
        self._shut()
        super().close(raise_if_closed=raise_if_closed)


def vector_env(suite: Suite, tasks: Sequence[int], copies: int = 1, stagger: bool = False) -> VectorEnv:
    """``copies`` environments of each of ``tasks``, of batch size ``[tasks * copies]``, stepped as the suite does."""
    return (suite.vector_class() or VectorEnv)(suite, tasks, copies, stagger)


def _true(flags: torch.Tensor) -> list[int]:
    return flags.flatten().nonzero().flatten().tolist()


def first_horizon(suite: Suite, task: int, copy: int, copies: int) -> int:
    """Steps of the first episode of a staggered environment: at least 1; the suite's last environment has its whole
    horizon.
    """
    return math.ceil((task * copies + copy + 1) / (len(suite.tasks) * copies) * suite.horizons[task])
