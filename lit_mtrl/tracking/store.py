"""What MLflow stores need and MLflow lacks: errors within seconds, safe creation by parallel jobs, paths with any
character.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lit_mtrl.core.addresses import SQLITE, public
from lit_mtrl.core.errors import require
from lit_mtrl.core.processes import denied

ARTIFACTS = "mlartifacts"
"""Folder beside an SQLite database for the files of runs."""
ANSWER = 8
"""Seconds that a server has to answer when a run or a report starts."""
PATIENCE = 30
"""Seconds that a server has to answer later, after a large file for example."""


def import_mlflow() -> Any:
    """The package, imported late since that takes seconds, without its progress notes and reports of usage."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow itself would try for four minutes to reach a server; we know better when to try again.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    import mlflow

    # The last one prints a traceback for every error that it also raises, such as a database locked for a while.
    for name, level in ("mlflow", "WARNING"), ("alembic", "WARNING"), ("mlflow.store.db.utils", "CRITICAL"):
        logging.getLogger(name).setLevel(level)
    return mlflow


def checked_uri(uri: str) -> str:
    """The address, absolute if it names an SQLite file; `ConfigError` if MLflow has no such store.

    What follows ``sqlite:///`` is a path as it is: no percent codes, no options.
    """
    scheme, separator, _ = uri.partition("://")
    require(bool(separator) and scheme != "file", unusable(uri, "MLflow no longer keeps runs in plain folders"))
    if not scheme.startswith("sqlite"):
        return uri
    path = uri.removeprefix(SQLITE)
    require(path not in ("", uri, ":memory:"), unusable(uri, "not the path of an SQLite file"))
    options = re.search(r"\?\w+=", Path(path).name)
    require(options is None, unusable(uri, "has options after the path, which an SQLite store does not take"))
    return f"{SQLITE}{Path(path).absolute()}"


def database_of(uri: str) -> Path | None:
    """The file of a checked address, None if it names no SQLite file."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def client_uri(uri: str) -> str:
    """A checked address as MLflow must be given it; `ConfigError` if the path cannot be written so.

    SQLAlchemy cuts a path at ``?`` and, from version 2.1 on, reads percent codes in it. With the driver's name in the
    address MLflow does not try to make the folder of the path as it is written.
    """
    database = database_of(uri)
    if database is None or not set("%?") & set(str(database)):
        return uri
    from sqlalchemy import make_url

    ways = (f"sqlite+pysqlite:///{path}" for path in (quote(str(database)), database))
    found = next((way for way in ways if make_url(way).database == str(database)), None)
    require(found is not None, unusable(uri, "SQLAlchemy before version 2.1 cannot name a path with ? in it"))
    return str(found)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold ``<database>.lock``; `ConfigError` if it, the database, their folder or that of the runs' files cannot be
    written.
    """
    reason = store_denied(database)
    require(reason is None, unusable(f"{SQLITE}{database}", str(reason)))
    database.parent.mkdir(parents=True, exist_ok=True)
    with _lock(database).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def store_denied(database: Path) -> str | None:
    """Why runs cannot be written to the database, or their files beside it, with the remedy; None if they can.

    MLflow would try for a minute and a half to write to the one, and lose the others one by one.
    """
    if database.is_dir():
        return f"{database} is a folder"
    places = (database.parent, database, _lock(database), database.parent / ARTIFACTS)
    return next(filter(None, map(denied, places)), None)


def create_sqlite(database: Path) -> None:
    """Make a database with MLflow's tables, under another name until it is whole: MLflow cannot repair half of one."""
    new = database.with_name(database.name + ".new")
    for path in (new, new.with_name(new.name + "-journal")):
        path.unlink(missing_ok=True)
    import_mlflow().MlflowClient(client_uri(f"{SQLITE}{new}")).search_experiments(max_results=1)
    new.replace(database)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables set for a while."""
    old = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in old.items():
            os.environ.pop(key)
            os.environ.update({} if value is None else {key: value})


def answering() -> contextlib.AbstractContextManager[None]:
    """For the first calls: a server answers within `ANSWER` seconds, or fails."""
    return environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=str(ANSWER))


def unusable(uri: str, reason: str) -> str:
    """The message of a `ConfigError` about the address, with the remedy."""
    remedy = f"use {SQLITE}PATH with a PATH that can be written, or the http:// address of a running MLflow server"
    return f"logger.tracking_uri={public(uri)}: {reason}; {remedy}"


def _lock(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def first_line(error: Exception) -> str:
    """Kind and first line of an error."""
    return public(f"{type(error).__name__}: {error}".splitlines()[0][:400])
