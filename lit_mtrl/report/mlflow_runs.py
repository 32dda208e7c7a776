"""Recorded runs, read from an MLflow store: every run's artifacts are the files of its folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from lit_mtrl.core.addresses import public, require_no_credentials
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.text import one_line
from lit_mtrl.report.runs import FILES, FINISHED, Recorded, labels_of, read_folder
from lit_mtrl.tracking.store import answering, checked_uri, client_uri, database_of, first_line, import_mlflow

PAGE = 200
UI = "http://127.0.0.1:5000"
PARENT = "sweep_parent"


def read_mlflow(uri: str, experiments: Sequence[str], ui: str = UI) -> list[Recorded]:
    """The runs of ``experiments``, oldest first, without the parents of sweeps; links go to ``ui``.

    Raises `ConfigError`, within seconds, for a store that cannot be read and an experiment that it lacks. Creates no
    store.
    """
    require_no_credentials("--ui", ui)  # the report's page would have it in every link
    uri = checked_uri(uri)
    path = database_of(uri)
    missing = path is not None and not (path.is_file() and path.stat().st_size)
    require(not missing, unreadable(uri, "no such file"))
    with answering(), _one_line(uri):
        return _read(_client(uri), experiments, ui.rstrip("/"))


def unreadable(uri: str, reason: str) -> str:
    """The message of a `ConfigError` about the address, with the remedy."""
    remedy = "give the store that fit has written to, such as sqlite:///mlflow.db, or folders of runs"
    return f"--tracking-uri {public(uri)}: {reason}; {remedy}"


@contextmanager
def _one_line(uri: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # SQLAlchemy's, requests' and the system's errors come through MLflow unchanged
        raise ConfigError(unreadable(uri, first_line(error))) from error


def _client(uri: str) -> Any:
    return import_mlflow().MlflowClient(client_uri(checked_uri(uri)))


def _read(client: Any, names: Sequence[str], ui: str) -> list[Recorded]:
    found = {name: client.get_experiment_by_name(name) for name in names}
    known = [name for name, experiment in found.items() if experiment is not None]
    if len(known) < len(found):
        name = next(name for name in names if name not in known)
        raise ConfigError(unknown("--experiment", name, [each.name for each in client.search_experiments()]))
    runs, token = [], None
    ids = [experiment.experiment_id for experiment in found.values()]
    while token is None or token:
        options = dict(order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token)
        page = client.search_runs(ids, **options)
        runs += [_recorded(client, run, ui) for run in page if not run.data.tags.get(PARENT)]
        token = page.token or ""
    return runs


def _recorded(client: Any, run: Any, ui: str) -> Recorded:
    address = urlparse(run.info.artifact_uri)
    if address.scheme in ("", "file"):
        recorded = _read_files(Path(unquote(address.path)), run)
    else:
        with tempfile.TemporaryDirectory() as folder:
            for entry in client.list_artifacts(run.info.run_id):
                if entry.path in FILES:
                    client.download_artifacts(run.info.run_id, entry.path, folder)
            recorded = _read_files(Path(folder), run)
    recorded.status = run.info.status.lower()
    if recorded.last >= recorded.budget > 0:  # also if it was killed while it sent its last files
        recorded.status = FINISHED
    recorded.source = f"MLflow run {run.info.run_id}"
    recorded.name = one_line(run.info.run_name or recorded.name)
    recorded.time = run.info.start_time / 1000
    recorded.link = f"{ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return recorded


def _read_files(folder: Path, run: Any) -> Recorded:
    """The run of its artifacts; without any evaluation if it had not come so far as to send its configuration."""
    if (folder / "config.yaml").exists():
        return read_folder(folder)
    none, tags = np.empty((0, 0)), {one_line(key): one_line(value) for key, value in run.data.tags.items()}
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    labels = labels_of({}, {"tags": own}, (), folder) | {"seed": tags.get("seed", "")}
    return Recorded("", "", "", labels, {}, np.empty(0, np.int64), (), none, none)


def find_sweeps(uri: str, experiments: Sequence[str]) -> list[str]:
    """Ids of the sweeps' own runs in ``experiments``, which exist; `ConfigError` if the store fails."""
    with _one_line(uri):
        client = _client(uri)
        ids = [client.get_experiment_by_name(name).experiment_id for name in experiments]
        return [run.info.run_id for run in client.search_runs(ids, f"tags.{PARENT} != ''")]


def log_report(uri: str, runs: Sequence[str], folder: Path) -> None:
    """Put what `write_report` made into the runs, as artifact ``report``; `ConfigError` if the store fails."""
    with _one_line(uri):
        for run_id in runs:
            client = _client(uri)
            for path in ("index.html", "figures", "tables"):
                upload = client.log_artifacts if (folder / path).is_dir() else client.log_artifact
                upload(run_id, str(folder / path), f"report/{path}" if (folder / path).is_dir() else "report")
