"""Meta-World v3 stepped in C++ threads by EnvPool, for training at speed; evaluation stays on the official package.

`EnvPool` is the suite `MetaWorld` with another vector environment: one pool per task, all sent to before any is waited
for. What `make` and `official_vector` build is official. ``benchmarks/backends.py`` measures what follows, task by
task.

NOTE 1: EnvPool 1.2.5 holds MuJoCo 3.6.0, the official package 3.3.0. Under one MuJoCo, observations of most tasks are
        equal over whole episodes; across the two versions they part by 1e-6 at the first contact, and chaos does the
        rest. docs/envpool.md lists the tasks.
NOTE 2: rewards are float32, and those of a few tasks keep the finger pads' first position where the official code
        refers to the present one (its ``init_left_pad`` is a view). button-press-topdown-wall rewards a closed gripper,
        the official one an open one: corrected here.
NOTE 3: EnvPool's reset of `SHIFTED` tasks adds the last goal to the new one, 0.8 m off from the second episode on, so
        each of their environments is a pool of its own and is built anew for every episode.
NOTE 4: goals are drawn from the whole continuous space at every reset; ``goals`` is the evaluation's number.
        Observations are not clipped to the official space; none was seen outside of it.
NOTE 5: a pool's seed is fixed when it is built. `_seed` therefore drops the pools, and the next reset builds them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.errors import require
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.vector import VectorEnv

SHIFTED = ("hammer", "shelf-place")
CLOSED = "button-press-topdown-wall"
NEVER = 2**30
"""EnvPool's own time limit, out of reach: the horizon is ours."""


class EnvPool(MetaWorld):
    """Meta-World's tasks for training in EnvPool; see `MetaWorld` for the arguments.

    ``threads``: per pool; 0 shares the cores out over the pools, with at least one thread each.
    """

    threaded = True

    def __init__(
        self,
        tasks: Sequence[str],
        horizon: int = 500,
        goals: int = 50,
        rewards: str = "v2",
        threads: int = 0,
        seed: int = 0,
    ):
        super().__init__(tasks, horizon, goals, rewards, seed=seed)
        require(
            importlib.util.find_spec("envpool") is not None,
            "env=envpool: EnvPool is not installed; pip install 'lit_mtrl[fast]', or use env=metaworld",
        )
        require(rewards == "v2", f"env.rewards={rewards}: EnvPool computes v2 rewards alone; use env=metaworld")
        require(goals > 1, "env.goals=1: EnvPool draws a new goal at every reset; use env=metaworld for a fixed one")
        require(threads >= 0, f"env.threads={threads}: threads per pool; 0 chooses")
        self.threads = threads

    def check(self) -> None:
        from envpool.registration import list_all_envs

        known = set(list_all_envs())
        for name in self.tasks:
            require(
                env_id(name) in known,
                f"benchmark.tasks={name}: the installed EnvPool lacks this task; leave it out, or use env=metaworld",
            )

    def vector_class(self) -> type[EnvPoolVector]:
        return EnvPoolVector

    def tags(self) -> dict[str, str]:
        return {**super().tags(), "backend": "envpool", "goals": "continuous"}


class EnvPoolVector(VectorEnv):
    """`VectorEnv` over pools. Goals follow (seed, task, copy); a pool's threads step while others are waited for."""

    suite: EnvPool

    def _open(self) -> None:
        names = [self.suite.tasks[task] for task, _ in self._rows]
        apart = [name in SHIFTED for name in names]
        starts = [i for i, name in enumerate(names) if i == 0 or apart[i] or name != names[i - 1]]
        stops = [*starts[1:], len(names)]
        threads = self.suite.threads or -(-len(os.sched_getaffinity(0)) // len(starts))
        self._pools = [
            _Pool(names[a], slice(a, b), self._rows[a:b], min(threads, b - a))
            for a, b in zip(starts, stops, strict=True)
        ]
        self._succeeded = np.empty(len(names))

    def _seed(self, seed: int) -> None:
        for pool in self._pools:
            pool.seed(seed)

    def _begin(self, rows: Sequence[int], obs: NDArray) -> None:
        todo = np.zeros(len(obs), bool)
        todo[list(rows)] = True
        waiting = [(pool, ids) for pool in self._pools if len(ids := pool.ids[todo[pool.rows]])]
        for pool, ids in waiting:
            pool.reset(ids)
        for pool, ids in waiting:
            obs[pool.rows.start + ids] = pool.receive()[pool.obs]

    def _advance(self, actions: NDArray, obs: NDArray, reward: NDArray, terminated: NDArray) -> None:
        for pool in self._pools:
            pool.send(actions[pool.rows])
        states = [pool.receive() for pool in self._pools]
        keys = self._pools[0]
        np.concatenate([state[keys.obs] for state in states], out=obs, casting="same_kind")
        np.concatenate([state[keys.reward] for state in states], out=reward[:, 0])
        np.concatenate([state[keys.success] for state in states], out=self._succeeded)
        np.logical_or(self._success, self._succeeded, out=self._success)
        for state, pool in zip(states, self._pools, strict=True):
            if pool.name == CLOSED:
                reward[pool.rows, 0] += _topdown_wall(state[keys.obs][:, 3], state[keys.near])
        terminated[:] = False

    def _shut(self) -> None:
        for pool in self._pools:
            pool.drop()


class _Pool:
    """The environments ``rows`` of one task, in C++; built at the first reset after `seed`."""

    def __init__(self, name: str, rows: slice, streams: Sequence[tuple[int, int]], threads: int):
        self.name, self.rows, self.threads = name, rows, threads
        self.ids = np.arange(rows.stop - rows.start, dtype=np.int32)
        self._streams, self._stream, self._episode = streams, 0, 0
        self._pool: Any = None

    def seed(self, seed: int) -> None:
        self._stream, self._episode = seed, 0
        self.drop()

    def drop(self) -> None:
        self._pool = None  # its destructor joins the threads

    def reset(self, ids: NDArray) -> None:
        if self._pool is None or self.name in SHIFTED:
            self._pool = self._build()
        self._pool._reset(ids)

    def send(self, actions: NDArray) -> None:
        self._pool._send(
            [self.ids, self.ids, actions]
        )  # EnvPool's own `send` costs as much as a step of one environment

    def receive(self) -> list[NDArray]:
        """The state's arrays, in the order of the ids that were sent; `obs`, `reward`, `success`, `near` are places in
        it.
        """
        return self._pool._recv()

    def _build(self) -> Any:
        import envpool

        self.drop()
        pool = envpool.make(
            env_id(self.name),
            env_type="gymnasium",
            num_envs=len(self.ids),
            seed=[pool_seed(self._stream, task, copy, self._episode) for task, copy in self._streams],
            max_episode_steps=NEVER,
            num_threads=self.threads,
            partially_observable=False,
        )
        self._episode += 1
        names = ("obs", "reward", "info:success", "info:grasp_reward")
        self.obs, self.reward, self.success, self.near = (pool._state_keys.index(name) for name in names)
        return pool


def pool_seed(stream: int, task: int, copy: int, episode: int) -> int:
    """The 31-bit seed of one environment of a pool that is built at ``episode`` (0 but in `SHIFTED` tasks)."""
    return int(np.random.SeedSequence((stream, task, copy, episode)).generate_state(1)[0] >> 1)


def env_id(task: str) -> str:
    """EnvPool's name of a task."""
    return f"MetaWorld/{''.join(part.capitalize() for part in task.split('-'))}-v3"


def _topdown_wall(opened: NDArray, near: NDArray) -> NDArray:
    """The official reward less EnvPool's: the gripper that counts is the open one."""
    return 5 * (_hamacher(opened, near) - _hamacher(1 - opened, near))


def _hamacher(a: NDArray, b: NDArray) -> NDArray:
    total = a + b - a * b
    return np.where(total > 0, a * b / np.where(total > 0, total, 1), 0)
