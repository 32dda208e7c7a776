"""`lit_mtrl.doctor`: every probe's good end by the command itself, its bad ends one by one; and none of them ends the
others.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from lit_mtrl.core.processes import cpu_quota
from lit_mtrl.doctor import devices, examine, simulation, store, system
from lit_mtrl.doctor.finding import MISSING, OK, PROBLEM, Finding, Probe, guarded
from tests.helpers.command import run as lit_mtrl
from tests.helpers.processes import environment


def only(probe: Probe) -> Finding:
    """The one finding of a probe."""
    (finding,) = guarded(probe)
    assert "\n" not in finding.found and "\n" not in finding.remedy
    return finding


def test_command_tells_what_is_here(cli, tmp_path: Path) -> None:
    done = cli("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["can_train"]
    assert found.keys() >= {
        *("python", "packages", "compiler", "cores", "shared memory", "open files", "outputs", "torch", "gloo", "NCCL"),
        *("physics", "rendering EGL", "rendering OSMesa", "compiled steps", "memory", "disk", "MLflow store"),
    }
    assert any(name.startswith("GPU") for name in found)
    for name in ("outputs", "torch", "gloo", "physics", "compiled steps", "MLflow store"):
        assert found[name]["state"] == OK, found[name]
    for finding in found.values():
        assert (finding["state"] == OK) or finding["remedy"], finding
    assert not list(tmp_path.iterdir())


def test_lines_and_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Finding("torch", OK, "2.13.0"), Finding("numba", MISSING, "not installed", "pip install it")]
    monkeypatch.setattr(examine, "examine", lambda uri: iter(here))
    monkeypatch.setitem(sys.modules, "hydra", None)  # the other commands could not even be imported
    monkeypatch.delitem(sys.modules, "lit_mtrl.cli.commands", raising=False)
    code, out, err = lit_mtrl("doctor")
    assert (code, err) == (0, "")
    assert out == (
        "torch            ok       2.13.0\nnumba            missing  not installed; pip install it\ncan train here\n"
    )
    here.append(Finding("physics", PROBLEM, "nothing moves"))
    code, out, _ = lit_mtrl("doctor")
    assert code == 1 and out.endswith("cannot train here: physics\n")
    assert not json.loads(lit_mtrl("doctor", "--json")[1])["can_train"]


def test_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, lit_mtrl.doctor.examine; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "hydra", "mlflow", "mujoco", "metaworld", "lightning"}


@pytest.mark.parametrize(
    ("script", "last"),
    [
        ("kill -SEGV $$", ("physics", PROBLEM, "died of SIGSEGV (no message)", "")),
        ("echo oh dear >&2; exit 3", ("physics", PROBLEM, "exit code 3 (oh dear)", "")),
        ("sleep 60", ("physics", PROBLEM, "no answer within 0.5 s", "")),
    ],
)
def test_probe_that_ends_badly(script: str, last: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Finding("physics", OK, "so far")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho noise\necho '{examine.MARK}{json.dumps(first)}'\nexec 2>&2\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(examine, "LIMIT", 0.5)
    start = time.monotonic()
    assert examine.run_apart(simulation.physics, {}) == [first, last]
    assert time.monotonic() - start < 10


def test_error_of_a_probe_is_its_last_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert only(devices.torch)[:2] == ("torch", MISSING)
    monkeypatch.setitem(sys.modules, "lit_mtrl.envs.metaworld", None)
    finding = only(simulation.physics)
    assert finding[:2] == ("physics", MISSING) and finding.remedy == "pip install -r requirements.txt"


def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "requirements.txt"
    monkeypatch.setattr(system, "PINS", (tmp_path / "none", pins))
    assert "no requirements.txt" in only(system.packages).found
    pins.write_text("# tested\nnumpy==1.0\nno-such-package==2.0\n")
    assert only(system.packages)[1:3] == (MISSING, "not installed: no-such-package")
    pins.write_text("numpy==1.0\n")
    assert only(system.packages).state == PROBLEM and "(tested: 1.0)" in only(system.packages).found


def test_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert only(system.compiler)[1:3] == (MISSING, "no no-such-compiler for torch.compile")
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setattr(system.sysconfig, "get_path", lambda _: str(tmp_path))
    assert f"no {tmp_path}/Python.h" in only(system.compiler).found


def test_cores_with_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(system, "cpu_quota", lambda: 2.5)
    found = only(system.cores)
    assert (
        found.state == PROBLEM
        and "10 for mt10 and 16 for mt50; but a control group leaves the time of 2.5" in found.found
    )
    assert "--cpuset-cpus=0-1" in found.remedy and "collector.workers=2" in found.remedy
    monkeypatch.setattr(system, "cpu_quota", lambda: 16.0)
    assert only(system.cores).state == OK


def test_cpu_quota(tmp_path: Path) -> None:
    """Of both versions; the smallest on the way up counts, and a container sees its own group as the root."""
    proc, two, one = tmp_path / "cgroup", tmp_path / "two", tmp_path / "one"
    assert cpu_quota(proc) is None
    (two / "a" / "b").mkdir(parents=True)
    (two / "a" / "cpu.max").write_text("150000 100000\n")
    (two / "a" / "b" / "cpu.max").write_text("max 100000\n")
    proc.write_text("0::/a/b\n")
    assert cpu_quota(proc, two) == 1.5
    (one / "cpu").mkdir(parents=True)
    (one / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (one / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    proc.write_text("3:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n")
    assert cpu_quota(proc, one) == 4.0
    (one / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(proc, one) is None


def test_shared_memory(tmp_path: Path) -> None:
    assert only(lambda: system.shared_memory(tmp_path / "none")).state == MISSING
    assert "--shm-size" in only(lambda: system.shared_memory(tmp_path, enough=1e18)).remedy


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert only(system.open_files).state == PROBLEM
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert only(system.open_files)[1:3] == (OK, "any number allowed, " + only(system.open_files).found.split(", ")[1])


def test_outputs_of_another_user(open_folder: Path, nobody) -> None:
    with nobody():
        found = only(lambda: system.outputs(open_folder / "outputs"))
    assert found.state == PROBLEM and f"{open_folder} belongs to uid 0 and is not writable for uid 65534" in found.found
    assert found.remedy.startswith("as root `install -d -o 65534") and "choose another output_dir" in found.remedy


def test_gpu_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", broken)
    found = only(devices.gpus)
    assert found[:2] == ("GPU 0", PROBLEM) and found.found.endswith("for execution on the device")
    assert "update the driver" in found.remedy


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "version"
    monkeypatch.setattr(devices, "DRIVER", file)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "--gpus all" in devices.no_gpu("13.0", []).remedy
    assert "CPU build" in devices.no_gpu(None, []).found
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n")
    assert devices.no_gpu(None, []).found == "driver 550.54.15, and this PyTorch is a CPU build"
    found = devices.no_gpu("13.0", ["The NVIDIA driver on your system is too old"])
    assert found.state == PROBLEM and "550.54.15, but The NVIDIA driver on your system is too old" in found.found
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n")
    assert devices.driver() == "580.65.06"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.no_gpu("13.0", []).remedy == "unset it"


def test_ranks_that_cannot_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("unable to resolve hostname")

    monkeypatch.setattr(devices, "_all_reduce", broken)
    found = only(devices.ranks)
    assert found[:2] == ("gloo", PROBLEM) and "GLOO_SOCKET_IFNAME" in found.remedy


@pytest.mark.parametrize(("library", "state"), [(None, MISSING), ("libOSMesa.so.8", PROBLEM)])
def test_rendering(library: str | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(simulation, "_rendered", broken)
    monkeypatch.setattr(simulation, "find_library", lambda _: library)
    found = only(simulation.rendering_OSMesa)
    assert found[:2] == ("rendering OSMesa", state) and "libosmesa6" in found.remedy
    assert os.environ["MUJOCO_GL"] == "osmesa"


@pytest.mark.slow
def test_rendering_with_a_broken_driver() -> None:
    (found,) = examine.run_apart(simulation.rendering_EGL, {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"})
    assert found.state in (PROBLEM, MISSING) and "libegl1" in found.remedy


def test_compiled_steps_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert only(simulation.compiled_steps)[1::2] == (MISSING, "pip install numba")


def test_compiled_steps_that_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_mtrl.envs.native import trial

    def fails(tasks: list[str], official: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(trial, "trial", fails)
    finding = only(simulation.compiled_steps)
    assert finding[:2] == ("compiled steps", PROBLEM) and "official code" in finding.remedy


def test_compiled_steps_that_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_mtrl.envs.native import cache

    monkeypatch.setattr(cache, "folder", lambda: None)
    finding = only(simulation.compiled_steps)
    assert finding[:2] == ("compiled steps", PROBLEM) and "NUMBA_CACHE_DIR" in finding.remedy


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_mtrl.data import placement

    monkeypatch.setattr(placement, "free_bytes", lambda _: 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(10**9))
    memory, disk = guarded(lambda: simulation.room(tmp_path))
    assert (memory.state, disk.state) == (PROBLEM, PROBLEM)
    assert memory.found == "1.0 GB free; MT50's replay takes 1.7 GB" and "replay.capacity=20_000" in memory.remedy
    assert disk.found.endswith("take up to 3.3 GB") and "output_dir" in disk.remedy


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch):
    """``looked_at(uri)``: what the probe says about a store."""

    def look(uri: str) -> Finding:
        monkeypatch.setenv(store.STORE, uri)
        return only(store.mlflow_store)

    return look


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("mlruns", "no longer keeps runs in plain folders"),
        ("sqlite:///", "not the path of an SQLite file"),
        ("postgresql+nothing://user@localhost/x", "postgresql+nothing://***@localhost/x: "),
        ("postgresql://user:secret@localhost/x", "postgresql://***: holds a password or token"),
    ],
)
def test_no_store(uri: str, text: str, looked_at) -> None:
    found = looked_at(uri)
    assert found.state == PROBLEM and text in found.found and found.remedy and "secret" not in str(found)


@pytest.mark.filterwarnings("ignore")
def test_store_with_nothing_behind_it(looked_at) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        found = looked_at(f"http://127.0.0.1:{other.getsockname()[1]}")
    assert found.state == PROBLEM and "MlflowException" in found.found
    assert found.remedy == "start its server, give another logger.tracking_uri, or logger=csv"


def test_store_is_not_made(tmp_path: Path, looked_at) -> None:
    assert looked_at(f"sqlite:///{tmp_path}/mlflow.db")[1:3] == (
        OK,
        f"sqlite:///{tmp_path}/mlflow.db: the first run will make it",
    )
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        connection.execute("CREATE TABLE studies (name TEXT)")
    connection.close()
    before = (tmp_path / "optuna.db").read_bytes()
    assert "holds no runs yet" in looked_at(f"sqlite:///{tmp_path}/optuna.db").found
    assert (tmp_path / "optuna.db").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "eval.csv").write_text("frames,task,success\n" * 100)
    found = looked_at(f"sqlite:///{tmp_path}/eval.csv")
    assert found.state == PROBLEM and "file is not a database" in found.found and "server" not in found.remedy


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_store_with_runs(tmp_path: Path, looked_at, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(mlflow_db, tmp_path)
    before = sorted(tmp_path.iterdir())
    assert looked_at("sqlite:///mlflow.db")[1:3] == (OK, f"sqlite:///{tmp_path}/mlflow.db: answers; 1 experiments")
    assert sorted(tmp_path.iterdir()) == before


def test_store_of_another_user(open_folder: Path, looked_at, nobody) -> None:
    with nobody():
        found = looked_at(f"sqlite:///{open_folder}/mlflow.db")
    assert found.state == PROBLEM and f"{open_folder} belongs to uid 0" in found.found
    assert found.remedy.endswith("or give another logger.tracking_uri, or logger=csv")
