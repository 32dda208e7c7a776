"""What is read from the folders of runs, also of killed and old ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.envs.benchmarks import MT10
from lit_mtrl.report.runs import labels_of, read_folder, read_folders
from tests.helpers.run_folders import write_run

TWO = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]


def cut(path: Path, characters: int) -> None:
    path.write_bytes(path.read_bytes()[:-characters])


def test_a_run(tmp_path: Path) -> None:
    extra = {
        "tags": {"method": "sac-other", "git_commit": "abc", "seed": "7"},
        "parameters": {"actor": 10, "critic": 20},
    }
    run = read_folder(write_run(tmp_path / "a", TWO, plasticity=True, extra=extra, seed=3, eval__episodes=5))
    assert (run.name, run.status, run.seed, run.last, run.budget) == ("a", "finished", "3", 2000, 2000)
    assert run.tasks == tuple(MT10[:3])
    np.testing.assert_array_equal(run.frames, [1000, 2000])
    np.testing.assert_array_equal(run.success, TWO)
    np.testing.assert_array_equal(run.returns, 100 * np.array(TWO))
    assert set(run.metrics) == {
        "time/total",
        *(f"norm/{n}/{w}" for n in ("actor", "critic") for w in ("params", "grad")),
    }
    np.testing.assert_array_equal(run.metrics["time/total"], [[500, 1000, 1500, 2000], [900, 1800, 2700, 3600]])
    assert run.plasticity is not None and len(run.plasticity) == 6
    assert set(run.plasticity["dormant_0.1"].round(3)) == {0.064, 0.074, 0.084}
    expected = {
        "method": "sac-other",
        "git_commit": "abc",
        "parameters.actor": 10,
        "network.width": 64,
        "eval.episodes": 5,
    }
    assert {key: run.labels[key] for key in expected} == expected
    assert not any("_target_" in key for key in run.labels)


def test_labels_without_run_json(tmp_path: Path) -> None:
    run = read_folder(write_run(tmp_path / "a", TWO, weighting__critic__name="famo"))
    expected = {
        "method": "sac-multi_head",
        "weighting": "critic=famo actor=mean",
        "backend": "metaworld",
        "benchmark": "mt3-reach+push+pick-place",
        "horizon": "500",
        "goals": "50",
        "rewards": "v2",
        "algo.adam_eps": 1e-5,
    }
    assert {key: run.labels[key] for key in expected} == expected
    old = read_folder(write_run(tmp_path / "b", [MT10 and [0.0] * 10], [2000], MT10, weighting={"name": "pcgrad"}))
    assert (old.labels["weighting"], old.labels["benchmark"]) == ("pcgrad", "mt10")
    assert "parameters.actor" not in old.labels


@pytest.mark.parametrize("characters", [2, 3, 8, 25])
def test_a_row_that_was_cut_short(characters: int, tmp_path: Path) -> None:
    """Its evaluation goes, too, since it lacks a task."""
    folder = write_run(tmp_path / "a", TWO)
    cut(folder / "eval.csv", characters)
    cut(folder / "metrics.csv", 3)
    run = read_folder(folder)
    np.testing.assert_array_equal(run.frames, [1000])
    np.testing.assert_array_equal(run.success, TWO[:1])
    assert run.status == "unfinished"
    assert list(run.metrics["norm/actor/grad"][0]) == [500, 1000, 1500]


def test_an_evaluation_that_was_cut_short(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", TWO)
    lines = (folder / "eval.csv").read_text().splitlines(keepends=True)
    (folder / "eval.csv").write_text("".join(lines[:-1]))
    assert list(read_folder(folder).frames) == [1000]
    (folder / "eval.csv").write_text("".join([*lines[:2], *lines[4:]]))
    with pytest.raises(ConfigError, match=r"eval.csv: evaluations lack tasks.*leave this run out"):
        read_folder(folder)


def test_before_the_first_evaluation(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", TWO)
    (folder / "eval.csv").unlink()
    (folder / "metrics.csv").write_text("frames,time/total\r\n")
    run = read_folder(folder)
    assert (run.status, run.last, run.tasks, run.metrics, run.plasticity) == ("unfinished", 0, (), {}, None)


def test_folders_above_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "x/a", TWO)
    write_run(tmp_path / "x/y/b", TWO)
    (tmp_path / "x/y/.hydra").mkdir()
    (tmp_path / "x/y/.hydra/config.yaml").write_text("a: 1\n")
    assert [run.name for run in read_folders([tmp_path, tmp_path / "x/a"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "a: [", "config.yaml: not readable"),
        ("config.yaml", "- a\n", "config.yaml: holds no keys"),
        ("run.json", "{", "run.json: cannot be read"),
        ("eval.csv", "frames,task\n1,reach\n", "eval.csv: cannot be read"),
        ("eval.csv", "frames,task,success,return\nx,reach,1,1\n", "eval.csv: cannot be read"),
    ],
)
def test_files_that_cannot_be_read(file: str, content: str, message: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", TWO)
    (folder / file).write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_folders([tmp_path])
    assert "\n" not in str(error.value)


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        read_folders([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        read_folders([tmp_path / "none"])


def test_keys_of_older_configurations_are_labels_by_their_present_names() -> None:
    """Or runs from before and after would be groups of their own."""
    before = labels_of({"env": {"copies": 2, "stagger": False}}, {}, (), Path())
    now = labels_of({"collector": {"copies": 2, "stagger": False}, "env": {}}, {}, (), Path())
    assert before["collector.copies"] == now["collector.copies"] == 2
    assert {key for key in before if key.startswith(("env.", "collector."))} == {
        "collector.copies",
        "collector.stagger",
    }
