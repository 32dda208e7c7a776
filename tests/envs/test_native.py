"""Compiled Meta-World steps against the official ones: the same numbers, task by task."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba.core.errors import NumbaError

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs import native
from lit_mtrl.envs.benchmarks import MT50
from lit_mtrl.envs.metaworld import MetaWorld, MetaWorldTask
from lit_mtrl.envs.mujoco import import_mujoco
from lit_mtrl.envs.vector import VectorEnv, vector_env
from tests.helpers.processes import environment

import_mujoco()
from lit_mtrl.envs.native.cache import folder  # noqa: E402
from lit_mtrl.envs.native.group import MOST_STARTS, Group  # noqa: E402
from lit_mtrl.envs.native.layout import layout  # noqa: E402
from lit_mtrl.envs.native.rows import module_of  # noqa: E402
from lit_mtrl.envs.native.starts import SavedStarts  # noqa: E402
from lit_mtrl.envs.native.step import step_row  # noqa: E402
from lit_mtrl.envs.native.task import OUT  # noqa: E402
from lit_mtrl.envs.native.vector import NativeVector  # noqa: E402


def expert(task: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[f"{task}-v3"]()


def act(kind: str, policy: Any, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experts whose actions are to be clipped
        action = rng.uniform(-1, 1, 4) if kind == "random" else np.asarray(policy.get_action(obs), np.float64)
    if kind == "noisy":
        action = action + rng.normal(0, 0.5, 4)
    if kind == "closing":  # the expert's hand with a gripper that closes by any amount
        action[3] = rng.uniform(0, 1)
    return np.clip(action, -1, 1).astype(np.float32)


def require_equal(task: str, goals: tuple[int, ...], steps: int, kinds: tuple[str, ...]) -> set[int]:
    """Episodes on ``goals`` in a row, by the official step and the compiled one; returns which successes were seen."""
    suite = MetaWorld([task])
    official, ours = suite.make_official(0), suite.make_official(0)
    group, obs, seen = Group([task], [ours], threads=1), np.zeros((1, 39), np.float32), set()
    rng, number = np.random.default_rng(MT50.index(task)), 0
    for goal in goals:
        for kind in kinds:
            number += 1
            full, policy = official.reset(goal), expert(task)
            group.begin([0], [goal], obs)
            assert np.array_equal(obs[0], full.astype(np.float32)), f"reset {number} on goal {goal}"
            for step in range(steps):
                action = act(kind, policy, full, rng)
                full, reward, _, _, info = official.official.step(action)
                step_row(group.rows, 0, action)
                where = f"{task}, goal {goal}, {kind}, step {step}"
                assert np.array_equal(group.rows.obs[0].astype(np.float32), full.astype(np.float32)), where
                wanted = np.array([float(reward), *(float(info[name]) for name in OUT[1:])])
                np.testing.assert_allclose(group.rows.out[0], wanted, rtol=1e-12, atol=0, err_msg=where)
                seen.add(int(info["success"]))
    return seen


@pytest.mark.parametrize("task", MT50)
def test_every_task_for_some_steps(task: str) -> None:
    """The second episode begins with a copy of the first one's start."""
    require_equal(task, (3,), 30, ("random", "closing"))


@pytest.mark.slow
@pytest.mark.parametrize("task", MT50)
def test_whole_episodes(task: str) -> None:
    """Of random actions, experts, noisy experts and a gripper that closes; all but the first on a goal begin with a
    copied start. Experts succeed.
    """
    seen = require_equal(task, (0, 7, 23), 500, ("random", "expert", "noisy", "closing"))
    assert seen == {0, 1}


def test_rows_of_several_tasks_and_copies_on_threads() -> None:
    """Each row is the environment of its task, copy and seed, whoever steps it; reward and success, too."""
    tasks = ["reach", "door-open", "peg-insert-side"]
    envs = [
        vector_env(MetaWorld(tasks, horizon=20, goals=3, engine=engine, threads=threads), [0, 1, 2], copies=2)
        for engine, threads in (("python", 0), ("native", 1), ("native", 3))
    ]
    assert type(envs[0]) is VectorEnv and type(envs[1]) is not VectorEnv
    rng = np.random.default_rng(0)
    for env in envs:
        env.set_seed(5)
    states = [env.reset() for env in envs]
    for _ in range(50):  # over two time limits
        action = torch.from_numpy(rng.uniform(-1, 1, (6, 4)).astype(np.float32))
        results = [
            env.step_and_maybe_reset(state.set("action", action)) for env, state in zip(envs, states, strict=True)
        ]
        states = [after for _, after in results]
        for key in results[0][0]["next"].keys():
            for stepped, _ in results[1:]:
                assert torch.equal(stepped["next", key], results[0][0]["next", key]), key
        for key in states[0].keys():
            assert all(torch.equal(state[key], states[0][key]) for state in states[1:]), key
    for env in envs:
        env.close()


@pytest.mark.parametrize(
    ("threads", "ranks", "tasks", "wanted"), [(0, 1, [0, 1], 4), (0, 2, [0, 1], 2), (0, 4, [0], 1), (3, 4, [0, 1], 3)]
)
def test_threads_are_a_share_of_the_cores(
    threads: int, ranks: int, tasks: list[int], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight cores, four tasks, two environments of each; never more threads than environments."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    suite = MetaWorld(["reach", "push", "door-open", "drawer-open"], threads=threads)
    suite.ranks = ranks
    env = vector_env(suite, tasks, copies=2)
    assert isinstance(env, NativeVector) and env._group.threads == wanted
    env.close()


def test_one_task_as_evaluation_plays_it() -> None:
    python, ours = (MetaWorld(["drawer-close"], engine=engine).make(0) for engine in ("python", "native"))
    policy, successes = expert("drawer-close"), 0
    assert isinstance(python, MetaWorldTask) and not isinstance(ours, MetaWorldTask)
    for goal in (1, 4, 1):
        obs = python.reset(goal)
        assert np.array_equal(ours.reset(goal), obs.astype(np.float32))
        for _ in range(120):
            action = act("expert", policy, obs, np.random.default_rng(0))
            obs, reward, _, success = python.step(action)
            seen, gained, ended, succeeded = ours.step(action)
            assert np.array_equal(seen.astype(np.float32), obs.astype(np.float32))
            assert np.isclose(gained, reward, rtol=1e-12, atol=0) and succeeded == success and not ended
            successes += success
    assert successes > 0
    ours.close()
    python.close()


def test_starts_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More goals than there is room for begin with official resets."""
    assert MOST_STARTS > 50 * 50
    monkeypatch.setattr("lit_mtrl.envs.native.group.MOST_STARTS", 3)
    suite, obs = MetaWorld(["reach"]), np.zeros((1, 39), np.float32)
    group, official = Group(["reach"], [suite.make_official(0)], threads=1), suite.make_official(0)
    for goal in (0, 1, 2, 3, 0, 3, 2):
        group.begin([0], [goal], obs)
        assert np.array_equal(obs[0], official.reset(goal).astype(np.float32))
        action = np.full(4, 0.3, np.float32)
        full, *_ = official.step(action)
        assert np.array_equal(group.step(action)[0].astype(np.float32), full.astype(np.float32))


def test_values_out_of_range_do_what_the_official_step_does() -> None:
    """Actions beyond [-1, 1], and none at all."""
    suite, obs = MetaWorld(["push"]), np.zeros((1, 39), np.float32)
    group, official = Group(["push"], [suite.make_official(0)], threads=1), suite.make_official(0)
    group.begin([0], [0], obs)
    official.reset(0)
    for action in ([3.0, -2.0, 0.5, 1.7], [0.0, 0.0, 0.0, -4.0], [np.nan, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, np.nan]):
        single = np.array(action, np.float32)
        full, *_ = official.step(single)
        assert np.array_equal(group.step(single)[0].astype(np.float32), full.astype(np.float32), equal_nan=True)


def test_v1_rewards_are_the_official_code(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lit_mtrl"):
        for _ in range(2):
            suite = MetaWorld(["reach"], rewards="v1")
            assert isinstance(suite.make(0), MetaWorldTask) and suite.vector_class() is None
    assert [record.getMessage()[:14] for record in caplog.records] == ["env.rewards=v1"]


def test_without_numba() -> None:
    """One warning; then the official step."""
    code = (
        "import sys; sys.modules['numba'] = None; from lit_mtrl.envs.metaworld import MetaWorld; "
        "suite = MetaWorld(['reach'], engine='native'); print(suite.vector_class(), type(suite.make(0)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "None MetaWorldTask\n" and done.stderr.count("env.engine=native: import of numba halted") == 1


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As in a new process."""
    monkeypatch.setattr(native, "_tried", {})
    layout.cache_clear()
    yield monkeypatch
    layout.cache_clear()


def fallen_back(caplog: pytest.LogCaptureFixture) -> str:
    """What is said, once, where two suites of different tasks fall back on the official code."""
    with caplog.at_level(logging.WARNING, "lit_mtrl"):
        for tasks in (["reach"], ["reach", "push"]):
            suite = MetaWorld(tasks)
            assert suite.vector_class() is None and isinstance(suite.make(0), MetaWorldTask)
            assert not pickle.loads(pickle.dumps(suite)).native()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    return record.getMessage()


def test_a_mujoco_that_is_laid_out_otherwise(untried: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    untried.setattr("lit_mtrl.envs.native.layout.SEARCHED", 64)
    assert "keeps its contacts where they are not found" in fallen_back(caplog)


def test_a_task_that_does_not_compile(untried: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails(task: str) -> None:
        raise NumbaError("no such type\nand a long story")

    untried.setattr("lit_mtrl.envs.native.trial.module_of", fails)
    assert "env.engine=native: no such type; steps are the official code's" in fallen_back(caplog)


def test_a_step_that_is_not_the_official_one(untried: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    step = Group.step

    def other(group: Group, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        obs, reward, success = step(group, action)
        return obs, reward + 1e-6, success

    untried.setattr(Group, "step", other)
    assert "reach: its compiled step is not the official one" in fallen_back(caplog)


def test_starts_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run of the same goals makes no official reset, but for the first of each environment; damaged files are
    written anew.
    """
    monkeypatch.setattr("lit_mtrl.envs.native.starts.folder", lambda: str(tmp_path))
    tasks, goals = ["push", "drawer-close"], [4, 1]
    resets: list[int] = []
    reset = MetaWorldTask.reset
    monkeypatch.setattr(MetaWorldTask, "reset", lambda env, goal: resets.append(goal) or reset(env, goal))
    seen = []
    for damage in (False, False, True):
        if damage:
            for path in tmp_path.rglob("*"):
                if path.is_file():
                    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
        resets.clear()
        suite = MetaWorld(tasks, keep_starts=True)
        group = Group(tasks, [suite.make_official(task) for task in (0, 1)], threads=1, saved=SavedStarts())
        obs, reward, success = np.zeros((2, 39), np.float32), np.zeros((2, 1), np.float32), np.zeros(2, bool)
        group.begin([0, 1], goals, obs)
        seen.append([obs.copy()])
        for action in np.random.default_rng(0).uniform(-1, 1, (60, 2, 4)).astype(np.float32):
            group.advance(action, obs, reward, success)
            seen[-1] += [obs.copy(), reward.copy()]
        assert [goal for goal in resets if goal] == ([] if len(seen) == 2 else goals)
    resets.clear()
    alone = MetaWorld(tasks, keep_starts=True).make(1)  # one task, as evaluation plays it, whose rows are narrower
    assert np.array_equal(alone.reset(goals[1]), seen[0][0][1]) and not any(resets)
    alone.close()
    for later in seen[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(seen[0], later, strict=True))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_starts_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; a folder that is not there at all was said before."""
    (tmp_path / "file").write_text("")
    arrays = [np.zeros(2), np.zeros(3)]
    for place, said in ((str(tmp_path / "file"), 1), (None, 0)):
        caplog.clear()
        monkeypatch.setattr("lit_mtrl.envs.native.starts.folder", lambda place=place: place)
        saved = SavedStarts()
        for _ in range(2):
            saved.write("reach", np.zeros(6), arrays)
            assert saved.read("reach", np.zeros(6), [2, 3]) is None
        assert [record.getMessage()[:15] for record in caplog.records] == ["env.keep_starts"] * said


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """One warning, and it runs."""
    code = "from lit_mtrl.envs.native.cache import folder; print(folder())"
    (tmp_path / "file").write_text("")
    env = environment() | {"NUMBA_CACHE_DIR": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n" and "cannot be kept in" in done.stderr
    assert "native-" in (folder() or "")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (dict(engine="c"), "env.engine=c: unknown; choose one of native, python"),
        (dict(threads=-1), "env.threads=-1"),
    ],
)
def test_values_that_cannot_be_used(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MetaWorld(["reach"], **values)


def test_the_suite_travels() -> None:
    """To evaluation and collecting processes."""
    sent = pickle.loads(pickle.dumps(MetaWorld(["reach"], threads=3)))
    assert (sent.engine, sent.threads, sent._native) == ("native", 3, True)


def test_every_task_has_a_file() -> None:
    names = {path.stem for path in Path(native.__file__).parent.joinpath("tasks").glob("*.py")} - {"__init__"}
    assert names == {task.replace("-", "_") for task in MT50}
    assert all(hasattr(module_of("reach"), name) for name in ("READS", "observe", "evaluate"))
