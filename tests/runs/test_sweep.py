"""Sweeps: every job a process of its own, a folder of its own; and what is finished is not run again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lit_mtrl.config.compose import compose
from lit_mtrl.config.study import study_sweep
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.processes import lock_file
from lit_mtrl.runs import sweep
from lit_mtrl.runs.folder import LOCK
from lit_mtrl.runs.gpus import VISIBLE, assigned_gpus
from lit_mtrl.runs.jobs import combinations
from lit_mtrl.runs.resume import frames_done
from tests.helpers.command import run
from tests.helpers.processes import environment, lit_mtrl
from tests.helpers.runs import BARE, stopped_at

SWEEP = ("fit", "--config", "debug", "frames=300", "--multirun", "seed=0,1", "network.width=8", "logger=mlflow", *BARE)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_every_combination_is_trained_once(tmp_path: Path, mlflow_db: Path) -> None:
    shutil.copy(mlflow_db, tmp_path)
    done = lit_mtrl(tmp_path, *SWEEP)  # a process of its own: Hydra configures logging

    assert done.returncode == 0, done.stderr
    assert "2 runs: 0 finished, 0 to be continued, 2 to be started" in done.stdout
    times = [path.stat().st_mtime for path in sorted(tmp_path.glob("outputs/debug/*/eval.csv"))]

    again = lit_mtrl(tmp_path, *SWEEP)
    assert again.returncode == 0 and "2 runs: 2 finished" in again.stdout
    assert again.stdout.count("finished, skipped") == 2
    assert [path.stat().st_mtime for path in sorted(tmp_path.glob("outputs/debug/*/eval.csv"))] == times

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("debug").experiment_id])
    (parent,) = [run for run in runs if "sweep_parent" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 3 and {run.info.run_name for run in children} == {"sac-multi_head-s0", "sac-multi_head-s1"}
    assert {run.data.tags["group"] for run in children} == {"sac-multi_head"}
    assert parent.info.status == "FINISHED" and parent.data.tags["sweep"].startswith("debug frames=300 seed=0,1")
    table = Path(parent.info.artifact_uri.removeprefix("file://")) / "sweep.csv"
    assert [line.split(",")[:3] for line in table.read_text().splitlines()[1:]] == [
        [f"sac-multi_head-s{seed}", "300", "300"] for seed in (0, 1)
    ]


def test_wrong_value_is_one_line_before_any_job(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "--multirun", "seed=0,1", "network.widht=8")
    assert done.returncode == 2
    assert "did you mean 'network.width'" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """``jobs(config, ...)`` launches a sweep here, and returns the commands of its jobs without running them; `seen`
    has their GPUs.
    """
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []

    class Job:
        def __init__(self, command: list[str], env: dict[str, str], **_: object):
            commands.append(command[4:])
            seen.append(env.get(VISIBLE))

        def wait(self) -> int:
            return 0

    def run(*args: str, configs: tuple[str, ...] = ("debug",)) -> list[list[str]]:
        commands.clear()
        seen.clear()
        monkeypatch.setattr(sys, "argv", ["lit_mtrl"])
        for name in (sweep.SWEEP, sweep.PARENTS):
            monkeypatch.setenv(name, "")
        assert sweep.launch(configs, args) == 0
        return [*commands]

    monkeypatch.setattr(sweep.subprocess, "Popen", Job)
    return run


seen: list[str | None] = []


def names(commands: list[list[str]]) -> list[str]:
    return [next(text for text in command if text.startswith("run_name=")).split("'")[1] for command in commands]


def test_swept_keys_name_the_run_before_its_seed(jobs) -> None:
    found = jobs("algo.tau=0.1,1.0", "seed=3")
    assert names(found) == ["sac-multi_head-tau=0.1-s3", "sac-multi_head-tau=1.0-s3"]
    assert names(jobs("seed=1,2")) == ["sac-multi_head-s1", "sac-multi_head-s2"]  # they differ anyway
    assert names(jobs("network=mlp,multi_head")) == ["sac-mlp-s0", "sac-multi_head-s0"]


def test_weightings_can_be_swept(jobs) -> None:
    first, second = jobs("weighting=mean,pcgrad", "weighting.actor=famo")
    assert names([first, second]) == ["sac-multi_head-weighting=mean-s0", "sac-multi_head-weighting=pcgrad-s0"]
    cfg = compose(["debug"], [text for text in second[:-2]])
    assert (cfg.weighting.critic.name, cfg.weighting.actor.name) == ("pcgrad", "famo")


def test_study_sweeps_what_its_file_says_and_overrides_take_its_place(jobs, tmp_path: Path) -> None:
    study = tmp_path / "mine.yaml"
    values = {
        "defaults": [{"override /env": "probes"}, {"override /logger": "csv"}],
        "experiment_name": "mine",
        "hydra": {"sweeper": {"params": {"experiment": "mt10_mtmhsac,mt10_mtsac", "seed": "0,1"}}},
    }
    study.write_text(yaml.safe_dump(values))
    assert study_sweep([str(study)]) == {"experiment": "mt10_mtmhsac,mt10_mtsac", "seed": "0,1"}
    found = jobs(configs=(str(study),))
    assert names(found) == ["sac-multi_head-s0", "sac-multi_head-s1", "sac-mlp-s0", "sac-mlp-s1"]
    assert found[2][-4:] == ["--config", str(study), "--config", "mt10_mtsac"]
    command = ["fit", *(text for text in found[2]), "--print-config", "network.width=16"]
    code, out, err = run(*command)  # what the job says is understood
    assert (code, err) == (0, "") and "experiment_name: mine" in out and "name: mlp" in out
    assert names(jobs("seed=5", configs=(str(study),))) == ["sac-multi_head-s5", "sac-mlp-s5"]
    assert len(combinations([str(study)], ["algo.tau=0.1,0.2"])) == 8


def test_study_without_multirun_is_one_line(cli) -> None:
    done = cli("fit", "--config", "study/quickstart", "seed=0")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "study/quickstart: sweeps network.width; add --multirun" in done.stderr


def test_one_run_of_a_study() -> None:
    code, out, err = run("fit", "--config", "study/matched_size", "experiment=mt10_mtsac", "seed=3", "--print-config")
    assert (code, err) == (0, "") and "experiment_name: matched_size_mt10" in out and "name: mlp" in out


def test_finished_runs_are_skipped_and_stopped_ones_continued(jobs, tmp_path: Path, capfd) -> None:
    stopped_at(tmp_path, 600, "seed=0")
    stopped_at(tmp_path, 300, "seed=1")
    found = jobs("seed=0,1,2")
    assert names(found) == ["sac-multi_head-s1", "sac-multi_head-s2"]
    assert ["--resume" in command for command in found] == [True, False]
    out = capfd.readouterr().out
    assert "3 runs: 1 finished, 1 to be continued, 1 to be started" in out
    assert frames_done(compose(["debug"], ["seed=1"])) == 300


def test_a_killed_replacement_of_the_checkpoint_counts_what_it_holds(tmp_path: Path, monkeypatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    folder = stopped_at(tmp_path, 600, "seed=1")
    (folder / "checkpoints" / "last.old").mkdir()
    (folder / "checkpoints" / "last.old" / "manifest.json").write_text(json.dumps({"frames": 300}))
    torch.save({"lit_mtrl": {"frames": 300}}, folder / "checkpoints" / "last.ckpt")
    assert frames_done(compose(["debug"], ["seed=1"])) == 300


def test_frames_of_a_damaged_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the one before, from which the job will be continued; a sweep's check reads no checkpoint that has its
    size.
    """
    import torch

    from lit_mtrl.core.manifest import write_manifest

    monkeypatch.chdir(tmp_path)
    cfg, checkpoints = compose(["debug"], ["seed=1"]), stopped_at(tmp_path, 600, "seed=1") / "checkpoints"
    torch.save({"lit_mtrl": {"frames": 300}}, checkpoints / "last.ckpt.old")
    write_manifest(checkpoints / "last", {"frames": 600, "ranks": 1, "checkpoint": [4, 0]})
    assert frames_done(cfg) == 300
    (checkpoints / "last.ckpt").write_bytes(b"1234")
    assert frames_done(cfg) == 600
    (checkpoints / "last.ckpt").unlink()
    assert frames_done(cfg) == 300
    (checkpoints / "last.ckpt.old").write_bytes(b"")
    with pytest.raises(ConfigError, match="--multirun .*last.ckpt: no such file"):
        frames_done(cfg)


def test_deleted_keys_reach_every_job(jobs) -> None:
    for command in jobs("seed=0,1", "~callbacks.plasticity"):
        assert command[0].startswith("seed=") and command[1] == "~callbacks.plasticity"


def test_keys_that_are_added_can_be_swept(jobs) -> None:
    found = jobs("+callbacks.mine.value=1,2")
    assert names(found) == ["sac-multi_head-value=1-s0", "sac-multi_head-value=2-s0"]
    assert [command[0] for command in found] == ["+callbacks.mine.value=1", "+callbacks.mine.value=2"]


def test_jobs_look_names_up_in_the_environment_themselves(jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for overrides in (("run_name=${oc.env:SECRET}-${seed}",), ("algo.name=${oc.env:SECRET}", "algo.tau=0.1,0.2")):
        found = jobs("seed=0,1", *overrides)
        assert not any("hunter2" in text for command in found for text in command)
        assert len({compose(["debug"], command[:-2]).output_dir for command in found}) == len(found)


def test_folder_of_another_run_or_of_a_running_one_is_refused(jobs, tmp_path: Path) -> None:
    folder = stopped_at(tmp_path, 600, "seed=0")
    with pytest.raises(ConfigError, match=r"another configuration: algo.tau \(0.005 there, 0.1 here\)"):
        jobs("seed=0,1", "algo.tau=0.1")
    with lock_file(folder / LOCK), pytest.raises(ConfigError, match="another process is training there"):
        jobs("seed=0,1")
    assert len(jobs("seed=0,1")) == 1


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("seed=0,1", "run_name=x"), "is that of several runs"),
        (("seed=0",), "give at least one key several values"),
        (
            ("seed=0,1", "hydra/launcher=nonsense"),
            "Could not find 'hydra/launcher/nonsense'; joblib, .* need: pip install",
        ),
        (("seed=0,1", "hydra.nonsense=3"), "Could not override 'hydra.nonsense'"),
        (("seed=0,1", "hydra.sweeper._target_=os.system"), "hydra.sweeper._target_=os.system: is no choice of Hydra"),
        (("seed=0,1", "hydra.launcher={_target_: os.system}"), "hydra.launcher._target_=os.system: is no choice"),
        (("seed=0,1", "+hydra.callbacks.x._target_=os.system"), "hydra.callbacks.x._target_=os.system: is no choice"),
        (("seed=0,1", "hydra.sweeper=null"), "hydra.sweeper._target_=null: is no choice of Hydra"),
        (("seed=0,1", "~hydra.launcher"), "~hydra.launcher: Hydra needs it"),
        (("seed=range(1,1000000)",), "makes 999,999 runs, and a sweep has 10,000 at most"),
        (("algo.tau=interval(0.1,0.2)",), "needs a sweeper that searches, such as hydra/sweeper=optuna"),
    ],
)
def test_sweeps_that_cannot_be_are_one_line(jobs, overrides: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        jobs(*overrides)
    assert "\n" not in str(error.value)


def test_every_job_of_a_sweep_gets_a_gpu(jobs, gpus, capfd) -> None:
    gpus(2, "1,2")
    with assigned_gpus(compose(["debug"], ["seed=9"])):
        jobs("seed=0,1")
    assert seen == ["2", "2"]
    assert "outputs/debug/sac-multi_head-s1: on GPU 2\n" in capfd.readouterr().out


@pytest.mark.slow
def test_sweep_over_two_gpus(tmp_path: Path) -> None:
    """With joblib's processes, which are told that there are GPUs; those that train are not."""
    lines = "import sys", "if 'fit' not in sys.orig_argv:", " import torch", " torch.cuda.device_count = lambda: 2"
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "lit_mtrl", "fit", "--config", "debug", "frames=300", "--multirun", "seed=0,1,2,3"]
    command += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    env = environment()
    env |= {"PYTHONPATH": f"{tmp_path}:{env['PYTHONPATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    places = re.findall(r"-s(\d): on GPU (\d)", done.stdout)
    assert sorted(seed for seed, _ in places) == ["0", "1", "2", "3"]
    assert {gpu for _, gpu in places} == {"0", "1"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_killed_sweep_runs_exactly_what_is_missing(tmp_path: Path, launcher: str) -> None:
    command = [sys.executable, "-m", "lit_mtrl", "fit", "--config", "debug", "--multirun", "seed=0,1,2,3"]
    command += ["logger=mlflow", "frames=1500", f"hydra/launcher={launcher}"]
    command += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    folders = [tmp_path / f"outputs/debug/sac-multi_head-s{seed}" for seed in range(4)]
    sweep = subprocess.Popen(command, cwd=tmp_path, env=environment(), start_new_session=True)
    try:
        while not (folders[1] / "checkpoints" / "last.ckpt").exists():
            assert sweep.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.wait()
    time.sleep(2)  # the jobs die with it
    done = [
        json.loads(p.read_text())["frames"] for p in tmp_path.glob("outputs/debug/*/checkpoints/last/manifest.json")
    ]
    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    finished, stopped = sum(f == 1500 for f in done), sum(f < 1500 for f in done)
    plan = f"4 runs: {finished} finished, {stopped} to be continued, {4 - finished - stopped} to be started"
    assert plan in again.stdout
    assert again.stdout.count("finished, skipped") == finished and finished < 4
    for folder in folders:
        frames = [int(line.split(",")[0]) for line in (folder / "eval.csv").read_text().splitlines()[1::3]]
        assert frames == [300, 600, 900, 1200, 1500]


@pytest.mark.slow
def test_optuna_searches_for_the_best_final_score(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lit_mtrl", "fit", "--config", "debug", "--multirun", "hydra/sweeper=optuna"]
    command += ["algo.actor_lr=interval(1e-4,1e-2)", "frames=300", "hydra.sweeper.n_trials=2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Directions: ['maximize']" in done.stderr + done.stdout
    assert len(list(tmp_path.glob("outputs/debug/*/eval.csv"))) == 2
