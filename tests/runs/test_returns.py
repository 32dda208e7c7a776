"""Runs on Gymnasium ids of different sizes: judged by return from evaluation to sweep, and continued bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_mtrl.cli.main import main
from lit_mtrl.config.compose import compose
from lit_mtrl.runs.summary import final_score
from lit_mtrl.training.checkpoint import load
from tests.helpers.runs import read, resume, same_end, train

TASKS = ["Pendulum-v1", "MountainCarContinuous-v0"]
CLASSIC = ("env=gymnasium", f"benchmark.tasks=[{','.join(TASKS)}]", "env.horizon=15")
FRAMES = 600


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(folder, FRAMES, *CLASSIC)
    return folder


def test_the_return_is_what_counts(trained: Path) -> None:
    rows = read(trained / "eval.csv")
    assert {row["task"] for row in rows} == set(TASKS) and {float(row["success"]) for row in rows} == {0}
    means = {}
    for row in rows:
        means[int(row["frames"])] = means.get(int(row["frames"]), 0) + float(row["return"]) / 2
    assert len(means) > 1
    assert load(trained / "checkpoints" / "best.ckpt", "")["lit_mtrl"]["frames"] == max(means, key=means.__getitem__)
    logged = read(trained / "metrics.csv")[-1]
    assert {"eval/return", *(f"eval/return/{task}" for task in TASKS)} <= logged.keys()
    assert not [key for key in logged if key.startswith("eval/success")]
    assert float(logged["eval/return"]) == pytest.approx(means[FRAMES])
    assert final_score(compose(["debug"], [*CLASSIC, f"output_dir={trained}"])) == pytest.approx(means[FRAMES])
    assert json.loads((trained / "run.json").read_text())["tags"]["score"] == "return"
    assert "evaluation return -" in (trained / "train.log").read_text()


def test_a_continued_run_is_bit_identical(trained: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", FRAMES // 2, *CLASSIC)
    assert resume(tmp_path / "run", FRAMES) == ""
    same_end(trained, tmp_path / "run")
    assert (trained / "eval.csv").read_text() == (tmp_path / "run" / "eval.csv").read_text()


def test_the_command_test_shows_no_success(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(trained / "checkpoints" / "last.ckpt")
    assert main(["test", "--ckpt", checkpoint, "--json", "eval.workers=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    last = [row for row in read(trained / "eval.csv") if int(row["frames"]) == FRAMES]
    assert report["score"] == "return" and "success" not in report
    assert report["tasks"] == [
        {"task": row["task"], "return": float(row["return"]), "length": float(row["length"])} for row in last
    ]
    assert main(["test", "--ckpt", checkpoint, "eval.workers=1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["task", "return", "length"]


@pytest.mark.slow
def test_in_several_processes(trained: Path, tmp_path: Path) -> None:
    """Two that collect, and two that evaluate as one does."""
    train(tmp_path / "run", FRAMES // 2, *CLASSIC, "collector.workers=2", "eval.workers=2")
    rows = read(tmp_path / "run" / "eval.csv")
    assert {row["task"] for row in rows} == set(TASKS) and {float(row["length"]) for row in rows} == {15}


def test_parameters_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "--config", "debug", *CLASSIC, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["actor"] > 0
