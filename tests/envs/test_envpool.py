"""EnvPool keeps the vector environment's contract, and plays the official episodes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase
from torchrl.envs.utils import check_env_specs

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import OBS
from lit_mtrl.envs.benchmarks import MT50
from lit_mtrl.envs.envpool import SHIFTED, EnvPool, EnvPoolVector, env_id
from lit_mtrl.envs.metaworld import MetaWorldTask
from lit_mtrl.envs.vector import vector_env
from tests.helpers.project import ROOT

installed = pytest.mark.skipif("not __import__('importlib').util.find_spec('envpool')", reason="EnvPool")
TASKS = ["reach", "hammer", "push"]


def make(horizon: int = 5, tasks: Sequence[int] = (0, 1, 2), copies: int = 2, stagger: bool = False) -> EnvPoolVector:
    return vector_env(EnvPool(TASKS, horizon=horizon), tasks, copies, stagger)


def play(env: EnvPoolVector, steps: int, seed: int) -> TensorDictBase:
    """``[rows, steps]`` under one sequence of actions for all."""
    env.set_seed(seed, static_seed=True)
    actions = iter(torch.rand(steps, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return env.rollout(
        steps, lambda td: td.set("action", next(actions).expand(len(td), 4).clone()), break_when_any_done=False
    )


def test_every_task_is_registered() -> None:
    registration = pytest.importorskip("envpool.registration")
    assert {env_id(task) for task in MT50} <= set(registration.list_all_envs())


@installed
def test_specs_describe_the_data() -> None:
    env = make(stagger=True)
    assert env.batch_size == (6,)
    check_env_specs(env, seed=0, break_when_any_done="both")
    env.close()


@installed
def test_truncation_keeps_the_true_last_observation_and_the_reset_follows() -> None:
    data = play(make(), 12, 1)
    assert data["next", "truncated"][:, :, 0].nonzero()[:, 1].tolist() == [4, 9] * 6
    assert not data["next", "terminated"].any()
    assert data["next", "episode_length"][0, :, 0].tolist() == [1, 2, 3, 4, 5] * 2 + [1, 2]
    returns = data["next", "reward"][:, 5:10, 0].cumsum(1)
    assert torch.allclose(data["next", "episode_return"][:, 5:10, 0], returns)
    inside = [0, 1, 2, 3, 5, 6, 7, 8, 10]
    after, before = data["next", OBS][:, inside], data[OBS][:, [i + 1 for i in inside]]
    assert torch.equal(after, before)
    # Frames: an observation's second half is the one before; the hand moves on in the last step, and jumps back in the
    # reset.
    assert torch.equal(data["next", OBS][:, 4, 18:36], data[OBS][:, 4, :18])
    assert torch.equal(data["next", OBS][:, 4, 36:], data[OBS][:, 4, 36:])
    assert not torch.equal(data["next", OBS][:, 4, :3], data[OBS][:, 5, :3])
    starts = data[OBS][:, [0, 5, 10]]
    assert torch.allclose(starts[:, :, :3], starts[:, :1, :3], atol=1e-3)
    assert all(len(row.unique(dim=0)) == 3 for row in starts[:, :, 4:7])  # new objects every time


@installed
def test_streams_depend_on_seed_task_and_copy_alone() -> None:
    whole = play(make(), 12, 7)
    again = make()
    play(again, 8, 3)  # whatever was played before
    assert torch.equal(play(again, 12, 7)[OBS], whole[OBS])
    assert not torch.equal(play(again, 12, 8)[OBS], whole[OBS])
    assert torch.equal(play(make(tasks=[2, 0]), 12, 7)[OBS], whole[OBS][[4, 5, 0, 1]])
    assert torch.equal(play(make(copies=1), 12, 7)[OBS], whole[OBS][::2])
    assert len(whole[OBS][:, 0, 4:].unique(dim=0)) == 6


@installed
def test_staggered_rows_end_alone() -> None:
    data = play(make(horizon=6, stagger=True), 13, 1)
    ends = [row.flatten().nonzero().flatten().tolist() for row in data["next", "truncated"]]
    assert ends == [[0, 6, 12], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
    for row, ended in enumerate(ends):
        assert torch.allclose(
            data[OBS][row, ended[0] + 1, :3], data[OBS][row, 0, :3], atol=1e-3
        )  # its own first observation
    going = data["next", OBS][5, :5]
    assert torch.equal(going, data[OBS][5, 1:6])  # untouched by the resets of others, in its own pool too


@installed
def test_success_is_latched() -> None:
    env = make(copies=1)
    env.set_seed(0, static_seed=True)
    td = env.reset()
    env._success[1] = True
    step = env.step(env.rand_action(td))["next"]
    assert step["success"][:, 0].tolist() == [False, True, False]
    assert not env.reset()["success"].any()


@installed
def test_what_is_built_for_evaluation_is_official() -> None:
    suite = EnvPool(["reach"])
    assert isinstance(suite.make(0), MetaWorldTask) and suite.num_goals == 50
    assert suite.tags() | {"backend": "envpool", "goals": "continuous"} == suite.tags()
    assert pickle.loads(pickle.dumps(suite)).threads == 0 and EnvPool.threaded


@installed
def test_the_library_is_not_imported_before_environments_are_built() -> None:
    code = (
        "import sys; from lit_mtrl.envs.envpool import EnvPool; EnvPool(['reach']); assert 'envpool' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@installed
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rewards": "v1"}, "env.rewards=v1: EnvPool computes v2 rewards alone; use env=metaworld"),
        ({"goals": 1}, "env.goals=1: .* use env=metaworld"),
        ({"threads": -1}, "env.threads=-1"),
        ({"horizon": 501}, "env.horizon=501"),
    ],
)
def test_what_envpool_cannot_do(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EnvPool(["reach"], **values)


def test_envpool_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"env=envpool: .* pip install 'lit_mtrl\[fast\]'"):
        EnvPool(["reach"])


def test_envpool_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="env=envpool: EnvPool is not installed; pip install"):
        EnvPool(["reach"])


@installed
def test_a_task_that_envpool_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpool.registration.list_all_envs", lambda: [env_id("push")])
    EnvPool(["push"]).check()
    with pytest.raises(ConfigError, match="benchmark.tasks=reach: the installed EnvPool lacks this task"):
        EnvPool(["push", "reach"]).check()


@installed
@pytest.mark.parametrize("name", ["assembly", "button-press-topdown-wall", "button-press-wall", "hammer"])
def test_episodes_are_the_official_ones(name: str) -> None:
    """From equal objects and goals, before any contact; `hammer` and the reward of the wall are what we correct."""
    from benchmarks.backends import compare

    apart = compare(name, expert=False, episodes=3, steps=30)
    assert apart["reset"] < 1e-6 and apart["observation"] < 1e-6 and apart["reward"] < 1e-4
    assert apart["successes"] == 0


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_every_task_starts_as_the_official_one(name: str) -> None:
    """Resets, also after other episodes: object, goal and hand within 5e-3 (the engines differ). Not the object in two
    tasks: the official reset shows window-close's handle before it is moved, and lets disassemble's nut turn.
    """
    from benchmarks.backends import OfficialSide, PoolSide

    pool, official, rng = PoolSide(name), OfficialSide(name), np.random.default_rng(0)
    for _ in range(4):
        ours, theirs = pool.reset(), official.reset()
        seen = [0, 1, 2, 36, 37, 38] + ([] if name in ("window-close", "disassemble") else [4, 5, 6])
        assert np.abs(ours - theirs)[seen].max() < 5e-3
        for action in rng.uniform(-1, 1, (100, 4)).astype(np.float32):
            pool.step(action)
            official.step(action)


@installed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Constant:UserWarning:metaworld")
@pytest.mark.parametrize("name", ["reach", "door-open", "button-press", *SHIFTED])
def test_scripted_experts_succeed_alike(name: str) -> None:
    from benchmarks.backends import expert_success

    rates = expert_success(name, 20)
    assert abs(rates["official"] - rates["envpool"]) <= 0.05, rates
