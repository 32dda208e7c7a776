"""What every suite must do; `python -m pytest test_my_suite.py`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from torchrl.envs.utils import check_env_specs

from lit_mtrl.cli.templates.suite.my_suite import CORNERS, MySuite
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.vector import vector_env

TASKS = list(CORNERS)[:3]


@pytest.fixture
def suite() -> Suite:
    """As it arrives in a worker process."""
    return pickle.loads(pickle.dumps(MySuite(TASKS)))


def play(suite: Suite, task: int, variation: int) -> list:
    """One episode with the same actions every time."""
    rng, env = np.random.default_rng(0), suite.make(task)
    seen: list = [env.reset(variation).copy()]
    for _ in range(suite.horizons[task]):
        obs, reward, terminated, success = env.step(rng.uniform(-1, 1, suite.action_dims[task]).astype(np.float32))
        assert obs.shape == (suite.obs_dims[task],) and np.isfinite(obs).all() and np.isfinite(reward)
        seen.append((obs.copy(), float(reward), bool(terminated), bool(success)))
        if terminated:
            break
    env.close()
    return seen


@pytest.mark.parametrize("task", range(len(TASKS)))
def test_an_episode_depends_on_its_variation_alone(suite: Suite, task: int) -> None:
    """The same variation and actions give the same episode, whatever was played before."""
    first = play(suite, task, 0)
    play(suite, task, suite.num_goals - 1)
    assert str(play(suite, task, 0)) == str(first)


def test_specs_describe_the_data(suite: Suite) -> None:
    """As TorchRL's collectors see it, with two environments per task."""
    check_env_specs(vector_env(suite, range(len(TASKS)), 2), seed=0, break_when_any_done="both")


def test_time_limits_are_truncations(suite: Suite) -> None:
    """The horizon ends an episode, and is no terminal state."""
    env = vector_env(suite, range(len(TASKS)))
    env.set_seed(0, static_seed=True)
    data = env.rollout(suite.horizon, break_when_any_done=False)
    assert data["next", "truncated"][:, -1].any()


def test_tags_say_what_it_is(suite: Suite) -> None:
    """They are in every table of results."""
    assert {"backend", "benchmark", "rewards", "horizon", "goals"} <= set(suite.tags())
    assert all(isinstance(value, str) for value in suite.tags().values())
