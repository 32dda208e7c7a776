"""Gymnasium environments of different sizes, by their ids, as the tasks of one agent; judged by the return.

Supported are ids of the installed package with one vector of observations (`Box`) and a bounded vector of continuous
actions (`Box`), such as those of MuJoCo and of classic control. Actions in [-1, 1] are mapped onto the box linearly.

NOTE 1: variations are seeds: variation v of every task is ``reset(seed=s)``, with s derived from the suite's seed and
        v. Training draws v from 2^31 - 1 numbers, evaluation plays 0, 1, 2, ...; training meets one of 10 of those once
        in 200 million episodes, so what is evaluated has not been trained on.
NOTE 2: environments are built without Gymnasium's `TimeLimit`, since truncation is the caller's; each task keeps the
        limit of its id, and ``horizon`` makes all of them the same.
NOTE 3: observations are float32 and are not normalised; rewards are not scaled.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import nearest
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.mujoco import import_mujoco

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

SUPPORTED = "supported are ids of Gymnasium with Box observations and bounded Box actions, such as HalfCheetah-v5"


class Gymnasium(Suite):
    """A list of Gymnasium ids; see `lit_mtrl.envs.base.Suite`.

    ``tasks``: ids with their versions, in one-hot order. ``horizon``: steps of an episode at most, 0 for each id's own
    time limit. ``seed``: what the seeds of episodes are derived from.
    """

    score: ClassVar[Literal["success", "return"]] = "return"
    num_goals = 2**31 - 1

    def __init__(self, tasks: Sequence[str], horizon: int = 0, seed: int = 0):
        require(len(tasks) > 0, "benchmark.tasks: name at least one task")
        require(
            len(set(tasks)) == len(tasks), "benchmark.tasks: a task is named twice; use env.copies for several copies"
        )
        require(horizon >= 0, f"env.horizon={horizon}: steps of an episode, or 0 for each id's own limit")
        self.tasks, self.seed, self._own_horizons = list(tasks), seed, not horizon
        self._obs_dims, self._action_dims, self._horizons = [], [], []
        for name in tasks:
            env, limit = _build(name), horizon or _spec(name).max_episode_steps
            require(limit is not None, f"benchmark.tasks={name}: has no time limit of its own; give env.horizon")
            _require_supported(name, env)
            self._obs_dims.append(int(np.prod(env.observation_space.shape or ())))
            self._action_dims.append(int(np.prod(env.action_space.shape or ())))
            self._horizons.append(limit)
            env.close()
        self.obs_dim, self.action_dim = max(self._obs_dims), max(self._action_dims)
        self.horizon = max(self._horizons)

    @property
    def obs_dims(self) -> Sequence[int]:
        return self._obs_dims

    @property
    def action_dims(self) -> Sequence[int]:
        return self._action_dims

    @property
    def horizons(self) -> Sequence[int]:
        return self._horizons

    def make(self, task: int) -> GymnasiumTask:
        return GymnasiumTask(self.tasks[task], self.seed)

    def tags(self) -> dict[str, str]:
        return {
            "backend": "gymnasium",
            "benchmark": "+".join(self.tasks),
            "rewards": "own",
            "horizon": "own" if self._own_horizons else str(self.horizon),
            "goals": "seeds",
        }


class GymnasiumTask:
    """The environment of one id, without its time limit; success is never reported."""

    def __init__(self, name: str, seed: int):
        self._env, self._name, self._seed = _build(name), name, seed
        box = self._env.action_space
        self._low, self._high, self._shape, self._dtype = box.low, box.high, box.shape, box.dtype  # pyright: ignore
        self._middle, self._half = (self._low + self._high) / 2, (self._high - self._low) / 2

    def reset(self, variation: int) -> NDArray:
        obs, _ = self._env.reset(seed=episode_seed(self._seed, variation))
        return np.asarray(obs, np.float32).ravel()

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool]:
        scaled = self._middle + self._half * action.reshape(self._shape)
        scaled = np.clip(scaled, self._low, self._high).astype(self._dtype)  # rounding may leave the box
        obs, reward, terminated, truncated, _ = self._env.step(scaled)
        require(
            not truncated or terminated,
            f"benchmark.tasks={self._name}: truncates episodes itself; only time limits are supported",
        )
        return np.asarray(obs, np.float32).ravel(), float(reward), bool(terminated), False

    def close(self) -> None:
        self._env.close()


def episode_seed(seed: int, variation: int) -> int:
    """What `reset` is seeded with, a 63-bit integer."""
    return int(np.random.SeedSequence((seed, variation)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _spec(name: str) -> EnvSpec:
    import gymnasium

    known = gymnasium.registry
    if name not in known:
        near = nearest(name, known)
        _refuse(name, f"is no id of the installed Gymnasium{f'; did you mean {near!r}?' if near else ''}")
    return known[name]


def _build(name: str) -> gymnasium.Env:
    """The environment without its time limit; `ConfigError` if the id is unknown or its package is not installed."""
    spec = _spec(name)
    if "mujoco" in str(spec.entry_point):
        import_mujoco()
    import gymnasium

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that are out of date
            return gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True)
    except Exception as error:  # whatever a package that is missing raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"benchmark.tasks={name}: cannot be built ({reason}); {SUPPORTED}") from error


def _require_supported(name: str, env: gymnasium.Env) -> None:
    from gymnasium.spaces import Box

    seen, acts = env.observation_space, env.action_space
    if not isinstance(seen, Box):
        _refuse(name, f"its observations are {type(seen).__name__}")
    if not isinstance(acts, Box):
        _refuse(name, f"its actions are {type(acts).__name__}")
    if not (np.issubdtype(acts.dtype, np.floating) and acts.is_bounded()):
        _refuse(name, f"its actions are {acts}")


def _refuse(name: str, reason: str) -> NoReturn:
    raise ConfigError(f"benchmark.tasks={name}: {reason}; {SUPPORTED}")
