"""Runs with several ranks, from the command line: both strategies, other numbers of ranks, bad input, ranks that go."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch

from lit_mtrl.cli.main import _parse
from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.manifest import read_manifest
from lit_mtrl.runs.build import build_algorithm, build_data, build_suite
from lit_mtrl.runs.run import Run
from tests.helpers.processes import any_left, environment, fit, free_port, start, wait_for
from tests.helpers.project import ROOT
from tests.helpers.runs import read, same

CPU = ("trainer.accelerator=cpu",)
TWO = (*CPU, "trainer.devices=2")


def rank_of(process: subprocess.Popen, rank: int) -> int:
    """Process id of a rank of the run that ``process`` started."""
    if not rank:
        return process.pid
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = [pid for pid in children if f"LOCAL_RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text()]
    assert len(found) == 1
    return int(found[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    done = fit(folder, "--config", "debug", "trainer.strategy=ddp", "run_name=run", *TWO)
    assert done.returncode == 0, done.stderr
    assert "on each of 2 ranks (FlatDDP)" in done.stderr
    assert done.stderr.count("done at 600 frames") == 1, "the first rank alone speaks"
    return folder / "outputs/debug/run"


def test_a_run_on_two_ranks_leaves_what_any_run_does(finished: Path) -> None:
    last = finished / "checkpoints" / "last"
    manifest = read_manifest(last)
    assert (manifest["frames"], manifest["ranks"]) == (600, 2)
    assert {name.split("/")[0] for name in manifest["files"]} == {"replay", "replay.1"}
    one, two = (torch.load(last / name / "state.pt", weights_only=True) for name in ("replay", "replay.1"))
    assert one["writer"] == two["writer"] and one["writer"]["_write_count"] == 600 // 3 // 2
    assert not torch.equal(one["sampler"]["generator"], two["sampler"]["generator"])
    stored = [(last / name / "transitions" / "observation.memmap").read_bytes() for name in ("replay", "replay.1")]
    assert len(stored[0]) == len(stored[1]) and stored[0] != stored[1]
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["lit_mtrl"]
    assert checkpoint["frames"] == 600 and checkpoint["updates"] == 600 // 3 - 20
    streams = [state["cpu"] for state in checkpoint["random"]]
    assert len(streams) == 2 and not torch.equal(*streams)
    assert len(checkpoint["recent"]) == 100
    rows = read(finished / "eval.csv")
    assert [row["frames"] for row in rows] == ["300"] * 3 + ["600"] * 3
    frames = [int(row["frames"]) for row in read(finished / "metrics.csv") if row["loss/critic"]]
    assert frames == list(range(120, 601, 60)), "written once"
    for table in ("gradients.csv", "plasticity.csv"):
        with (finished / table).open(newline="") as file:
            keys = [
                tuple(row[k] for k in ("frames", "net", "layer", "objective", "task") if k in row)
                for row in csv.DictReader(file)
            ]
        assert len(keys) == len(set(keys)) > 0


def test_pytorchs_ddp_leads_to_the_same_weights(finished: Path, tmp_path: Path) -> None:
    """Its hooks reduce the very gradients that our all-reduce does; in two parts of equal size sums have one order."""
    done = fit(
        tmp_path, "--config", "debug", "trainer.strategy=ddp_find_unused_parameters_true", "output_dir=run", *TWO
    )
    assert done.returncode == 0, done.stderr
    assert "HookedDDP" in done.stderr
    ours, theirs = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (finished, tmp_path / "run")
    )
    same(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("network=paco", "weighting.critic=pcgrad", "weighting.actor=famo", "algo.mask_out=0.5"),
        ("network=paco", "algo.mask_out=0.5", "+callbacks.paco_reset._target_=lit_mtrl.callbacks.paco_reset.PaCoReset"),
        ("network=moore", "weighting.critic=gradnorm", "collector.overlap=true"),
    ],
    ids=["weightings", "reset", "overlap"],
)
def test_both_strategies_with_everything(options: tuple[str, ...], tmp_path: Path) -> None:
    found = []
    for name in ("ddp", "ddp_find_unused_parameters_true"):
        done = fit(tmp_path, "--config", "debug", f"trainer.strategy={name}", f"output_dir={name}", *TWO, *options)
        assert done.returncode == 0, done.stderr
        found.append(torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True))
    same(found[0]["state_dict"], found[1]["state_dict"])
    if "reset" in str(options):
        assert found[0]["callbacks"]["PaCoReset"]["counts"]


@pytest.mark.slow
def test_evaluation_in_the_background_of_two_ranks(finished: Path, tmp_path: Path) -> None:
    done = fit(tmp_path, "--config", "debug", "trainer.strategy=ddp", "eval.background=true", "output_dir=run", *TWO)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "eval.csv").read_text() == (finished / "eval.csv").read_text()
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt.pending").exists()


@pytest.mark.parametrize("name", ["README.md", "docs/several_gpus.md", "docs/docker.md"])
def test_documented_commands_divide(name: str) -> None:
    """Of all that are shown with several ranks."""
    commands = re.findall(r"\bfit (--config [^#|`\n]*trainer\.devices=\d+[^#|`\n]*)", (ROOT / name).read_text())
    assert commands or name == "docs/docker.md"
    for command in commands:
        args = _parse(["fit", *shlex.split(command)])
        cfg = compose(args.config, args.overrides)
        suite = build_suite(cfg)
        with torch.device("meta"):
            algorithm = build_algorithm(cfg, suite)
        build_data(cfg, suite, algorithm, 0, cfg.trainer.devices)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus(tmp_path: Path) -> None:
    """As graphs and eagerly."""
    states = []
    for engine in ("cudagraph", "eager"):
        done = fit(tmp_path, "--config", "debug", "trainer.devices=2", f"engine={engine}", f"output_dir={engine}")
        assert done.returncode == 0, done.stderr
        states.append(torch.load(tmp_path / engine / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_other_numbers_of_ranks_continue_a_run(finished: Path, tmp_path: Path) -> None:
    """Two, then one, then two again."""
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for frames, devices, before in ((900, 1, 2), (1200, 2, 1)):
        done = fit(tmp_path, "--resume", str(run), f"frames={frames}", f"trainer.devices={devices}", *CPU)
        assert done.returncode == 0, done.stderr
        assert f"continued on {devices} ranks, saved by {before}" in done.stderr
        folders = sorted((run / "checkpoints" / "last").glob("replay*"))
        counts = [torch.load(f / "state.pt", weights_only=True)["writer"]["_write_count"] for f in folders]
        assert len(folders) == devices and sum(counts) == frames // 3
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["lit_mtrl"]
    assert checkpoint["updates"] == 1200 // 3 - 20


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("trainer.devices=2", "replay.per_task=9"), "replay.per_task=9: must divide among 2 ranks, such as 10"),
        (("trainer.devices=2", "replay.capacity=999"), "replay.capacity=999: must divide among 2 ranks, such as 1000"),
        (
            ("trainer.devices=3", "replay.per_task=9", "replay.capacity=900"),
            "collector.steps=10: must divide among 3 ranks, such as 12",
        ),
        (("trainer.devices=2", "epoch_frames=330"), "a multiple of 60 (tasks x copies x horizon x ranks)"),
        (("trainer.devices=0",), "trainer.devices=0: a whole number from 1"),
        (("trainer.devices=2", "trainer.accelerator=gpu"), "trainer.devices=2: this machine has 0 GPUs"),
        (("trainer.devices=2", "trainer.strategy=dpp"), "trainer.strategy=dpp: unknown; did you mean 'ddp'?"),
    ],
)
def test_bad_input(overrides: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError) as error:
        Run(compose(["debug"], ["trainer.accelerator=cpu", *overrides]))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(ConfigError, match=f"MASTER_PORT={port}: ranks cannot meet there .* choose a free port"):
            Run(compose(["debug"], list(TWO)))


def test_ranks_that_were_started_with_different_configurations(tmp_path: Path) -> None:
    """Started by somebody else than us, as torchrun or SLURM do."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = []
    for rank in range(2):
        env = {**environment(), **meeting, "LOCAL_RANK": str(rank), "RANK": str(rank)}
        ranks.append(start(tmp_path, "fit", "--config", "debug", f"algo.gamma=0.9{rank}", *TWO, env=env))
    for process in ranks:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert "ranks have different configurations: algo.gamma (0.9 on rank 0, 0.91 on rank 1)" in said
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.slow
@pytest.mark.parametrize("victim, kill", [(1, signal.SIGKILL), (0, signal.SIGTERM), (0, signal.SIGINT)])
def test_no_rank_outlives_another(tmp_path: Path, victim: int, kill: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start(tmp_path, "fit", "--config", "debug", "frames=30_000", f"output_dir={run}", *TWO)
    assert wait_for((run / "checkpoints" / "last.ckpt").exists, 120)
    if kill == signal.SIGTERM:  # while the others wait for this rank
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
    os.kill(rank_of(process, victim), kill)
    os.kill(process.pid, signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: 1, signal.SIGTERM: 143, signal.SIGINT: 130}[kill]
    if victim:
        assert "another rank has stopped, or cannot be reached" in said, said
    assert wait_for(lambda: not any_left(process.pid), 10)
    at = json.loads((run / "checkpoints" / "last" / "manifest.json").read_text())["frames"]
    done = fit(tmp_path, "--resume", str(run), f"frames={at + 300}")
    assert done.returncode == 0, done.stderr
