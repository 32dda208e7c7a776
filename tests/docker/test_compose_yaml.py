"""`compose.yaml`'s MLflow server, started by the very command in the file against a real PostgreSQL: a run logs to it
and its page shows the run.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helpers.processes import environment, fit, free_port, wait_for
from tests.helpers.project import ROOT
from tools.screenshot import chromium, open_page

SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
PASSWORD = "not-the-default"


def binaries() -> Path | None:
    """Where PostgreSQL's programs are: Debian keeps the server's out of PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.skipif(binaries() is None, reason="needs PostgreSQL: apt install postgresql"),
]


def wait(command: list[str], seconds: float, **options: object) -> None:
    """Until the health check succeeds."""

    def healthy() -> bool:
        return not subprocess.run(command, capture_output=True, check=False, **options).returncode  # pyright: ignore

    assert wait_for(healthy, seconds, every=0.5), command


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    """The port of a PostgreSQL server with the file's user, database and a password asked for by TCP."""
    programs, settings = binaries(), SERVICES["postgres"]["environment"]
    assert programs
    user, port = settings["POSTGRES_USER"], free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        options: dict = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if os.getuid() == 0:  # PostgreSQL refuses to be root
            other = pwd.getpwnam("postgres")
            options |= {"user": other.pw_uid, "group": other.pw_gid}
            for path in (folder, folder / "password"):
                os.chown(path, other.pw_uid, other.pw_gid)
        data = ["-D", str(folder / "data")]
        access = ["--auth-host=scram-sha-256", "--auth-local=trust", "--pwfile=password"]
        subprocess.run([programs / "initdb", *data, "-U", user, *access], check=True, **options)
        with subprocess.Popen([programs / "postgres", *data, "-p", str(port), "-k", str(folder)], **options) as server:
            try:
                check = SERVICES["postgres"]["healthcheck"]["test"][1:]
                ready = [programs / check[0], *(word for word in check[1:] if "dbname" not in word), f"--port={port}"]
                wait(ready, 60)
                there = ["-h", str(folder), "-p", str(port), "-U", user]
                subprocess.run([programs / "createdb", *there, settings["POSTGRES_DB"]], check=True)
                yield port
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(60)


@pytest.fixture(scope="module")
def address(database: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the MLflow server; of its command only ports and folders are other ones."""
    folder, port, service = tmp_path_factory.mktemp("mlflow"), free_port(), SERVICES["mlflow"]
    here = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "@postgres:5432": f"@127.0.0.1:{database}",
        "/workspace": str(folder),
    }
    command = service["command"]
    for old, new in here.items():
        assert any(old in word for word in command), old
        command = [word.replace(old, new) for word in command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**environment(), **service["environment"], "PGPASSWORD": PASSWORD, "PATH": path}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            check = service["healthcheck"]["test"][1:]
            wait([word.replace(":5000", f":{port}") for word in check], 300, env=env)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def answer(address: str, host: str) -> int:
    """The status that a request for experiments gets when it asks ``host``."""
    url = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_who_may_ask(address: str) -> None:
    """The trainer by the service's name and a browser on this machine; not a page elsewhere that points here."""
    assert [answer(address, host) for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:81")] == [200, 200, 200]
    assert answer(address, "example.org") == 403


def test_run_is_logged_and_shown(address: str, tmp_path: Path) -> None:
    done = fit(tmp_path, "--config", "debug", "logger=mlflow", f"logger.tracking_uri={address}", "logger.log_frames=60")
    assert done.returncode == 0 and "lost" not in done.stderr, done.stderr

    import mlflow

    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("debug")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    folder = tmp_path / "outputs/debug/sac-multi_head-s0"
    for name in ("config.yaml", "eval.csv", "checkpoints/last.ckpt"):
        copy = Path(client.download_artifacts(run.info.run_id, name, str(tmp_path)))
        assert copy.read_bytes() == (folder / name).read_bytes()
    if chromium() is None:
        pytest.fail("this test needs Chromium: apt install chromium")
    with open_page() as page:
        page.goto(f"{address}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}")
        page.get_by_text("sac-multi_head-s0").first.wait_for()
        page.get_by_text("eval/success", exact=True).first.wait_for()
        page.screenshot(path=tmp_path / "run.png")
        page.goto(f"{address}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/eval.csv")
        page.get_by_text("pick-place").first.wait_for()
        page.screenshot(path=tmp_path / "files.png")
