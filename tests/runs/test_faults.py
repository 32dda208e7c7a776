"""What goes wrong while training ends the run with its cause, exit code 1, and a last checkpoint that is good."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.training.checkpoint import find
from tests.helpers.runs import BARE

LONG = ("--config", "debug", "frames=6000", "network.width=8", "collector.updates_per_step=0.2", *BARE)


def check_kept(run: Path) -> None:
    found = find(run / "checkpoints", "")
    assert found.frames == 300 and not found.notes
    assert all(p.isfinite().all() for p in found.content["state_dict"].values())
    assert (found.path.name, found.sidecar.name) == ("last.ckpt", "last")


@pytest.mark.parametrize("weighting", ["mean", "pcgrad", "famo"])
def test_infinite_loss_names_loss_and_task(weighting: str, cli, tmp_path: Path) -> None:
    exploding = ["env._target_=tests.helpers.suites.Exploding", f"weighting.critic={weighting}"]
    done = cli("fit", *LONG, *exploding, f"output_dir={tmp_path}/run")
    assert done.returncode == 1
    assert "critic/loss is not finite" in done.stderr and "first for push;" in done.stderr
    assert "Traceback" not in done.stderr
    check_kept(tmp_path / "run")
    assert "critic/loss" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize(
    ("suite", "said"), [("Raising", "ValueError: the gripper fell off"), ("Killed", "exit code -9")]
)
def test_dead_worker_ends_the_run(suite: str, said: str, cli, tmp_path: Path) -> None:
    overrides = [f"env._target_=tests.helpers.suites.{suite}", "collector.workers=2", f"output_dir={tmp_path}/run"]
    done = cli("fit", *LONG, *overrides)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr and "tasks push, pick-place" in done.stderr
    check_kept(tmp_path / "run")
