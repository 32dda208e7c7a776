"""Which GPUs the jobs of a sweep get: different ones as long as there are, then the same number of jobs on each."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lit_mtrl.config.compose import compose
from lit_mtrl.runs.gpus import VISIBLE, assigned_gpus, visible_gpus
from tests.helpers.processes import environment


def visible(*overrides: str) -> str | None:
    """What a job would see."""
    with assigned_gpus(compose(["debug"], overrides)) as environment:
        return environment.get(VISIBLE)


def test_jobs_at_the_same_time_get_different_gpus(gpus, capsys) -> None:
    gpus(3)
    cfg = compose(["debug"], [])
    with ExitStack() as running:
        found = [running.enter_context(assigned_gpus(cfg)) for _ in range(7)]
        assert [one[VISIBLE] for one in found] == ["0", "1", "2", "0", "1", "2", "0"]
        assert all(one["PATH"] == os.environ["PATH"] for one in found)
    assert visible() == "0"
    assert capsys.readouterr().out.startswith("outputs/debug/sac-multi_head-s0: on GPU 0\n")


def test_the_gpu_with_the_fewest_jobs_is_next(gpus) -> None:
    gpus(2)
    cfg = compose(["debug"], [])
    first, second, third = (assigned_gpus(cfg) for _ in range(3))
    with first, second:
        third.__enter__()
        assert visible() == "1"
    assert visible() == "1"  # the first job on GPU 0 has ended, the second one runs
    third.__exit__(None, None, None)
    assert visible() == "0"


def test_jobs_with_several_gpus_and_visible_ones(gpus) -> None:
    gpus(3, "5, 7,GPU-8e2f")
    cfg = compose(["debug"], ["trainer.devices=2"])
    with assigned_gpus(cfg) as one, assigned_gpus(cfg) as other:
        assert (one[VISIBLE], other[VISIBLE]) == ("5,7", "5,GPU-8e2f")
    gpus(1, "5,99")  # PyTorch stops counting at one that does not exist
    assert visible_gpus() == ["5"]


@pytest.mark.parametrize(
    ("count", "set_to", "overrides"),
    [
        (0, None, ()),
        (0, "", ()),
        (1, None, ()),
        (4, None, ("trainer.accelerator=cpu",)),
        (4, None, ("trainer.devices=4",)),
        (4, None, ("trainer.devices=5",)),
        (2, "2,3", ("trainer.devices=2",)),
    ],
)
def test_nothing_is_chosen_where_there_is_no_choice(gpus, count: int, set_to: str | None, overrides, capsys) -> None:
    gpus(count, set_to)
    assert visible(*overrides) == set_to
    assert capsys.readouterr().out == ""


def test_submitit_assigns_its_own(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(4)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert visible() is None


def test_killed_job_gives_its_gpu_back(gpus, tmp_path: Path) -> None:
    gpus(2)
    code = (
        "import sys, pathlib; from lit_mtrl.core.processes import claim\n"
        "with claim(pathlib.Path(sys.argv[1]), ['0', '1'], 1): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / f"lit_mtrl-gpus-{os.getuid()}")]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        assert visible() == "1"
        other.kill()
    assert visible() == "0"
