"""What the operating system does not allow is said in one line, before anything is started where that can be known."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lit_mtrl.config.compose import compose
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.limits import OPEN_FILES, raise_open_files, remedy, require_open_files, shared_bytes
from lit_mtrl.envs.probes import Probes
from lit_mtrl.evaluation.evaluator import Evaluator
from lit_mtrl.evaluation.players import EvaluationError
from lit_mtrl.runs.run import Run
from tests.helpers.actors import make_actor
from tests.helpers.processes import environment

WORKERS = ["collector.workers=3", "eval.workers=2"]


def limited(files: int, hard: int, *args: str) -> list[str]:
    """A command in a shell that allows so many open files."""
    command = f'ulimit -Sn {files} && ulimit -Hn {hard} && exec "$@"'
    return ["sh", "-c", command, "sh", sys.executable, *args]


def test_the_soft_limit_is_raised() -> None:
    ask = "from lit_mtrl.cli.main import main; import resource; main(['list']); "
    ask += "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = subprocess.run(
        limited(64, 640, "-c", ask), env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "640 640"


def test_a_limit_of_a_billion_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    raise_open_files()
    assert asked == [(OPEN_FILES, resource.RLIM_INFINITY)]


def test_too_few_open_files(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that would hang, or end after a minute, does not start."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    done = cli("fit", "--config", "debug", "output_dir=run", *WORKERS)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: collector.workers=3: 3 collecting and 2 evaluating processes need 1")
    assert "100 are allowed; raise the limit by `ulimit -n 1" in said and said.endswith(
        "or use fewer collector.workers"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_as_many_open_files_as_are_said_to_be_needed(tmp_path: Path) -> None:
    args = ("-m", "lit_mtrl", "fit", "--config", "debug", "output_dir=run", *WORKERS)
    options = dict(cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    refused = subprocess.run(limited(64, 64, *args), **options)
    needed = int(refused.stderr.split("`ulimit -n ")[1].split("`")[0])
    done = subprocess.run(limited(needed, needed, *args), **options)
    assert done.returncode == 0, done.stderr


def test_open_files_of_a_process_that_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, 16))
    Run(compose(["debug"], []))
    with pytest.raises(ConfigError, match=r"^eval.workers=2: .*`ulimit -n \d+`, or use fewer eval.workers$"):
        Run(compose(["debug"], ["eval.workers=2"]))
    with pytest.raises(ConfigError, match="need 88 open files, and 16 are allowed"):
        require_open_files(40, "x", "y=1")


def test_too_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker gives 64 MiB."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=25, f_frsize=4096))
    Run(compose(["debug"], []))
    with pytest.raises(ConfigError) as error:
        Run(compose(["debug"], WORKERS))
    assert "/dev/shm has 100 KiB left" in str(error.value) and "--shm-size" in str(error.value)
    assert str(error.value).startswith("collector.workers=3: ")


def test_shared_tensors_take_whole_pages() -> None:
    assert shared_bytes([torch.zeros(1), torch.zeros(1024), torch.zeros(1025)]) == 4 * resource.getpagesize()


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (errno.EMFILE, "`ulimit -n`"),
        (errno.EAGAIN, "`ulimit -u`, a container's --pids-limit"),
        (errno.ENOMEM, "memory"),
    ],
)
def test_evaluation_processes_that_cannot_be_started(code: int, helps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and none of those that were started is left."""
    started, original = [], SpawnProcess.start

    def start(process: SpawnProcess) -> None:
        if started:
            raise OSError(code, os.strerror(code))
        started.append(process)
        original(process)

    monkeypatch.setattr(SpawnProcess, "start", start)
    suite = Probes()
    evaluator = Evaluator(suite, episodes=2, workers=2)
    with pytest.raises(EvaluationError) as error:
        evaluator.run(make_actor(suite))
    evaluator.close()
    assert helps in str(error.value) and "fewer eval.workers" in str(error.value) and "\n" not in str(error.value)
    assert not started[0].is_alive()


def test_shared_memory_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.nn.Module) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    suite = Probes()
    monkeypatch.setattr(torch.nn.Module, "share_memory", full)
    with pytest.raises(EvaluationError, match="--shm-size, or use eval.workers=1"):
        Evaluator(suite, episodes=2, workers=2).run(make_actor(suite))


def test_other_errors_have_no_remedy_here() -> None:
    assert remedy("ValueError: the gripper fell off", "collector.workers") is None
