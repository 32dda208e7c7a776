"""MLflow's own web pages on a local store, in this process: nothing is left behind when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import sys
import warnings
from pathlib import Path
from typing import Any

from lit_mtrl.core.addresses import SQLITE, public
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.tracking.store import ARTIFACTS, client_uri, database_of, environment, first_line, import_mlflow

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
START = """<!doctype html><title>MLflow</title><script>
function choose(key, value) { if (localStorage.getItem(key) === null) localStorage.setItem(key, value); }
choose("mlflow.workflowType_v1", '"machine_learning"');
choose("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
choose("mlflow.assistant.panelOpen_v1", "false");
location.replace("./#/experiments");
</script>"""
"""MLflow opens with pages on language models and a chat; a browser that has not chosen otherwise gets those on training
runs.
"""


def serve(uri: str | None, port: int = 5000, host: str = "127.0.0.1") -> int:
    """Serve the store until Ctrl-C or SIGTERM, then return 0; prints the address as soon as it answers.

    ``uri``: ``sqlite:///PATH`` or another database MLflow knows; None is ``mlflow.db`` in the working directory, as for
    `fit`. ``port``: 0 takes a free one. Raises `ConfigError` if there is no such store or the port cannot be had.
    """
    require(0 <= port <= 65535, f"--port {port}: 0 to 65535")
    uri = _checked(uri or f"{SQLITE}mlflow.db")
    database = database_of(uri)
    folder = database.parent if database else Path.cwd()
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _listening(host, port) as listener, environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
            _read(uri)
            _run(uri, folder / ARTIFACTS, listener)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, old)
    return 0


def _run(uri: str, artifacts: Path, listener: socket.socket) -> None:
    import uvicorn  # before mlflow.server, which then checks the Host header of requests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Starlette's, about a class that MLflow still uses
        from mlflow.server import (
            ARTIFACT_ROOT_ENV_VAR,
            ARTIFACTS_DESTINATION_ENV_VAR,
            BACKEND_STORE_URI_ENV_VAR,
            SERVE_ARTIFACTS_ENV_VAR,
        )
        from mlflow.server.fastapi_app import app
    settings = {
        BACKEND_STORE_URI_ENV_VAR: client_uri(uri),
        ARTIFACT_ROOT_ENV_VAR: artifacts.as_uri(),
        # Experiments made through a server keep their files there.
        ARTIFACTS_DESTINATION_ENV_VAR: artifacts.as_uri(),
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    def start(request: Any) -> HTMLResponse:
        return HTMLResponse(START)

    app.router.routes.insert(0, Route("/start", start))
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=2)
    host, port = listener.getsockname()[:2]
    with environment(**settings):
        listener.listen()
        sys.stdout.write(f"MLflow: http://{host}:{port}/start shows {public(uri)}; Ctrl-C ends it\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listener])


def _checked(uri: str) -> str:
    """The address, absolute if it names an SQLite file, which then is MLflow's."""
    where = f"--tracking-uri {public(uri)}"
    scheme = uri.partition("://")[0].partition("+")[0]
    require(scheme not in ("http", "https"), f"{where}: that is already a server: open it in a browser")
    known = "://" in uri and scheme in DATABASES and not uri.startswith("sqlite+")
    require(known, f"{where}: not a database; give {SQLITE}PATH, as in logger.tracking_uri of the runs")
    if scheme != "sqlite":
        return uri
    path = uri.removeprefix(SQLITE)
    require(path not in ("", uri, ":memory:"), f"{where}: names no SQLite file; give {SQLITE}PATH")
    database = Path(path).absolute()
    where = f"--tracking-uri {SQLITE}{database}"
    require(
        database.is_file(), f"{where}: no such file; run fit first, in this folder, or give the store of other runs"
    )
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'").fetchone()
    except sqlite3.Error as error:
        raise ConfigError(f"{where}: cannot be read ({error}); give the database that fit wrote") from error
    require(found is not None, f"{where}: holds no runs of MLflow; give the database that fit wrote")
    return f"{SQLITE}{database}"


def _listening(host: str, port: int) -> socket.socket:
    """A socket that holds the port; it does not answer yet."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server just ended left does not matter
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigError(f"--port {port}: not to be had on {host} ({reason}); give another --port") from error
    return listener


def _read(uri: str) -> None:
    """`ConfigError` if MLflow cannot read the store, such as one of another version."""
    try:
        import_mlflow().MlflowClient(client_uri(uri)).search_experiments(max_results=1)
    except Exception as error:  # SQLAlchemy's and drivers' errors come through MLflow unchanged
        raise ConfigError(f"--tracking-uri {public(uri)}: {first_line(error)}") from error
