"""`lit_mtrl.tracking.ui`: what cannot be served is one line, at once; what can be is served until it is told to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.tracking.mlflow import MLflowLogger
from lit_mtrl.tracking.ui import serve
from tests.helpers.processes import environment

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def refused(uri: str | None, port: int = 0) -> str:
    """The message of the `ConfigError`, one line."""
    with pytest.raises(ConfigError) as caught:
        serve(uri, port)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def looks_right(tmp_path: Path) -> str:
    """A database that passes for MLflow's until MLflow reads it."""
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE experiments (name TEXT)")
    connection.close()
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_no_runs_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(None)
    assert f"--tracking-uri sqlite:///{tmp_path}/mlflow.db: no such file" in message and "run fit first" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:5000", "already a server: open it"),
        ("https://user:secret@host", "--tracking-uri https://***@host: that is already a server"),
        ("file:///tmp", "not a database"),
        ("mlflow.db", "not a database; give sqlite:///PATH"),
        ("sqlite://mlflow.db", "names no SQLite file"),
        ("sqlite:///:memory:", "names no SQLite file"),
        ("sqlite:///", "names no SQLite file"),
        ("sqlite:////tmp", "no such file"),
    ],
)
def test_not_a_store(uri: str, reason: str) -> None:
    assert reason in refused(uri)


def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("frames,task,success\n" * 100)
    assert "eval.csv: cannot be read (file is not a database)" in refused(f"sqlite:///{tmp_path}/eval.csv")


def test_database_of_something_else(tmp_path: Path) -> None:
    """MLflow would add its tables to it."""
    path = tmp_path / "optuna.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (name TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "optuna.db: holds no runs of MLflow" in refused(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int, looks_right: str) -> None:
    assert f"--port {port}: 0 to 65535" in refused(looks_right, port)


def test_port_in_use(looks_right: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused(looks_right, port)
    assert f"--port {port}: not to be had on 127.0.0.1 (Address already in use); give another --port" in message


def test_store_that_mlflow_cannot_read(looks_right: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert re.search("--tracking-uri sqlite:///.*mlflow.db: MlflowException: .*no such column", refused(looks_right))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_serves_runs_and_files_until_told_to_end(tmp_path: Path, mlflow_db: Path) -> None:
    folder = tmp_path / "a b%20?#é"
    folder.mkdir()
    shutil.copy(mlflow_db, folder)
    (folder / "eval.csv").write_text("frames,task\n")
    logger = MLflowLogger(f"sqlite:///{folder}/mlflow.db", "mt10", "sac-s0", {}, {}, folder)
    logger.connect()
    logger.log_artifact(folder / "eval.csv")
    logger.finalize("success")
    code = "import sys; from lit_mtrl.tracking.ui import serve; sys.exit(serve(None, 0))"
    options = dict(cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:  # pyright: ignore[reportCallIssue, reportArgumentType]
        try:
            assert process.stdout and process.stderr
            line = process.stdout.readline()
            found = re.fullmatch(r"MLflow: (http://127.0.0.1:\d+)/start shows .*mlflow.db; Ctrl-C ends it\n", line)
            assert found, line + process.stderr.read()
            address = found[1]

            def get(path: str) -> str:
                with urllib.request.urlopen(f"{address}/{path}", timeout=60) as answer:
                    return answer.read().decode()

            assert "localStorage" in get("start")
            names = [
                e["name"]
                for e in json.loads(get("ajax-api/2.0/mlflow/experiments/search?max_results=9"))["experiments"]
            ]
            assert "mt10" in names
            assert get(f"get-artifact?path=eval.csv&run_uuid={logger.run_id}") == "frames,task\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert process.stderr.read() == ""
            assert not [child for child in children if os.path.exists(f"/proc/{child}")]
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == [folder]
