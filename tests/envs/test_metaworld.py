"""The Meta-World suite is the official package, step for step; its episodes do not depend on what was played before."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence

import metaworld
import numpy as np
import pytest
import torch
from metaworld import env_dict
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray
from tensordict import TensorDictBase

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import OBS
from lit_mtrl.envs.benchmarks import MT10, MT25, MT50
from lit_mtrl.envs.metaworld import MetaWorld, MetaWorldTask
from lit_mtrl.envs.vector import VectorEnv
from tests.helpers.processes import environment


def official_goals(benchmark: metaworld.Benchmark) -> dict[str, NDArray]:
    goals: dict[str, list] = {}
    for task in benchmark.train_tasks:
        goals.setdefault(task.env_name.removesuffix("-v3"), []).append(pickle.loads(task.data)["rand_vec"])
    return {name: np.array(vectors) for name, vectors in goals.items()}


def assert_same_goals(tasks: Sequence[str], benchmark: metaworld.Benchmark, seed: int) -> None:
    official = official_goals(benchmark)
    assert list(official) == list(tasks)
    for task, ours in zip(tasks, MetaWorld(tasks, seed=seed).draw_goals(), strict=True):
        assert np.array_equal(ours, official[task]), task


@pytest.mark.parametrize(
    ("names", "installed"),
    [(MT10, env_dict.MT10_V3), (MT25, env_dict.MT25_V3), (MT50, env_dict.MT50_V3)],
    ids=["10", "25", "50"],
)
def test_task_lists_are_the_installed_packages(names: list[str], installed: dict) -> None:
    assert [f"{name}-v3" for name in names] == list(installed)
    assert env_dict.MT50_V3 is env_dict.ALL_V3_ENVIRONMENTS


def test_goals_are_the_official_ones() -> None:
    assert_same_goals(MT10, metaworld.MT10(seed=42), seed=42)
    # Its reset reads the pose of the lever, so it is the task that notices how goals are drawn.
    assert_same_goals(["lever-pull"], metaworld.MT1("lever-pull-v3", seed=1), seed=1)


@pytest.mark.slow
def test_goals_of_all_tasks_are_the_official_ones() -> None:
    assert_same_goals(MT25, metaworld.MT25(seed=2), seed=2)
    assert_same_goals(MT50, metaworld.MT50(seed=3), seed=3)


def test_goals_follow_the_seed_and_leave_numpys_generator_alone() -> None:
    np.random.seed(5)
    before = np.random.random(3)
    np.random.seed(5)
    zero, again, one = (MetaWorld(["reach"], seed=seed).draw_goals()[0] for seed in (0, 0, 1))
    assert np.array_equal(np.random.random(3), before)
    assert np.array_equal(zero, again) and not np.array_equal(zero, one)
    assert zero.shape == (50, 6) and len(np.unique(zero, axis=0)) == 50


def test_fewer_goals_are_the_first_of_the_official_ones() -> None:
    fifty = MetaWorld(["push", "reach"]).draw_goals()
    few = MetaWorld(["push", "reach"], goals=3).draw_goals()
    assert all(np.array_equal(a[:3], b) for a, b in zip(fifty, few, strict=True))
    assert len(MetaWorld(["reach"], goals=60).draw_goals()[0]) == 60


class Official:
    """The official class of one task, driven as the official wrappers drive it."""

    def __init__(self, name: str, goals: NDArray, rewards: str):
        cls = env_dict.ALL_V3_ENVIRONMENTS[f"{name}-v3"]
        self.env, self.goals = cls(reward_function_version=rewards), goals

    def reset(self, goal: int) -> NDArray:
        data = {"rand_vec": self.goals[goal], "env_cls": type(self.env), "partially_observable": False}
        self.env.set_task(metaworld._encode_task("any", data))
        return self.env.reset()[0]

    def step(self, action: NDArray) -> tuple[NDArray, float, bool]:
        obs, reward, _, _, info = self.env.step(action)
        return obs, float(reward), bool(info["success"])


def compare_with_official(names: Sequence[str], rewards: str, steps: int, horizon: int, copies: int = 1) -> None:
    """Every observation, reward and success of the vector environment, through its resets, against the official
    classes.
    """
    suite = MetaWorld(names, horizon=horizon, rewards=rewards)
    env = VectorEnv(suite, range(len(names)), copies)
    data = _roll(env, steps, np.random.default_rng(0))
    for row, name in enumerate(np.repeat(names, copies)):
        official = Official(name, suite.draw_goals()[row // copies], rewards)
        goals = np.random.default_rng((0, row // copies, row % copies))  # the stream of VectorEnv for seed 0
        for step in range(steps):
            if step % horizon == 0:
                obs, latched = official.reset(int(goals.integers(50))), False
                assert np.array_equal(data[OBS][row, step], np.float32(obs)), (name, step)
            obs, reward, success = official.step(data["action"][row, step].numpy())
            latched |= success
            after = data[row, step]["next"]
            assert np.array_equal(after[OBS], np.float32(obs)), (name, step)
            assert after["reward"].item() == np.float32(reward), (name, step)
            assert after["success"].item() is latched, (name, step)


def _roll(env: VectorEnv, steps: int, rng: np.random.Generator) -> TensorDictBase:
    env.set_seed(0, static_seed=True)

    def act(td: TensorDictBase) -> TensorDictBase:
        return td.set("action", torch.from_numpy(rng.uniform(-1, 1, (len(td), 4)).astype(np.float32)))

    return env.rollout(steps, act, break_when_any_done=False)


@pytest.mark.parametrize("rewards", ["v2", "v1"])
def test_episodes_are_the_official_ones_bit_for_bit(rewards: str) -> None:
    compare_with_official(["reach", "drawer-open", "peg-insert-side"], rewards, steps=50, horizon=20)


def test_v1_and_v2_rewards_differ() -> None:
    first = [MetaWorld(["reach"], rewards=rewards).make(0) for rewards in ("v1", "v2")]
    for env in first:
        env.reset(0)
    v1, v2 = (env.step(np.ones(4, np.float32)) for env in first)
    assert np.array_equal(v1[0], v2[0]) and v1[1] != v2[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_every_task_is_the_official_one_bit_for_bit(name: str) -> None:
    for rewards in ("v2", "v1"):
        compare_with_official([name], rewards, steps=50, horizon=20)


def test_horizon_150_truncates_at_150_and_never_terminates() -> None:
    data = _roll(VectorEnv(MetaWorld(["reach"], horizon=150, goals=2), [0]), 301, np.random.default_rng(0))
    assert data["next", "truncated"].flatten().nonzero().flatten().tolist() == [149, 299]
    assert not data["next", "terminated"].any()
    assert data["next", "episode_length"].max() == 150


def test_the_longest_horizon_is_playable() -> None:
    data = _roll(VectorEnv(MetaWorld(["reach"], goals=1), [0]), 501, np.random.default_rng(0))
    assert data["next", "truncated"].flatten().nonzero().flatten().tolist() == [499]


def test_one_goal_is_a_fixed_goal() -> None:
    env = VectorEnv(MetaWorld(["reach"], horizon=2, goals=1), [0], copies=2)
    first = _roll(env, 8, np.random.default_rng(0))[OBS][:, ::2, -3:]
    assert (first == first[0, 0]).all() and first.any()
    many = VectorEnv(MetaWorld(["reach"], horizon=2), [0])
    assert len(_roll(many, 8, np.random.default_rng(0))[OBS][0, ::2, -3:].unique(dim=0)) > 1


def scripted(name: str, env: MetaWorldTask, goal: int, steps: int, rng: np.random.Generator) -> tuple[NDArray, ...]:
    """Play Meta-World's scripted policy with noise, so that objects are moved; actions follow from observations
    alone.
    """
    policy = ENV_POLICY_MAP[f"{name}-v3"]()
    seen, paid, succeeded = [env.reset(goal)], [], []
    for _ in range(steps):
        action = policy.get_action(seen[-1]) + rng.normal(0, 0.3, 4)
        obs, reward, _, success = env.step(np.clip(action, -1, 1).astype(np.float32))
        seen.append(obs)
        paid.append(reward)
        succeeded.append(success)
    return np.array(seen), np.array(paid), np.array(succeeded)


def assert_forgets(name: str, goals: Sequence[int], steps: int, rewards: str = "v2") -> None:
    suite = MetaWorld([name], rewards=rewards)
    played = suite.make(0)
    for goal in goals:
        for other in (7, 8):
            scripted(name, played, other, steps, np.random.default_rng(other))
        old, new = (scripted(name, env, goal, steps, np.random.default_rng(goal)) for env in (played, suite.make(0)))
        for what, a, b in zip(("observations", "rewards", "successes"), old, new, strict=True):
            assert np.array_equal(a, b), f"{name}, goal {goal}: {what} differ by up to {np.abs(1.0 * a - b).max()}"


@pytest.mark.filterwarnings("ignore:Constant:UserWarning:metaworld")
@pytest.mark.parametrize("name", ["door-open", "drawer-close", "pick-place", "peg-insert-side"])
def test_reset_forgets_the_past(name: str) -> None:
    """Exact resume builds fresh environments and relies on this."""
    assert_forgets(name, goals=[0], steps=100)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Constant:UserWarning:metaworld")
@pytest.mark.parametrize("name", MT50)
def test_reset_forgets_the_past_in_every_task(name: str) -> None:
    assert_forgets(name, goals=[0, 1, 2], steps=250)
    assert_forgets(name, goals=[0], steps=100, rewards="v1")


def test_an_unstable_simulation_is_forgotten_too() -> None:
    suite = MetaWorld(["reach"], engine="python")
    played, fresh = suite.make(0), suite.make(0)
    played.reset(1)
    played.step(np.ones(4, np.float32))
    played.official._did_see_sim_exception = True
    stale = played.step(np.ones(4, np.float32))
    assert stale[1:] == (0.0, False, False)
    for env in (played, fresh):
        env.reset(0)
    a, b = (env.step(np.ones(4, np.float32)) for env in (played, fresh))
    assert np.array_equal(a[0], b[0]) and a[1:] == b[1:]


def test_the_goal_is_visible() -> None:
    env = MetaWorld(["reach"], engine="python").make(0)
    obs, after = env.reset(0), env.step(np.zeros(4, np.float32))[0]
    assert (
        np.array_equal(obs[-3:], env.official._target_pos) and np.array_equal(after[-3:], obs[-3:]) and obs[-3:].all()
    )


def test_it_travels_and_names_itself() -> None:
    suite = pickle.loads(pickle.dumps(MetaWorld(MT10, horizon=200, goals=1, rewards="v1", seed=4)))
    assert suite.tags() == {
        "backend": "metaworld",
        "benchmark": "mt10",
        "rewards": "v1",
        "horizon": "200",
        "goals": "1",
    }
    assert MetaWorld(["reach-v3", "push"]).tags()["benchmark"] == "mt2-reach+push"
    sent = pickle.loads(pickle.dumps(MetaWorld(["reach"], seed=4)))
    assert np.array_equal(sent.draw_goals()[0], MetaWorld(["reach"], seed=4).draw_goals()[0])


def test_naming_tasks_does_not_import_the_simulator() -> None:
    code = "import sys; from lit_mtrl.envs.metaworld import MetaWorld; MetaWorld(['reach']).tags(); "
    code += "sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetaWorld(["pick-plase"]), "benchmark.tasks=pick-plase: unknown; did you mean 'pick-place'?"),
        (lambda: MetaWorld(["reach", "reach-v3"]), "named twice"),
        (lambda: MetaWorld([]), "at least one task"),
        (lambda: MetaWorld(["reach"], horizon=501), "env.horizon=501: .* 1 to 500"),
        (lambda: MetaWorld(["reach"], horizon=0), "env.horizon=0"),
        (lambda: MetaWorld(["reach"], goals=0), "env.goals=0"),
        (lambda: MetaWorld(["reach"], rewards="v3"), "env.rewards=v3: unknown; choose one of v1, v2"),
    ],
)
def test_bad_values_are_named(make: Callable[[], MetaWorld], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_nothing_is_drawn_so_a_missing_gl_library_does_not_matter() -> None:
    """MuJoCo does not even import with a MUJOCO_GL that it cannot have; what the user wanted stays for who draws."""
    ask = "import os; from lit_mtrl.envs.metaworld import MetaWorld; MetaWorld(['reach'], goals=1).make(0); "
    ask += "print(os.environ['MUJOCO_GL'])"
    done = subprocess.run(
        [sys.executable, "-c", ask], env={**environment(), "MUJOCO_GL": "none"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "none\n"
