"""A run that is killed and resumed ends bit-identical to one that was never interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import command
from tests.helpers.command import refused
from tests.helpers.processes import any_left, fit, start, wait_for
from tests.helpers.runs import read, same_run

DEBUG = ["--config", "debug", "frames=1800", "collector.steps=5", "trainer.threads=1"]
EVERY_EPOCH = ("callbacks.gradients.every_epochs=1", "trainer.threads=1")
PACO = [
    *DEBUG,
    *("network=paco", "algo.mask_out=0.5", "+callbacks.paco_reset._target_=lit_mtrl.callbacks.paco_reset.PaCoReset"),
]
LEARNED = [*DEBUG, "weighting.critic=famo", "weighting.actor=pcgrad"]
RANKS = [
    *DEBUG,
    *("collector.steps=4", "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"),
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


def trained(*args: str) -> None:
    """A run in this process."""
    code, out, err = command.run("fit", *args)
    assert (code, out) == (0, ""), err


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(DEBUG, marks=pytest.mark.slow),
        pytest.param(PACO, marks=pytest.mark.slow),
        LEARNED,
        pytest.param(RANKS, marks=pytest.mark.slow),
        pytest.param(COUNTED, marks=pytest.mark.slow),
        pytest.param(MT, marks=pytest.mark.slow),
    ],
    ids=["probes", "paco", "famo, pcgrad", "two ranks", "dwa, gradnorm", "metaworld"],
)
def test_killed_and_resumed_is_bit_identical(config: list[str], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = partial(fit, tmp_path) if config is RANKS else trained
    run(*config, f"output_dir={whole}")
    epoch = 2700 if config is MT else 300
    kill_after(tmp_path, killed, 2 * epoch, *config, f"output_dir={killed}")
    run("--resume", str(killed))
    same_run(whole, killed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained("--config", "debug", *EVERY_EPOCH, f"output_dir={folder}/run")
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
    trained("--resume", str(run), "frames=900")
    trained("--config", "debug", *EVERY_EPOCH, "frames=900", f"output_dir={tmp_path}/whole")
    same_run(tmp_path / "whole", run)


def test_config_of_a_run_repeats_it(finished: Path, tmp_path: Path) -> None:
    """Also in a process of its own."""
    done = fit(tmp_path, "--config", str(finished / "config.yaml"), f"output_dir={tmp_path}/again")
    assert done.returncode == 0, done.stderr
    same_run(finished, tmp_path / "again")


def test_refusals(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert "already holds a run" in refused("fit", "--config", str(run / "config.yaml"), f"output_dir={run}")
    assert "finished at 600 frames" in refused("fit", "--resume", str(run))
    said = refused("fit", "--resume", str(run), "frames=900", "algo.gamma=0.5", "seed=3")
    assert "algo.gamma (0.99 there, 0.5 here)" in said and "seed (0 there, 3 here)" in said
    shutil.rmtree(run / "checkpoints" / "last.old")
    (run / "checkpoints" / "last" / "manifest.json").write_text(json.dumps({"frames": 1}))
    assert "no replay belongs" in refused("fit", "--resume", str(run), "frames=900")
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    (run / "checkpoints" / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused("fit", "--resume", str(run), "frames=900")
    shutil.rmtree(run / "checkpoints")
    assert "holds no checkpoints/last.ckpt" in refused("fit", "--resume", str(run), "frames=900")


def test_checkpoint_evaluates_like_the_run(finished: Path) -> None:
    code, out, err = command.run("test", "--ckpt", str(finished / "checkpoints" / "last.ckpt"), "--json")
    assert code == 0, err
    report = json.loads(out)
    rows = read(finished / "eval.csv")[-3:]
    assert [str(row["return"]) for row in report["tasks"]] == [row["return"] for row in rows]
