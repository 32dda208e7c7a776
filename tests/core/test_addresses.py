"""Passwords and tokens in addresses are refused before anything is written, and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_mtrl.core.addresses import public, require_no_credentials
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.report import read_mlflow
from lit_mtrl.tracking.mlflow import MLflowLogger

TELLING = {
    "http://me:hunter2@host:5000": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "https://hunter2@host": "MLFLOW_TRACKING_TOKEN",
    "https://host/path?access_token=hunter2": "MLFLOW_TRACKING_TOKEN",
    "https://host/#api-key=a&api_key=hunter2": "MLFLOW_TRACKING_TOKEN",
    "postgresql://me:hunter2@host/db": "PGPASSWORD",
    "postgresql+psycopg://me:p/w?h#hunter2@host/db": "PGPASSWORD",
    "postgresql://me:p@ss@hunter2@host/db": "PGPASSWORD",
    "postgresql://me@host/db?password=hunter2": "~/.pgpass",
    "postgresql:///db?sslmode=require&sslpassword=hunter2": "~/.pgpass",
    "mysql+pymysql://me:hunter2@host/db": "?read_default_file=PATH",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dme%3BPWD%3Dhunter2": "an MLflow server",
}
HARMLESS = (
    "http://host:5000",
    "http://host:5000/team@work",
    "http://[::1]:5000",
    "postgresql+psycopg://mlflow@postgres:5432/mlflow",
    "postgresql://me@host/db?sslkey=/home/me/key&passfile=/home/me/.pgpass",
    "mysql://me@host/db?read_default_file=/home/me/.my.cnf",
    "sqlite:////home/me:you@work/mlflow.db",
    "sqlite:///password=x/mlflow.db",
    "mlflow.db",
    "",
)


@pytest.mark.parametrize("uri", TELLING)
def test_refused_without_being_shown(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        MLflowLogger(uri, "mt10", "run", {}, {}, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"logger.tracking_uri={uri.partition('://')[0]}://***: holds a password or token")
    assert TELLING[uri] in message and "hunter2" not in message and "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", HARMLESS)
def test_accepted(uri: str) -> None:
    require_no_credentials("logger.tracking_uri", uri)


@pytest.mark.parametrize("uri", [uri for uri in TELLING if "odbc" not in uri])
def test_hidden_in_messages(uri: str) -> None:
    text = f"OSError: cannot reach {uri} (see http://host:5000/help or mail a@b)"
    assert "hunter2" not in public(text) and public(text).endswith("(see http://host:5000/help or mail a@b)")


@pytest.mark.parametrize("uri", HARMLESS[:3])
def test_shown_as_it_is(uri: str) -> None:
    assert public(f"at {uri}: no answer") == f"at {uri}: no answer"


def test_pages_of_a_report_have_no_password_in_their_links(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--ui=http://\*\*\*: holds a password"):
        read_mlflow(f"sqlite:///{tmp_path}/mlflow.db", ["mt10"], "http://me:secret@host")


def test_nothing_is_written_anywhere(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "logger=mlflow", "logger.tracking_uri=http://me:hunter2@127.0.0.1:9")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_is_written_by_a_sweep(cli, tmp_path: Path) -> None:
    sweep = ("--multirun", "seed=0,1", "logger=mlflow", "logger.tracking_uri=postgresql://me:hunter2@127.0.0.1/x")
    done = cli("fit", "--config", "debug", *sweep)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "PGPASSWORD" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and not list(tmp_path.iterdir())
