"""The MLflow logger."""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from lit_mtrl.core.addresses import SQLITE, public, require_no_credentials
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.tracking.queue import QUEUE, Points, Queue
from lit_mtrl.tracking.sender import Sender
from lit_mtrl.tracking.store import (
    ARTIFACTS,
    answering,
    checked_uri,
    client_uri,
    create_sqlite,
    database_of,
    first_line,
    import_mlflow,
    locked,
    unusable,
)
from lit_mtrl.tracking.sync import key_of, opened
from lit_mtrl.tracking.view import experiment_tags

log = logging.getLogger(__name__)

PARAMS, VALUE = 100, 500
"""MLflow's limits: parameters or tags in a request, characters of a value."""
FLUSH, BRIEF = 60.0, 15.0
"""Seconds that `MLflowLogger.finalize` waits for what is queued; after an interrupt or SIGTERM, which are followed by
SIGKILL.
"""
STATUS = {"success": "FINISHED", "finished": "FINISHED", "killed": "KILLED"}


class MLflowLogger(Logger):
    """One MLflow run: parameters and tags at its start, then metrics over frames, and files.

    `connect` opens store, experiment and run; call it before training. Metrics and files are then written to
    ``mlflow.queue`` in ``folder`` (`lit_mtrl.tracking.queue`), and a background thread sends them in order. A store
    that fails during training does not stop it and is tried again; what it has not taken when `finalize` stops waiting
    stays in the queue for the next logger of the same folder and run.

    ``tracking_uri``: ``sqlite:///PATH``, a server's ``http://`` address, or another database MLflow knows; None is
    ``mlflow.db`` in the working directory. The files of an SQLite store lie in ``mlartifacts`` beside it. ``run_id``:
    the run of a checkpoint at ``done`` frames, to be continued; `connect` sets it for a new run. ``unique``: a tag; the
    experiment's latest run with the same value of it is continued, if there is one. ``replaces``: a run that died
    before its first checkpoint; it becomes KILLED.

    MLflow cannot delete points. What a killed run logged beyond its last checkpoint stays, and is not logged again when
    the continued run repeats it; only times differ then.

    Raises `ConfigError` for a ``tracking_uri`` that MLflow does not support, or that holds a password.
    """

    def __init__(
        self,
        tracking_uri: str | None,
        experiment: str,
        run_name: str,
        tags: dict[str, str],
        params: dict[str, Any],
        folder: str | Path,
        run_id: str | None = None,
        unique: str | None = None,
        replaces: str | None = None,
        done: int = 0,
    ):
        super().__init__()
        uri = str(tracking_uri or f"{SQLITE}mlflow.db")
        require_no_credentials("logger.tracking_uri", uri)
        self.tracking_uri = checked_uri(uri)
        self.run_name, self.tags, self.params, self.run_id = run_name, tags, params, run_id
        self.folder, self._experiment, self.unique = Path(folder), experiment, unique
        self.replaces, self.done, self.left = replaces, done, 0
        """``left``: how much `finalize` has left in the queue."""
        self._uri, self._database = client_uri(self.tracking_uri), database_of(self.tracking_uri)
        self._client: Any = None
        self._queue = Queue(self.folder / QUEUE)
        self._sender: Sender | None = None
        self._repeated: Points = {}

    @property
    def name(self) -> str:
        return self._experiment

    @property
    def version(self) -> str:
        return self.run_id or ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `connect` sends the whole configuration, of which Lightning knows only the module's part."""

    def connect(self) -> None:
        """Open store, experiment and run, creating what is missing; send parameters, tags and ``config.yaml``.

        Parallel jobs may do so at once. A run to be continued becomes RUNNING and keeps its parameters and tags.
        Raises `ConfigError`, within seconds and leaving no run behind, if the store cannot be used or lacks the run.
        """
        if self._sender is not None:
            return
        try:
            with locked(self._database) if self._database else contextlib.nullcontext():
                experiment_id = self._open()
            if self.run_id is None and self.unique:
                same = f"tags.{self.unique} = '{self.tags[self.unique]}'"
                self.run_id = next((run.info.run_id for run in self._client.search_runs([experiment_id], same)), None)
            new = self.run_id is None
            run_id = self.run_id = self._new_run(experiment_id) if self.run_id is None else self.run_id
            state = opened(self._client, self._queue, run_id, self.done, new)
            if not new:
                self._client.update_run(run_id, status="RUNNING")
        except ConfigError:
            raise
        except Exception as error:  # SQLAlchemy's, requests' and the system's errors come through MLflow unchanged
            raise ConfigError(unusable(self.tracking_uri, first_line(error))) from error
        log.info("MLflow: run %s of experiment %s in %s", self.run_id, self._experiment, public(self.tracking_uri))
        self._repeated = {step: keys for step, keys in state.points.items() if step > self.done}
        self._sender = Sender(self._client, self._queue, self.folder, state)
        atexit.register(self.finalize, "failed")
        if (self.folder / "config.yaml").exists():
            self.log_artifact(self.folder / "config.yaml")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Queue the metrics as points at ``step`` frames, but for those that a killed process has logged there.

        Characters that MLflow does not allow in a name become ``_``. Before `connect` and after `finalize`: nothing.
        """
        at = int(step or 0)
        points, known = {key_of(key): float(value) for key, value in metrics.items()}, self._repeated.get(at)
        if known:
            points = {key: value for key, value in points.items() if key not in known}
        if points:
            self._put({"step": at, "time": _now(), "metrics": points})

    def log_artifact(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Queue a file for upload into folder ``artifact_path`` of the run, as it is when its turn comes."""
        file, folder = Path(path).absolute(), self.folder.absolute()
        self._put(
            {"file": str(file.relative_to(folder) if file.is_relative_to(folder) else file), "into": artifact_path}
        )

    def finalize(self, status: str, patient: bool = False) -> None:
        """Send what is queued, within `FLUSH` seconds, and end the run; a second call does nothing.

        ``success`` and ``finished`` make it FINISHED, ``killed`` KILLED, all else FAILED; but KILLED while an interrupt
        or SIGTERM is being handled, which Lightning calls ``failed`` too. `connect` opens the run again.
        ``patient``: wait on as long as no `FLUSH` seconds pass without progress.
        """
        if self._sender is None:
            return
        atexit.unregister(self.finalize)
        if status == "failed" and isinstance(sys.exception(), KeyboardInterrupt | SystemExit):
            status = "killed"
        with contextlib.suppress(OSError):  # a full disk, which has ended the run as well
            self._put({"end": STATUS.get(status, "FAILED"), "time": _now(), "of": self.run_id})
        sender, self._sender = self._sender, None
        self.left = sender.close(BRIEF if status == "killed" else FLUSH, while_moving=patient)
        if self.left:
            remedy = "repeat the sweep" if self.unique else f"lit_mtrl fit --resume {self.folder}"
            message = "MLflow: run %s lacks %d points, files or its end, kept in %s; once the store answers: %s"
            log.warning(message, self.run_id, self.left, self._queue.path, remedy)
        else:
            self._queue.close()

    def _put(self, entry: dict[str, Any]) -> None:
        if self._sender is not None:
            self._queue.append(entry)
            self._sender.wake()

    def _open(self) -> str:
        """Make ``self._client``; returns the experiment's id, or an empty text if there is a run to be continued."""
        mlflow, database = import_mlflow(), self._database
        if database and not (database.exists() and database.stat().st_size):
            missing = f"no such file, yet the checkpoint's run {self.run_id} is to be continued"
            require(self.run_id is None, unusable(self.tracking_uri, missing))
            create_sqlite(database)
        self._client = mlflow.MlflowClient(self._uri)
        with answering():
            found = self._client.get_experiment_by_name(self._experiment)
        if self.run_id is not None:
            active = self._client.get_run(self.run_id).info.lifecycle_stage == "active"
            require(active, f"MLflow run {self.run_id}, of the checkpoint, has been deleted: restore it there")
            return ""
        if found is None:
            place = database and (database.parent / ARTIFACTS).as_uri()  # a server knows itself where
            try:
                return self._client.create_experiment(self._experiment, place, experiment_tags())
            except mlflow.MlflowException:  # perhaps another job was faster
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        deleted = f"experiment_name={self._experiment}: deleted in MLflow; restore it there or give another name"
        require(found.lifecycle_stage == "active", deleted)
        return found.experiment_id

    def _new_run(self, experiment_id: str) -> str:
        from mlflow.entities import Param, RunTag

        params = [Param(key_of(key), str(value)[:VALUE]) for key, value in self.params.items()]
        tags = [RunTag(key_of(key), str(value)) for key, value in self.tags.items()]
        ends = ({self.replaces: "KILLED"} if self.replaces else {}) | self._queue.left_behind()
        run_id = self._client.create_run(experiment_id, run_name=self.run_name).info.run_id
        try:
            self._queue.start(run_id)  # at once: a process that is killed from here on has left a run
            self._queue.append(*({"end": end, "time": _now(), "of": run} for run, end in ends.items() if end))
            for chunk in _chunks(params, PARAMS):
                self._client.log_batch(run_id, params=chunk)
            for chunk in _chunks(tags, PARAMS):
                self._client.log_batch(run_id, tags=chunk)
        except BaseException:
            self._queue.remove()
            with contextlib.suppress(Exception):
                self._client.delete_run(run_id)
            raise
        return run_id


def _now() -> int:
    return time.time_ns() // 1_000_000


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
