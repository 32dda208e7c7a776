"""Runs against an MLflow server that is taken away and brought back, and runs that are killed: every point once, every
run FINISHED.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_mtrl.tracking.queue import logged, unsent
from lit_mtrl.tracking.store import import_mlflow
from tests.helpers.processes import environment, free_port, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
RUN = ("--config", "debug", "logger=mlflow", "collector.steps=5", "network.width=256")
"""A few hundred frames a second, so that there is time to take something away."""
NAME = "sac-multi_head-s0"


class Server:
    """``mlflow server`` on a store of its own, at the same address whenever it is started."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        command += ["--artifacts-destination", f"{self.folder}/files"]
        env = {**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        assert wait_for(self._answers, 120)

    def stop(self) -> None:
        """As a machine that goes down: with all its processes, at once."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


class Training:
    """``fit`` in a process of its own."""

    def __init__(self, folder: Path, *args: str):
        self.run = folder / "outputs" / "debug" / NAME
        self._log = folder / "fit.log"
        command = [sys.executable, "-m", "lit_mtrl", "fit", *args]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)

    def until(self, frames: int) -> None:
        """Wait until ``frames`` have been logged."""

        def there() -> bool:
            assert self.process.poll() is None, self.said()
            return any(step >= frames for step, _ in logged(self.run / "metrics.csv"))

        assert wait_for(there, 300)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        return self.process.wait(300)

    def said(self) -> str:
        return self._log.read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def check(uri: str, run: Path, name: str = NAME) -> Any:
    """Every point of ``metrics.csv`` is in MLflow once, with its value unless it is a time; the run is FINISHED and has
    its files.
    """
    client = import_mlflow().MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("debug").experiment_id])
    (mine,) = [each for each in found if each.info.run_name == name]
    assert {each.info.status for each in found} == {"FINISHED"}
    expected = {(key, step): value for step, row in logged(run / "metrics.csv") for key, value in row.items()}
    points = [
        (key, m.step, m.value) for key in mine.data.metrics for m in client.get_metric_history(mine.info.run_id, key)
    ]
    twice = {point: n for point, n in Counter((key, step) for key, step, _ in points).items() if n > 1}
    assert not twice
    assert {(key, step) for key, step, _ in points} == expected.keys()
    assert not [(k, s) for k, s, value in points if not k.startswith(("speed/", "time/")) and value != expected[k, s]]
    files = {each.path for each in client.list_artifacts(mine.info.run_id)}
    assert files >= {"config.yaml", "run.json", "checkpoints", "eval.csv", "metrics.csv"}
    assert not unsent(run)
    return mine


@pytest.mark.parametrize("moment", ["beginning", "middle", "end"])
def test_server_goes_away_and_comes_back(moment: str, server: Server, tmp_path: Path) -> None:
    """At the end, it is back 15 seconds before the run stops waiting for it."""
    frames = 6000
    training = Training(tmp_path, *RUN, f"frames={frames}", f"logger.tracking_uri={server.address}")
    training.until({"beginning": 60, "middle": 2400, "end": 4800}[moment])
    server.stop()
    if moment == "end":
        assert wait_for(lambda: any(step >= frames for step, _ in logged(training.run / "metrics.csv")), 300)
        time.sleep(30)
    else:
        training.until({"beginning": 1800, "middle": 4200}[moment])
    assert training.process.poll() is None
    server.start()
    assert training.end() == 0, training.said()
    check(server.address, training.run)
    assert "Traceback" not in training.said()


def test_server_away_for_longer_than_a_run_waits(server: Server, tmp_path: Path) -> None:
    training = Training(tmp_path, *RUN, "frames=3000", f"logger.tracking_uri={server.address}")
    training.until(1200)
    server.stop()
    assert training.end() == 0
    assert f"lit_mtrl fit --resume {training.run.relative_to(tmp_path)}" in training.said()
    assert unsent(training.run)
    resume = ("--resume", str(training.run.relative_to(tmp_path)))
    refused = Training(tmp_path, *resume)
    assert refused.end() == 2 and "logger.tracking_uri=http://127.0.0.1" in refused.said()
    server.start()
    again = Training(tmp_path, *resume)
    assert again.end() == 0, again.said()
    assert "trained to its end before" in again.said()
    run = check(server.address, training.run)
    files = import_mlflow().MlflowClient(server.address).list_artifacts(run.info.run_id, "checkpoints")
    assert {file.path for file in files} == {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    nothing = Training(tmp_path, *resume)
    assert nothing.end() == 2 and "finished at 3000 frames" in nothing.said()


@pytest.mark.parametrize("kind", ["http", "sqlite"])
def test_killed_twice_and_resumed(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """And once more after its last checkpoint, before it could end its MLflow run."""
    uri = request.getfixturevalue("server").address if kind == "http" else f"sqlite:///{tmp_path}/mlflow.db"
    training = Training(tmp_path, *RUN, "frames=4500", f"logger.tracking_uri={uri}")
    resume = ("--resume", str(training.run.relative_to(tmp_path)))
    for frames in (1020, 2820):
        training.until(frames)
        training.kill()
        training = Training(tmp_path, *resume)
    manifest = training.run / "checkpoints" / "last" / "manifest.json"
    assert wait_for(lambda: manifest.exists() and '"frames": 4500' in manifest.read_text(), 300)
    training.kill()
    codes = [Training(tmp_path, *resume).end() for _ in range(2)]  # the first ends what may be left open
    assert codes in ([0, 2], [2, 2]) and "finished at 4500 frames" in training.said()
    check(uri, training.run)


def test_database_that_is_locked_for_a_while(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    training = Training(tmp_path, *RUN, "frames=4500", f"logger.tracking_uri={uri}")
    training.until(600)
    connection = sqlite3.connect(tmp_path / "mlflow.db", timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    training.until(3000)
    connection.rollback()
    connection.close()
    assert training.end() == 0, training.said()
    check(uri, training.run)


def test_sweep_that_is_killed(tmp_path: Path) -> None:
    """The same sweep again ends what it left open: its own run, and that of a job that had been trained to its end."""
    command = (*RUN, "frames=900", "--multirun", "seed=0,1")
    sweep = Training(tmp_path, *command)
    manifest = sweep.run / "checkpoints" / "last" / "manifest.json"
    assert wait_for(lambda: manifest.exists() and '"frames": 900' in manifest.read_text(), 300)
    job = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if (text := path.read_text().rpartition(")")[2].split()) and text[1] == str(sweep.process.pid)
    )
    os.kill(job, signal.SIGKILL)
    sweep.kill()
    assert unsent(sweep.run)
    again = Training(tmp_path, *command)
    assert again.end() == 0, again.said()
    for seed in (0, 1):
        name = f"sac-multi_head-s{seed}"
        check(f"sqlite:///{tmp_path}/mlflow.db", sweep.run.with_name(name), name)
