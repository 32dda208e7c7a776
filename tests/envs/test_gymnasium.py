"""Gymnasium ids as tasks: sizes, scaled actions, seeds, time limits, and what is refused."""

from __future__ import annotations

import pickle
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict
from torchrl.envs.utils import check_env_specs

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import ACTION, OBS
from lit_mtrl.envs.gymnasium import Gymnasium, episode_seed
from lit_mtrl.envs.vector import VectorEnv

CLASSIC = ["Pendulum-v1", "MountainCarContinuous-v0"]


class Small(gymnasium.Env):
    """One step moves a number by the action; ends as told."""

    def __init__(self, low: float = -1, high: float = 1, observation: gymnasium.Space | None = None, ends: str = ""):
        self.action_space = Box(low, high, (2, 1), np.float32)
        self.observation_space = observation or Box(-np.inf, np.inf, (1, 2), np.float64)
        self.ends, self.taken = ends, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=(1, 2)), {}

    def step(self, action):
        self.taken.append(action)
        return np.ones((1, 2)), np.float64(2), self.ends == "terminated", self.ends == "truncated", {}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch):
    def add(name: str, limit: int | None = 7, **options: object) -> str:
        spec = EnvSpec(name, entry_point=lambda: Small(**options), max_episode_steps=limit)  # pyright: ignore
        monkeypatch.setitem(gymnasium.registry, name, spec)
        return name

    return add


def test_sizes_and_time_limits_are_those_of_the_ids() -> None:
    suite = Gymnasium([*CLASSIC, "Hopper-v5"])
    assert (suite.obs_dims, suite.action_dims) == ([3, 2, 11], [1, 1, 3])
    assert (suite.obs_dim, suite.action_dim, suite.horizon) == (11, 3, 1000)
    assert suite.horizons == [200, 999, 1000]
    assert Gymnasium(CLASSIC, horizon=30).horizons == [30, 30]
    assert suite.score == "return"


def test_a_task_is_the_environment_itself() -> None:
    """Observations, rewards and ends of Hopper are Gymnasium's own, in single precision."""
    task = Gymnasium(["Pendulum-v1", "Hopper-v5"], seed=5).make(1)
    env = gymnasium.make("Hopper-v5")
    rng = np.random.default_rng(0)
    for variation in (3, 0):
        obs, _ = env.reset(seed=episode_seed(5, variation))
        np.testing.assert_array_equal(task.reset(variation), obs.astype(np.float32))
        ended = False
        while not ended:
            action = rng.uniform(-1, 1, 3).astype(np.float32)
            obs, reward, ended, _, _ = env.step(action)
            mine, paid, terminated, success = task.step(action)
            np.testing.assert_array_equal(mine, obs.astype(np.float32))
            assert (paid, terminated, success) == (reward, ended, False)
            assert mine.dtype == np.float32


@pytest.mark.parametrize("name", [*CLASSIC, "HalfCheetah-v5"])
def test_a_reset_forgets_the_past(name: str) -> None:
    task = Gymnasium([name]).make(0)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, *[Gymnasium([name]).action_dim])).astype(np.float32)

    def play(variation: int) -> list:
        return [task.reset(variation).tolist(), *([x.tolist() for x in map(np.asarray, task.step(a))] for a in actions)]

    first = play(1)
    assert play(2) != first
    assert play(1) == first


def test_the_suite_s_seed_picks_the_episodes() -> None:
    starts = {tuple(Gymnasium(["Pendulum-v1"], seed=seed).make(0).reset(v)) for seed in (0, 1) for v in (0, 1)}
    assert len(starts) == 4


def test_actions_are_mapped_onto_the_box(register) -> None:
    task = Gymnasium([register("Small-v0", low=-3, high=1)]).make(0)
    task.reset(0)
    for action in ([-1, 1], [0, 0.5]):
        assert task.step(np.array(action, np.float32))[0].tolist() == [1, 1]
    taken = task._env.unwrapped.taken  # pyright: ignore[reportAttributeAccessIssue]
    assert [x.ravel().tolist() for x in taken] == [[-3, 1], [-1, 0]]
    assert {(x.shape, x.dtype.name) for x in taken} == {((2, 1), "float32")}


def test_unequal_tasks_in_one_vector_environment() -> None:
    """Pendulum is truncated at 4 steps, MountainCar at 6; observations behind a task's own are zero."""
    suite = Gymnasium(CLASSIC)
    suite._horizons = [4, 6]
    env = VectorEnv(suite, [0, 1])
    check_env_specs(env)
    env.set_seed(3)
    td = env.reset()
    assert td[OBS][1, 2] == 0 and (td[OBS][0] != 0).all()
    ended = []
    for _ in range(12):
        td = env.step_and_maybe_reset(td.set(ACTION, torch.full((2, 1), 0.1)))
        assert (td[0]["next", OBS][1, 2], td[1][OBS][1, 2]) == (0, 0)
        assert torch.equal(td[0]["next", "done"], td[0]["next", "truncated"])
        ended.append(td[0]["next", "done"].flatten().tolist())
        td = td[1]
    assert [i + 1 for i, (one, _) in enumerate(ended) if one] == [4, 8, 12]
    assert [i + 1 for i, (_, two) in enumerate(ended) if two] == [6, 12]


def test_it_travels_to_other_processes() -> None:
    suite = Gymnasium(CLASSIC, seed=2)
    again = pickle.loads(pickle.dumps(suite))
    assert again.make(0).reset(4).tolist() == suite.make(0).reset(4).tolist()
    assert (again.obs_dims, again.action_dims) == (suite.obs_dims, suite.action_dims)


SUPPORTED = "supported are ids of Gymnasium with Box observations and bounded Box actions"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("HalfCheeta-v5", "no id of the installed Gymnasium; did you mean 'HalfCheetah-v5'"),
        ("ALE/Pong-v5", "no id of the installed Gymnasium"),
        ("os:Pendulum-v1", "no id of the installed Gymnasium"),
        ("CartPole-v1", "its actions are Discrete"),
        ("FrozenLake-v1", "its observations are Discrete"),
        ("HalfCheetah-v2", "cannot be built"),
    ],
)
def test_what_is_refused(task: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^benchmark.tasks={task}: .*{said}.*; {SUPPORTED}.*$") as error:
        Gymnasium(["Pendulum-v1", task])
    assert "\n" not in str(error.value)


def test_an_environment_whose_package_is_missing(register, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("Absent-v0", entry_point="lit_mtrl_absent:Env", max_episode_steps=3)
    monkeypatch.setitem(gymnasium.registry, "Absent-v0", spec)
    with pytest.raises(ConfigError, match="Absent-v0: cannot be built .No module named 'lit_mtrl_absent'.; supported"):
        Gymnasium(["Absent-v0"])


def test_more_that_is_refused(register) -> None:
    with pytest.raises(ConfigError, match="Open-v0: its actions are Box.*inf.*; supported are"):
        Gymnasium([register("Open-v0", high=np.inf)])
    with pytest.raises(ConfigError, match="Parts-v0: its observations are Dict; supported are"):
        Gymnasium([register("Parts-v0", observation=Dict({"a": Box(0, 1)}))])
    with pytest.raises(ConfigError, match="Endless-v0: has no time limit of its own; give env.horizon"):
        Gymnasium([register("Endless-v0", limit=None)])
    assert Gymnasium(["Endless-v0"], horizon=9).horizons == [9]
    with pytest.raises(ConfigError, match="a task is named twice"):
        Gymnasium(["Pendulum-v1", "Pendulum-v1"])
    with pytest.raises(ConfigError, match="name at least one task"):
        Gymnasium([])
    task = Gymnasium([register("Own-v0", ends="truncated")]).make(0)
    task.reset(0)
    with pytest.raises(ConfigError, match="Own-v0: truncates episodes itself"):
        task.step(np.zeros(2, np.float32))


def test_nothing_that_draws_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "imageio", None)
    Gymnasium(["Hopper-v5"]).make(0).reset(0)
