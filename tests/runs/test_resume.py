"""A run that is killed and resumed ends bit-identical to one that was never interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers.processes import any_left, fit, lit_mtrl, start, wait_for
from tests.helpers.runs import read, same_run

DEBUG = ["--config", "debug", "frames=3600", "collector.steps=5"]
EVERY_EPOCH = "callbacks.gradients.every_epochs=1"
PACO = [
    *DEBUG,
    *("network=paco", "algo.mask_out=0.5", "+callbacks.paco_reset._target_=lit_mtrl.callbacks.paco_reset.PaCoReset"),
]
LEARNED = [*DEBUG, "weighting.critic=famo", "weighting.actor=pcgrad"]
RANKS = [
    *DEBUG,
    "frames=1500",
    "collector.steps=4",
    "trainer.devices=2",
    "trainer.strategy=ddp",
    "trainer.accelerator=cpu",
]
COUNTED = [*DEBUG, "weighting.critic=dwa", "weighting.critic.window=30", "weighting.actor=gradnorm"]
MT = [
    *("--config", "mt10_mtmhsac", "benchmark=custom", "logger=csv", "network.width=32", "replay.per_task=16"),
    *("collector.random_steps=200", "collector.workers=2", "eval.episodes=3", "collector.copies=2", "env.horizon=150"),
    *("frames=10_800", "epoch_frames=2700", "logger.log_frames=300"),
]


def kill_after(folder: Path, run: Path, frames: int, *args: str) -> None:
    """Start a run and SIGKILL it once it has logged more than ``frames``; its workers must die with it."""
    process, table = start(folder, "fit", *args, stderr=subprocess.DEVNULL), run / "metrics.csv"

    def reached() -> bool:
        return table.exists() and any(int(row["frames"]) > frames for row in read(table))

    wait_for(lambda: process.poll() is not None or reached(), 300)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_for(lambda: not any_left(process.pid), 10), "processes of the killed run are still alive"


@pytest.mark.parametrize(
    "config",
    [
        DEBUG,
        pytest.param(PACO, marks=pytest.mark.slow),
        LEARNED,
        RANKS,
        pytest.param(COUNTED, marks=pytest.mark.slow),
        pytest.param(MT, marks=pytest.mark.slow),
    ],
    ids=["probes", "paco", "famo, pcgrad", "two ranks", "dwa, gradnorm", "metaworld"],
)
def test_killed_and_resumed_is_bit_identical(config: list[str], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = fit(tmp_path, *config, f"output_dir={whole}")
    assert done.returncode == 0, done.stderr
    epoch = 2700 if config is MT else 300
    kill_after(tmp_path, killed, 2 * epoch, *config, f"output_dir={killed}")
    done = fit(tmp_path, "--resume", str(killed))
    assert done.returncode == 0, done.stderr
    same_run(whole, killed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = fit(folder, "--config", "debug", EVERY_EPOCH, f"output_dir={folder}/run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_what_a_run_leaves_behind(finished: Path) -> None:
    left = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    files = ("config.yaml", "metrics.csv", "eval.csv", "train.log", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    assert left >= {*files, "checkpoints/last/manifest.json"}
    assert left >= {"checkpoints/last.ckpt.old", "checkpoints/last.old/manifest.json"}
    assert not [p for p in left if p.endswith(".new")]
    rows = read(finished / "eval.csv")
    assert [(r["frames"], r["task"]) for r in rows] == [
        (f, t) for f in ("300", "600") for t in ("reach", "push", "pick-place")
    ]
    assert {"loss/critic", "alpha/reach", "norm/actor/grad", "norm/critic/params"} <= read(finished / "metrics.csv")[
        -1
    ].keys()


def test_budget_can_grow(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    done = fit(tmp_path, "--resume", str(run), "frames=900")
    assert done.returncode == 0, done.stderr
    whole = fit(tmp_path, "--config", "debug", EVERY_EPOCH, "frames=900", f"output_dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    same_run(tmp_path / "whole", run)


def test_config_of_a_run_repeats_it(finished: Path, tmp_path: Path) -> None:
    done = fit(tmp_path, "--config", str(finished / "config.yaml"), f"output_dir={tmp_path}/again")
    assert done.returncode == 0, done.stderr
    same_run(finished, tmp_path / "again")


def test_refusals(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)

    def refused(*args: str) -> str:
        done = fit(tmp_path, *args)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "already holds a run" in refused("--config", str(run / "config.yaml"), f"output_dir={run}")
    assert "finished at 600 frames" in refused("--resume", str(run))
    said = refused("--resume", str(run), "frames=900", "algo.gamma=0.5", "seed=3")
    assert "algo.gamma (0.99 there, 0.5 here)" in said and "seed (0 there, 3 here)" in said
    shutil.rmtree(run / "checkpoints" / "last.old")
    (run / "checkpoints" / "last" / "manifest.json").write_text(json.dumps({"frames": 1}))
    assert "no replay belongs" in refused("--resume", str(run), "frames=900")
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    (run / "checkpoints" / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused("--resume", str(run), "frames=900")
    shutil.rmtree(run / "checkpoints")
    assert "holds no checkpoints/last.ckpt" in refused("--resume", str(run), "frames=900")


def test_checkpoint_evaluates_like_the_run(finished: Path, tmp_path: Path) -> None:
    done = lit_mtrl(tmp_path, "test", "--ckpt", str(finished / "checkpoints" / "last.ckpt"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = read(finished / "eval.csv")[-3:]
    assert [str(row["return"]) for row in report["tasks"]] == [row["return"] for row in rows]
