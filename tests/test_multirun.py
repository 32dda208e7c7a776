"""A sweep over seeds: every job a process of its own, a folder of its own, and the same result as the run alone."""

from __future__ import annotations

from pathlib import Path

import yaml


def test_multirun_trains_every_combination(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "frames=300", "--multirun", "seed=0,1", "network.width=8")
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        assert (tmp_path / f"outputs/debug/sac-multi_head-s{seed}/checkpoints/last.ckpt").exists()
    alone = cli("fit", "--config", "debug", "frames=300", "seed=1", "network.width=8", "output_dir=alone")
    assert alone.returncode == 0, alone.stderr
    sweep = tmp_path / "outputs/debug/sac-multi_head-s1/eval.csv"
    assert sweep.read_text() == (tmp_path / "alone/eval.csv").read_text()


def test_swept_keys_name_the_run(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "frames=300", "-m", "algo.tau=0.1,1.0")
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "outputs/debug").iterdir())
    assert names == ["sac-multi_head-s0-tau=0.1", "sac-multi_head-s0-tau=1.0"]


def test_weightings_can_be_swept(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "frames=300", "-m", "weighting=mean,pcgrad", "weighting.actor=famo")
    assert done.returncode == 0, done.stderr
    found = {}
    for path in (tmp_path / "outputs/debug").iterdir():
        cfg = yaml.safe_load((path / "config.yaml").read_text())["weighting"]
        found[path.name.removeprefix("sac-multi_head-s0-")] = (cfg["critic"]["name"], cfg["actor"]["name"])
    assert found == {"weighting=mean": ("mean", "famo"), "weighting=pcgrad": ("pcgrad", "famo")}


def test_wrong_value_is_one_line_before_any_job(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "--multirun", "seed=0,1", "network.widht=8")
    assert done.returncode == 2
    assert "did you mean 'network.width'" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()
