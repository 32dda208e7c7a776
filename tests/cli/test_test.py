"""The command ``test``: rows under the right names, whatever is asked for; what is another agent's is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_mtrl.callbacks.evaluation import Evaluation
from lit_mtrl.core.manifest import MANIFEST
from lit_mtrl.envs.metaworld import MetaWorld
from lit_mtrl.envs.probes import Probes
from lit_mtrl.evaluation.evaluator import Evaluator
from lit_mtrl.evaluation.official import OfficialEvaluator
from lit_mtrl.training.weights import PROGRESS, TRAINING
from tests.helpers.actors import make_actor
from tests.helpers.command import refused, run

TASKS = ["reach", "push", "pick-place"]
"""Of the experiment ``debug``, in its order."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short run, whose tasks differ in return."""
    folder = tmp_path_factory.mktemp("trained")
    code, _, err = run("fit", "--config", "debug", "frames=300", f"output_dir={folder}/run")
    assert code == 0, err
    return folder / "run" / "checkpoints" / "last.ckpt"


def evaluated(checkpoint: Path, *overrides: str) -> dict[str, Any]:
    code, out, err = run("test", "--ckpt", str(checkpoint), "--json", *overrides)
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize(
    "chosen",
    [
        ["push", "reach", "pick-place"],
        ["pick-place"],
        ["pick-place", "reach"],
        ["push-v3"],
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [[], ["env.kind=endless", "env.horizon=4", "eval.episodes=3", "env.goals=3"]], ids=len)
def test_rows_of_chosen_tasks_are_those_of_all(chosen: list[str], more: list[str], trained: Path) -> None:
    whole = {row["task"]: row for row in evaluated(trained, *more)["tasks"]}
    assert len({row["return"] for row in whole.values()}) == 3  # or the names would not matter
    report = evaluated(trained, f"benchmark.tasks=[{','.join(chosen)}]", *more)
    rows = [whole[name.removesuffix("-v3")] for name in chosen]
    assert report["tasks"] == rows
    assert report["return"] == pytest.approx(sum(row["return"] for row in rows) / len(rows))
    assert report["benchmark"].endswith(f"mt{len(chosen)}")


def test_what_belongs_to_an_evaluation_is_taken(trained: Path) -> None:
    report = evaluated(
        trained, "eval.episodes=7", "env.kind=endless", "env.horizon=5", "env.goals=4", "seed=9", "eval.workers=1"
    )
    assert {row["length"] for row in report["tasks"]} == {5.0}
    assert (report["episodes"], report["horizon"], report["goals"]) == (7, "5", "4")


def test_an_evaluation_without_lengths(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Meta-World's own is."""
    test = ("test", "--ckpt", str(trained))
    rows = [{"task": "reach", "success": 0.5, "return": 1.0, "length": float("nan")}]
    monkeypatch.setattr(Evaluation, "evaluate", lambda *_: rows)
    report = json.loads(run(*test, "--json")[1], parse_constant=lambda name: pytest.fail(name))
    assert report["length"] is None and report["tasks"] == [{**rows[0], "length": None}]
    assert [line.split() for line in run(*test)[1].splitlines()[1:]] == [
        ["reach", "0.50", "1.0", "n/a"],
        ["mean", "0.50", "1.0", "n/a"],
    ]


REFUSED: dict[str, tuple[list[str], str]] = {
    "width": (["network.width=32"], "network.width (16 there, 32 here)"),
    "part": (["actor.log_std_min=-3"], "actor.log_std_min"),
    "critics": (["critic.size=3"], "critic.size"),
    "algorithm": (["algo.gamma=0.9", "weighting.critic.name=x"], "algo.gamma"),
    "no effect": (["frames=900"], "test takes eval.*, env.*, benchmark.tasks and seed"),
    "new key": (["+network.more=1"], "network.more"),
    "key": (["eval.epsiodes=3"], "did you mean 'eval.episodes'"),
    "value": (["eval.episodes=0"], "eval.episodes=0"),
    "horizon": (["env.horizon=0"], "env.horizon=0"),
    "task": (["benchmark.tasks=[pusch]"], "no task of this agent; did you mean 'push'"),
    "no task": (["benchmark.tasks=[]"], "benchmark.tasks"),
    "number": (["benchmark.tasks=3"], "benchmark.tasks=3"),
    "null": (["benchmark.tasks=null"], "benchmark.tasks"),
    "twice": (["benchmark.tasks=[push,push-v3]"], "named twice"),
    "benchmark": (["benchmark.tasks=mt10"], "no task of this agent"),
    "no benchmark": (["benchmark.tasks=mt11"], "did you mean 'mt10'"),
    "group": (["benchmark=mt10"], "cannot be exchanged"),
    "protocol": (["eval.protocol=official"], "env=metaworld only"),
    "suite": (["env._target_=lit_mtrl.envs.metaworld.MetaWorld"], "env._target_ (lit_mtrl.envs.probes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_agent_is_refused(case: str, trained: Path) -> None:
    overrides, said = REFUSED[case]
    assert said in refused("test", "--ckpt", str(trained), *overrides)


def remove(*path: str) -> Callable[[dict], None]:
    def change(checkpoint: dict) -> None:
        for key in path[:-1]:
            checkpoint = checkpoint[key]
        del checkpoint[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[dict], None]:
    def change(checkpoint: dict) -> None:
        for key in path[:-1]:
            checkpoint = checkpoint[key]
        checkpoint[path[-1]] = value

    return change


WEIGHT = "algorithm.actor.net.heads.weight"
DAMAGED: dict[str, tuple[Callable[[dict], None], str]] = {
    "no part": (remove("lit_mtrl"), "not a checkpoint of lit_mtrl"),
    "part": (put(3, "lit_mtrl"), "not a checkpoint of lit_mtrl"),
    "no tasks": (remove("lit_mtrl", "tasks"), "its 'tasks' is not a list of names"),
    "tasks": (put("reach", "lit_mtrl", "tasks"), "its 'tasks' is not a list of names"),
    "empty tasks": (put([], "lit_mtrl", "tasks"), "its 'tasks' are no names"),
    "numbers for tasks": (put([1, 2, 3], "lit_mtrl", "tasks"), "its 'tasks' are no names"),
    "no config": (remove("lit_mtrl", "config"), "its 'config' is not a mapping"),
    "config": (put(["a"], "lit_mtrl", "config"), "its 'config' is not a mapping"),
    "no frames": (remove("lit_mtrl", "frames"), "not a checkpoint of lit_mtrl"),
    "frames": (put("600", "lit_mtrl", "frames"), "not a checkpoint of lit_mtrl"),
    "no weights": (remove("state_dict"), "holds no weights"),
    "weights": (put([], "state_dict"), "holds no weights"),
    "lacking": (remove("state_dict", WEIGHT), "(no tensor there, 3x16x2 by its configuration)"),
    "shape": (put(torch.zeros(3, 8, 2), "state_dict", WEIGHT), "(3x8x2 there, 3x16x2 by its configuration)"),
    "no tensor": (put(1.0, "state_dict", WEIGHT), "(no tensor there"),
    "more": (put(torch.zeros(2), "state_dict", "algorithm.actor.more"), "(2 there, no tensor by its configuration)"),
}
OF_TEST: dict[str, tuple[Callable[[dict], None], str]] = {
    "negative frames": (put(-1, "lit_mtrl", "frames"), "its 'frames' are negative"),
    "other tasks": (put(["a", "b", "c"], "lit_mtrl", "tasks"), "its 'tasks' are not those of its configuration"),
    "other order": (put(TASKS[::-1], "lit_mtrl", "tasks"), "its 'tasks' are not those of its configuration"),
    "no groups": (put({}, "lit_mtrl", "config"), "is missing in its configuration"),
    "group of another type": (put(5, "lit_mtrl", "config", "env"), "--ckpt"),
    "no class": (remove("lit_mtrl", "config", "algo", "_target_"), "--ckpt"),
    "width": (put(32, "lit_mtrl", "config", "network", "width"), "weights do not fit its configuration"),
}


def first_moment(value: Any) -> Callable[[dict], None]:
    return lambda checkpoint: checkpoint["optimizer_states"][0]["state"][0].update(exp_avg=value)


OF_RESUME: dict[str, tuple[Callable[[dict], None], str]] = {
    **{key: (remove(key), f"holds no {key}") for key in TRAINING},
    **{f"no {key}": (remove("lit_mtrl", key), f"holds no {key}") for key in PROGRESS},
    "recent": (put([1, 2], "lit_mtrl", "recent"), "its 'recent' are not pairs"),
    "optimizers": (put([], "optimizer_states"), "the state of its optimizers does not fit"),
    "no state": (put([1, 2, 3], "optimizer_states"), "the state of its optimizers does not fit"),
    "fewer parameters": (
        lambda checkpoint: checkpoint["optimizer_states"][0]["param_groups"][0]["params"].pop(),
        "the state of its optimizers does not fit",
    ),
    "fewer moments": (
        lambda checkpoint: checkpoint["optimizer_states"][0]["state"].pop(0),
        "the state of its optimizers does not fit",
    ),
    "shape of a moment": (first_moment(torch.zeros(3)), "the state of its optimizers does not fit"),
    "type of a moment": (first_moment(None), "the state of its optimizers does not fit"),
}


def damaged(trained: Path, change: Callable[[dict], None], path: Path) -> str:
    checkpoint = torch.load(trained, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize("case", [*DAMAGED, *OF_TEST])
def test_a_damaged_checkpoint_is_one_line(case: str, trained: Path, tmp_path: Path) -> None:
    change, said = (DAMAGED | OF_TEST)[case]
    assert said in refused("test", "--ckpt", damaged(trained, change, tmp_path / "x.ckpt"))


@pytest.mark.parametrize("case", [*DAMAGED, *OF_RESUME])
def test_a_damaged_checkpoint_is_not_continued(case: str, trained: Path) -> None:
    change, said = (DAMAGED | OF_RESUME)[case]
    whole, manifest = trained.read_bytes(), trained.parent / "last" / MANIFEST
    sums = manifest.read_text()
    try:
        damaged(trained, change, trained)
        manifest.write_text('{"frames": 300, "ranks": 1}')  # as older versions wrote it, without checksums
        assert said in refused("fit", "--resume", str(trained.parent.parent), "frames=600")
    finally:
        trained.write_bytes(whole)
        manifest.write_text(sums)


def test_how_to_load_code_is_not_told(tmp_path: Path) -> None:
    torch.save({"lit_mtrl": Path("x")}, tmp_path / "x.ckpt")
    said = refused("test", "--ckpt", str(tmp_path / "x.ckpt"))
    assert "weights_only" not in said and "holds other things than plain types and tensors" in said


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_some_tasks_of_a_suite(workers: int) -> None:
    suite = Probes(["a", "b", "c", "d"], kind="endless", goals=3, horizon=5)
    actor = make_actor(suite)
    whole, some = Evaluator(suite, 3, workers), Evaluator(suite, 3, workers, tasks=[3, 2])
    a, b = whole.run(actor), some.run(actor)
    whole.close()
    some.close()
    for key in ("success", "returns", "lengths"):
        np.testing.assert_array_equal(getattr(b, key), getattr(a, key)[[3, 2]])


def test_shares_without_a_chosen_task_are_not_played() -> None:
    suite = Probes(["a", "b", "c", "d"])
    for workers in (2, 3, 4, 8):
        whole, some = Evaluator(suite, 4, workers)._shares, Evaluator(suite, 4, workers, tasks=[3])._shares
        assert some == whole[-len(some) :] and len(some) == max(1, workers // 4)


def test_metaworlds_own_evaluation_of_some_tasks() -> None:
    suite = MetaWorld(["drawer-close", "reach", "push"], horizon=10, goals=2)
    actor = make_actor(suite)
    results = []
    for tasks in (None, [2, 0]):
        evaluator = OfficialEvaluator(suite, 1, 1, tasks=tasks)
        results.append(evaluator.run(actor))
        evaluator.close()
    np.testing.assert_array_equal(results[1].returns, results[0].returns[[2, 0]])
    assert len({row[0] for row in results[0].returns.tolist()}) == 3
