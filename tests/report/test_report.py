"""The whole way from folders to figures, tables and page."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.report import read_folders, write_report
from lit_mtrl.report.tables import write
from tests.helpers.pages import Page
from tests.helpers.run_folders import write_run

EVIL = "<script>alert('x')</script> & \"$a$|b\" _"
SKILL = {64: [0.2, 0.4, 0.6, 0.9, 0.5], 128: [0.6, 0.8, 0.7, 0.9, 0.75]}
"""Final success of the first task by width and seed; that of the others is 0.1 and 0.2 less, and half of all of that at
first.
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two widths of five seeds, one run that was killed, one name that would break a page."""
    folder = tmp_path_factory.mktemp("runs")
    for width, seeds in SKILL.items():
        for seed, best in enumerate(seeds):
            last = np.array([best, best - 0.1, best - 0.2])
            extra = {"parameters": {"actor": width * 100, "critic": width * 200}}
            options = dict(extra=extra, plasticity=seed < 4, seconds=7200.0 if seed else None)
            write_run(folder / f"w{width}s{seed}", [last / 2, last], seed=seed, network__width=width, **options)
    write_run(folder / "killed", [[0, 0, 0]], at=[1000], seed=9, network__width=128, run_name=EVIL)
    return folder


@pytest.fixture(scope="module")
def report(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(read_folders([recorded]), tmp_path_factory.mktemp("report"), title=EVIL)


def test_summary_is_that_of_hand(report: Path) -> None:
    table = pd.read_csv(report.parent / "tables/summary.csv").set_index("group")
    assert list(table.index) == ["network.width=64", "network.width=128"]
    for width, seeds in SKILL.items():
        row, best = table.loc[f"network.width={width}"], np.array(seeds)
        scores = np.stack([best, best - 0.1, best - 0.2], 1)
        assert (row["seeds"], row["frames"], row["actor_parameters"], row["critic_parameters"]) == (
            5,
            2000,
            width * 100,
            width * 200,
        )
        assert row["success"] == pytest.approx(trim_mean(best - 0.1, 0.25))
        assert row["iqm"] == pytest.approx(trim_mean(scores.ravel(), 0.25))
        assert row["mean"] == pytest.approx(scores.mean())
        assert row["median"] == pytest.approx(best.mean() - 0.1)
        assert row["optimality_gap"] == pytest.approx(1 - scores.mean())
        assert row["auc"] == pytest.approx(0.75 * trim_mean(best - 0.1, 0.25))
        assert row["hours"] == 2
        assert row["success_low"] < row["success"] < row["success_high"]


def test_other_tables(report: Path) -> None:
    folder = report.parent / "tables"
    tasks = pd.read_csv(folder / "per_task.csv")
    assert tasks["success"].tolist() == pytest.approx([0.52, 0.42, 0.32, 0.75, 0.65, 0.55])
    pairs = pd.read_csv(folder / "improvement.csv").set_index("group")
    wins = [(a > b) + 0.5 * (a == b) for a in SKILL[64] for b in SKILL[128]]
    assert pairs.loc["network.width=64", "probability"] == pytest.approx(np.mean(wins), abs=1e-9)
    assert pairs["probability"].sum() == pytest.approx(1)
    runs = pd.read_csv(folder / "runs.csv").set_index("run")
    assert runs.loc[EVIL, ["status", "counted", "frames", "budget"]].tolist() == ["unfinished", "no", 1000, 2000]
    assert runs["counted"].value_counts().to_dict() == {"yes": 10, "no": 1}
    lines = (folder / "summary.md").read_text().splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert all(line.replace(r"\|", "").count("|") == 9 for line in (folder / "runs.md").read_text().splitlines())


def test_page_is_well_formed_and_needs_nothing_else(report: Path) -> None:
    page = Page(report.read_text())
    assert "script" not in page.tags
    images = [address for address in page.addresses if address.startswith("data:")]
    assert len(images) == 10
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        elif not address.startswith("data:image/png;base64,"):
            assert (report.parent / address).is_file(), address
    assert EVIL in page.text
    assert f"1 runs do not count: {EVIL} (unfinished)" in page.text
    assert "2 of 10 runs did not record time/total" in page.text
    assert "2 of 10 runs did not record plasticity" in page.text


def test_figures(report: Path) -> None:
    names = """dormant_by_width final_success improvement learning_curves learning_curves_wall_clock norms per_task
    performance_profile
        plasticity success_by_parameters"""
    files = sorted((report.parent / "figures").iterdir())
    assert [file.name for file in files] == sorted(
        f"{name}.{kind}" for name in names.split() for kind in ("png", "svg")
    )
    for file in files:
        if file.suffix == ".svg":
            root = ET.parse(file).getroot()
            assert root.tag.endswith("svg") and "date" not in file.read_text()[:3000]
            assert any(node.tag.endswith("text") for node in root.iter())
        else:
            assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 3000


def test_the_same_runs_give_the_same_bytes(recorded: Path, report: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/of_before.png").touch()
    (tmp_path / "index.html").write_text((report.parent / "index.html").read_text())
    again = write_report(read_folders([recorded]), tmp_path, title=EVIL)
    files = sorted(path.relative_to(report.parent) for path in report.parent.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for file in files:
        assert (report.parent / file).read_bytes() == (again.parent / file).read_bytes(), file


def test_one_run_alone(tmp_path: Path) -> None:
    """No intervals, and no figure of what was not recorded; nothing is counted that was not."""
    write_run(tmp_path / "runs/a", [[0.5, 0.5, 0.5]], at=[2000], seconds=None)
    page = write_report(read_folders([tmp_path]), tmp_path / "out", title="one")
    table = pd.read_csv(tmp_path / "out/tables/summary.csv")
    assert table["success"].item() == 0.5
    assert table[["success_low", "iqm_high", "hours", "actor_parameters", "critic_parameters"]].isna().all(axis=None)
    text = page.read_text()
    assert "one seed, so no interval can be given, for sac-multi_head" in text
    assert "0.500 [n/a]" in text
    assert "There is one group" in text
    assert "Parameter counts of 1 runs are not known." in text
    left = {file.stem for file in (tmp_path / "out/figures").iterdir()}
    assert left == {"learning_curves", "final_success", "per_task", "norms", "performance_profile"}


def test_bad_options(recorded: Path, tmp_path: Path) -> None:
    runs = read_folders([recorded])
    for options, message in [
        ({"statistic": "iqmm"}, "--statistic=iqmm: unknown; did you mean 'iqm'"),
        ({"published": ["mclean2026"]}, "--published=mclean2026: unknown; did you mean 'mclean2025'"),
        ({"group": ["seeed"]}, "--group seeed: unknown key; did you mean 'seed'"),
    ]:
        with pytest.raises(ConfigError) as error:
            write_report(runs, tmp_path / "out", title="x", **options)
        assert message in str(error.value)
    with pytest.raises(ConfigError, match="no runs to report on"):
        write_report([], tmp_path / "out", title="x")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_report_is_left_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "a", [[0.1, 0.2, 0.3]], at=[2000], seed=0)
    mine = tmp_path / "out" / "figures" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(ConfigError, match="exists and is no report"):
        write_report(read_folders([run]), tmp_path / "out", title="x")
    assert mine.exists()


def test_cells_are_no_formulas(tmp_path: Path) -> None:
    """Names come from configurations and MLflow, and spreadsheets run what begins like a formula."""
    cells = ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "-0.5", "+1e3", "-inf", "plain", "a=b", ""]
    table = pd.DataFrame({"run": cells, "=value": [-0.25 * i for i in range(len(cells))], "seed": range(len(cells))})
    write(table, [table], tmp_path, "runs")
    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["run", "'=value", "seed"]
    assert [row[0] for row in rows[1:]] == [f"'{cell}" for cell in cells[:6]] + cells[6:]
    assert [float(row[1]) for row in rows[1:]] == list(table["=value"]) and rows[2][1:] == ["-0.25", "1"]
