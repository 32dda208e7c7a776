"""Sends what is in a run's queue to MLflow, beside training, which waits for nothing."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from lit_mtrl.tracking.queue import Queue, State, void, waiting
from lit_mtrl.tracking.store import first_line

log = logging.getLogger(__name__)

METRICS = 1000
"""MLflow's limit of metrics in a request."""
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a store that has failed is tried again; the last one for as long as it fails."""
HURRY = 1.0
"""The longest of them once the run has ended."""
QUIET = 3
"""Failures in a row before a line says so: a database that is locked for a moment is none."""


class Sender:
    """One thread that sends the lines of ``queue`` in order, acknowledged ones left out, and tries for ever if the
    store fails.

    ``client``: MLflow's. ``folder``: what paths in the queue are relative to. ``state``: what the queue held when it
    was opened. A file that cannot be uploaded while the store answers otherwise holds nothing up; it is tried again.
    """

    def __init__(self, client: Any, queue: Queue, folder: Path, state: State):
        self._client, self._queue, self._folder = client, queue, folder
        self._run, self._opened, self._sent = state.run, state.opened, state.sent
        self._files: dict[tuple[str, str | None], None] = dict.fromkeys(f for f in state.files if self._inside(f[0]))
        self._refused: set[tuple[str, str | None]] = set()
        self._failures = self._calls = 0
        self._more, self._closing, self._stopped = threading.Event(), threading.Event(), threading.Event()
        # Daemonic: a store that hangs must not keep a finished process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something has been appended to the queue."""
        self._more.set()

    def close(self, seconds: float, while_moving: bool = False) -> int:
        """Send the rest; returns how much of it is still to be sent after ``seconds``, or as long without progress if
        ``while_moving``.
        """
        self._closing.set()
        self._more.set()
        calls, deadline = self._calls, time.monotonic() + seconds
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._thread.join(min(left, 0.2))
            if while_moving and self._calls > calls:
                calls, deadline = self._calls, time.monotonic() + seconds
        all_sent = not self._thread.is_alive()
        self._stopped.set()
        return 0 if all_sent else self._waiting()

    def _waiting(self) -> int:
        count, at = len(self._files), self._sent
        try:
            while (found := self._queue.read(at))[0]:
                count, at = count + waiting(found[0], self._opened, self._run), found[1]
        except OSError:  # it has been removed, or its disk
            return max(count, 1)
        return count

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._more.clear()
            closing = self._closing.is_set()  # before the queue is read: what comes meanwhile is read next time
            try:
                moved = self._round()
            except Exception as error:  # whatever it is, training must go on
                self._failed(error)
                continue
            if self._failures >= QUIET:
                log.info("MLflow: the store answers again")
            self._failures = 0
            if moved:
                continue
            if self._files:
                self._rest(len(PAUSES))
            elif closing:
                return
            else:
                self._more.wait()

    def _round(self) -> bool:
        """Send the next lines and acknowledge them; whether there were any."""
        entries, behind = self._queue.read(self._sent)
        points = [point for _, entry in entries if "metrics" in entry for point in _points(entry)]
        for start in range(0, len(points), METRICS):
            self._client.log_batch(self._run, metrics=points[start : start + METRICS])
            self._calls += 1
        before = list(self._files)
        for at, entry in entries:
            # What an earlier process has queued may be somebody else's: nothing from elsewhere than the folder.
            if "file" in entry and (at >= self._opened or self._inside(entry["file"])):
                self._files[entry["file"], entry["into"]] = None
        for file, into in list(self._files):
            if self._uploaded(file, into):
                del self._files[file, into]
        for at, entry in entries:
            if "end" in entry and not void(at, entry, self._opened, self._run):
                self._end(entry)
        if list(self._files) != before or any("sent" not in entry for _, entry in entries):
            self._queue.append({"sent": behind, "files": list(self._files)})
        self._sent = behind
        return bool(entries)

    def _inside(self, file: str) -> bool:
        """Whether it lies in the run's folder, of which ``checkpoints`` may be a link."""
        path = (self._folder / file).resolve()
        inside = any(path.is_relative_to((self._folder / part).resolve()) for part in (".", "checkpoints"))
        if not inside:
            log.warning("MLflow: %s is not in the run's folder, and is not sent", path)
        return inside

    def _uploaded(self, file: str, into: str | None) -> bool:
        path = self._folder / file
        if not path.exists():
            log.warning("MLflow: %s has not been sent: it is no longer there", path)
            return True
        try:
            self._client.log_artifact(self._run, str(path), into)
            self._calls += 1
        except Exception as error:  # of the system, or of a store of files, which need not be the one of runs
            self._client.get_run(self._run)  # raises where the whole store fails
            if (file, into) not in self._refused:
                log.warning("MLflow: %s cannot be uploaded, and is tried again: %s", path, first_line(error))
            self._refused.add((file, into))
            return False
        return True

    def _end(self, entry: dict[str, Any]) -> None:
        try:
            self._client.set_terminated(entry["of"], entry["end"], end_time=entry["time"])
        except Exception as error:  # a run that was replaced may have been removed
            if entry["of"] == self._run or getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
                raise

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == QUIET:
            message = "MLflow: the store fails; training goes on, and what it lacks waits in %s: %s"
            log.warning(message, self._queue.path, first_line(error))
        self._rest(self._failures)

    def _rest(self, failures: int) -> None:
        """Pause, no longer than until the run ends or, if it has ended, until nobody waits any more."""
        pause = PAUSES[min(failures, len(PAUSES)) - 1]
        if self._closing.is_set():
            self._stopped.wait(min(pause, HURRY))
        else:
            self._closing.wait(pause)


def _points(entry: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(key, value, entry["time"], entry["step"]) for key, value in entry["metrics"].items()]
