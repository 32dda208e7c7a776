"""What MLflow stores need and MLflow lacks: errors within seconds, safe creation by parallel jobs, sending aside."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lit_mtrl.processes import denied
from lit_mtrl.spec import require

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
ARTIFACTS = "mlartifacts"
"""Folder beside an SQLite database for the files of runs."""


class Sender:
    """One thread that makes calls in the order given, so that the caller does not wait for a store.

    A call that fails is repeated after each of ``pauses``, but tried only once while the one before it was lost too.
    ``patience``: seconds that `put` waits for a place in the queue of ``size`` calls before the call is lost.
    """

    size, patience, pauses = 1000, 60.0, (1.0, 5.0, 15.0)

    def __init__(self):
        self._given = self._sent = 0
        self._failing = self._warned = False
        self._queue: queue.Queue[tuple[Callable[[], object], int] | None] = queue.Queue(self.size)
        # Daemonic: a store that hangs must not keep a finished process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], object], count: int) -> None:
        """Queue a call that carries ``count`` things; a full queue blocks, unless the store is failing."""
        self._given += count
        try:
            self._queue.put((call, count), timeout=0 if self._failing else self.patience)
        except queue.Full:
            self._warn("the store is too slow")

    def close(self, end: Callable[[], object], seconds: float) -> int:
        """Make the queued calls and ``end``, within ``seconds``; returns how many things are lost, with ``end``."""
        self._given += 1
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._queue.put((end, 1), timeout=seconds)
            self._queue.put(None, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._given - self._sent

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            call, count = item
            self._failing = not self._try(call)
            self._sent += 0 if self._failing else count

    def _try(self, call: Callable[[], object]) -> bool:
        for pause in (0.0,) if self._failing else (0.0, *self.pauses):
            time.sleep(pause)
            try:
                call()
                return True
            except Exception as error:  # whatever it is, training must go on
                reason = first_line(error)
        self._warn(reason)
        return False

    def _warn(self, reason: str) -> None:
        if not self._warned:
            log.warning("MLflow: points or files are being lost, metrics.csv has all metrics: %s", reason)
        self._warned = True


def import_mlflow() -> Any:
    """The package, imported late since that takes seconds, without its progress notes and reports of usage."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    # The last one prints a traceback for every error that it also raises, such as a database locked for a while.
    for name, level in ("mlflow", "WARNING"), ("alembic", "WARNING"), ("mlflow.store.db.utils", "CRITICAL"):
        logging.getLogger(name).setLevel(level)
    return mlflow


def checked_uri(uri: str) -> str:
    """The address, absolute if it names an SQLite file; `ConfigError` if MLflow has no such store."""
    scheme, separator, _ = uri.partition("://")
    require(bool(separator) and scheme != "file", unusable(uri, "MLflow no longer keeps runs in plain folders"))
    if not scheme.startswith("sqlite"):
        return uri
    path = uri.removeprefix(SQLITE)
    require(path not in ("", uri, ":memory:"), unusable(uri, "not the path of an SQLite file"))
    return SQLITE + str(Path(path).absolute())


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold ``<database>.lock``; `ConfigError` if it, the database, their folder or that of the runs' files cannot be written."""
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
    import_mlflow().MlflowClient(f"{SQLITE}{new}").search_experiments(max_results=1)
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


def unusable(uri: str, reason: str) -> str:
    """The message of a `ConfigError` about the address, with the remedy."""
    remedy = f"use {SQLITE}PATH with a PATH that can be written, or the http:// address of a running MLflow server"
    return f"logger.tracking_uri={public(uri)}: {reason}; {remedy}"


def _lock(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def public(text: str) -> str:
    """The text without the passwords in its addresses."""
    return re.sub(r"//[^/@]*@", "//***@", text)


def first_line(error: Exception) -> str:
    """Kind and first line of an error."""
    return public(f"{type(error).__name__}: {error}".splitlines()[0][:400])
