"""Runs that are judged by return: task by task, and never among those that are judged by success."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.report import read_folders, write_report
from lit_mtrl.report.groups import plan
from tests.helpers.run_folders import write_run

BY_RETURN = {"tags": {"score": "return", "benchmark": "three-return"}}
SKILL = {64: [[-0.5, 2, 30], [0.5, 4, 10]], 128: [[1, 1, 100], [3, 3, 300]]}
"""By width and seed a hundredth of the final return of each task."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for width, seeds in SKILL.items():
        for seed, last in enumerate(seeds):
            options = dict(seed=seed, network__width=width, extra=BY_RETURN, plasticity=True)
            write_run(folder / f"w{width}s{seed}", [np.zeros(3), np.array(last)], **options)
            rewrite(folder / f"w{width}s{seed}")
    return folder


def rewrite(run: Path) -> None:
    """Success is zero, as in what such runs write."""
    pd.read_csv(run / "eval.csv").assign(success=0.0).to_csv(run / "eval.csv", index=False)


@pytest.fixture(scope="module")
def report(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(read_folders([recorded]), tmp_path_factory.mktemp("report"), title="returns").parent


def test_final_returns_are_those_of_hand(report: Path) -> None:
    table = pd.read_csv(report / "tables/returns.csv").set_index(["group", "task"])
    assert len(table) == 6
    for width, seeds in SKILL.items():
        for task, scores in zip(("reach", "push", "pick-place"), 100 * np.array(seeds).T, strict=True):
            row = table.loc[(f"network.width={width}", task)]
            assert (row["seeds"], row["frames"]) == (2, 2000)
            assert row["return"] == pytest.approx(scores.mean())
            assert (row["lowest"], row["highest"]) == (scores.min(), scores.max())
            assert row["lowest"] <= row["return_low"] <= row["return"] <= row["return_high"] <= row["highest"]
    assert "| network.width=128 | 200.0 [100.0, 300.0] |" in (report / "tables/returns.md").read_text()


def test_groups_are_compared_task_by_task_alone(report: Path) -> None:
    """The wider network is better on the first task in all pairs but none, on the second in 1 of 4, on the third in
    all.
    """
    table = pd.read_csv(report / "tables/improvement_of_returns.csv").set_index("group")
    assert table.loc["network.width=128", "probability"] == pytest.approx((4 + 1 + 4) / 12)


def test_nothing_is_averaged_over_tasks(report: Path) -> None:
    figures = {file.stem for file in (report / "figures").iterdir()}
    assert figures == {"returns", "improvement_of_returns", "plasticity", "norms", "dormant_by_width"}
    assert {file.stem for file in (report / "tables").iterdir()} == {"returns", "improvement_of_returns", "runs"}
    page = (report / "index.html").read_text()
    assert "Returns are shown task by task" in page and "Success is" not in page
    assert pd.read_csv(report / "tables/runs.csv")["success"].isna().all()


def test_one_page_of_both(recorded: Path, tmp_path: Path) -> None:
    """Runs on the same tasks that are judged by success have a panel, sections and files of their own."""
    for seed in (0, 1):
        write_run(tmp_path / f"runs/s{seed}", [[0, 0, 0], [0.2, 0.4, 0.6]], seed=seed)
    page = write_report(read_folders([recorded, tmp_path / "runs"]), tmp_path / "out", title="both").read_text()
    assert "Success is the interquartile mean" in page and "Returns are shown task by task" in page
    assert pd.read_csv(tmp_path / "out/tables/summary.csv")["success"].tolist() == [pytest.approx(0.4)]
    assert len(pd.read_csv(tmp_path / "out/tables/returns.csv")) == 6


def test_a_group_of_both_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [[0, 0, 0], [1, 1, 1]], seed=0)
    write_run(tmp_path / "b", [[0, 0, 0], [1, 1, 1]], seed=1, extra={"tags": {"score": "return"}})
    runs = read_folders([tmp_path])
    assert {panel.score for panel in plan(runs).panels} == {"return", "success"}
    with pytest.raises(ConfigError, match="its runs differ in score"):
        plan(runs, group=["method"])


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/a", [[0.5, -2, 1e4]], at=[2000], extra=BY_RETURN)
    rewrite(tmp_path / "runs/a")
    write_report(read_folders([tmp_path]), tmp_path / "out", title="one", statistic="median")
    assert "| 50.0 [n/a] | -200.0 [n/a] | 1,000,000.0 [n/a] |" in (tmp_path / "out/tables/returns.md").read_text()
