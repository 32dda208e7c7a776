"""What a run has for MLflow, in a file of its folder: it is kept there until the store has taken it, whatever becomes
of the process.

``mlflow.queue`` is only ever appended to. Each line has a checksum and a JSON mapping:

- ``run``: the MLflow run that the lines belong to; the first line, and again whenever a process continues it.
- ``step``, ``time`` (ms), ``metrics``: points.
- ``file``, ``into``: a file to be uploaded into a folder of the run's artifacts; paths inside the run's folder are
  relative to it.
- ``end``, ``time``, ``of``: run ``of`` becomes FINISHED, FAILED or KILLED; void once its own run has been continued.
- ``sent``, ``files``: the store has all lines before byte ``sent``, but for ``files``.

A process that is killed after a store has taken something and before that is written down sends it again, and nothing
is doubled: stores keep a point with the same metric, step, value and time once. Points beyond the last checkpoint are
there, too, when training comes by again.
"""

from __future__ import annotations

import csv
import json
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUEUE = "mlflow.queue"
LINES = 200
"""Lines that are read, sent and acknowledged together."""
FINISHED, KILLED, FAILED = "FINISHED", "KILLED", "FAILED"

Points = dict[int, frozenset[str]]
"""Step to names of metrics."""


@dataclass
class State:
    """What a queue holds: its run, points, and what is to be sent."""

    run: str = ""
    opened: int = 0
    """Byte at which the run was started or continued last; ends before it are void."""
    sent: int = 0
    files: list[tuple[str, str | None]] = field(default_factory=list)
    """Those before ``sent`` that are still to be sent."""
    points: Points = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    """How runs ended that were replaced, as long as the store has not been told."""
    ended: str = ""
    """How the run ended, empty while it goes on."""
    waiting: int = 0
    """Points, files and ends that are still to be sent."""

    @property
    def complete(self) -> bool:
        return self.ended == FINISHED and not self.waiting


class Queue:
    """The file at ``path``; appending is safe from several threads."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._descriptor = -1

    def load(self, repair: bool = False) -> State | None:
        """What the file holds, None if there is none or it is damaged. A last line that was cut short by a kill does
        not count; ``repair`` removes it.
        """
        state, left, at = State(), [], 0
        seen: dict[frozenset[str], frozenset[str]] = {}
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    entry = _decoded(line)
                    if entry is None or (at == 0 and "run" not in entry):
                        return None
                    left.append((at, entry))
                    if "metrics" in entry:
                        names = state.points.get(entry["step"], frozenset()) | frozenset(entry["metrics"])
                        state.points[entry["step"]] = seen.setdefault(names, names)
                    elif _tell(state, at, entry):
                        left = [each for each in left if each[0] >= state.sent]
                    at += len(line)
            if repair and at < self.size():
                os.truncate(self.path, at)
        except OSError:
            return None
        if not state.run:
            return None
        state.others = {entry["of"]: entry["end"] for _, entry in left if entry.get("of", state.run) != state.run}
        state.waiting = waiting(left, state.opened, state.run) + len(state.files)
        return state

    def start(self, run: str) -> None:
        """Make the file anew, for ``run``."""
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_bytes(_encoded({"run": run}))
        temporary.replace(self.path)

    def append(self, *entries: dict[str, Any]) -> int:
        """Add lines; returns the byte at which they begin."""
        data = b"".join(map(_encoded, entries))
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            at = os.lseek(self._descriptor, 0, os.SEEK_END)
            while data:
                data = data[os.write(self._descriptor, data) :]
        return at

    def read(self, at: int) -> tuple[list[tuple[int, dict[str, Any]]], int]:
        """Up to `LINES` whole lines from byte ``at`` on, each with its own byte; and the byte behind them."""
        found = []
        with self.path.open("rb") as file:
            file.seek(at)
            for _ in range(LINES):
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                if (entry := _decoded(line)) is not None:
                    found.append((at, entry))
                at += len(line)
        return found, at

    def left_behind(self) -> dict[str, str]:
        """How the runs have ended of which a queue tells that will be made anew; empty where the store knows."""
        state = self.load()
        if state is None:
            first = run_of(self.path.parent)
            return {first: KILLED} if first else {}
        told = state.ended and not state.waiting
        return {state.run: "" if told else state.ended or KILLED, **state.others}

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def remove(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; `append` opens it again."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1


def unsent(folder: Path) -> bool:
    """Whether a run in ``folder`` has, or may have, something for MLflow that it has not taken, its end included."""
    path = folder / QUEUE
    if not path.exists():
        return False
    state = Queue(path).load()
    return state is None or not state.complete


def run_of(folder: Path) -> str | None:
    """The MLflow run of the queue in ``folder``, if its first line can be read."""
    try:
        with (folder / QUEUE).open("rb") as file:
            return (_decoded(file.readline()) or {}).get("run")
    except OSError:
        return None


def logged(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Frames and metrics of the whole rows of a ``metrics.csv``; nothing if there is no such file."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                yield int(row.pop("frames")), {key: float(value) for key, value in row.items() if value}
            except (KeyError, TypeError, ValueError):  # the last row, cut short by a kill
                continue


def _tell(state: State, at: int, entry: dict[str, Any]) -> bool:
    """Take what an entry without points says into the state; whether lines before some byte no longer matter."""
    if "run" in entry:
        state.run, state.opened, state.ended = entry["run"], at, ""
    elif entry.get("of") == state.run:
        state.ended = entry["end"]
    elif "sent" in entry:
        state.sent, state.files = entry["sent"], [(file, into) for file, into in entry["files"]]
        return True
    return False


def waiting(entries: list[tuple[int, dict[str, Any]]], opened: int, run: str) -> int:
    """How many points, files and ends the lines ask to be sent."""
    files = {(entry["file"], entry["into"]) for _, entry in entries if "file" in entry}
    points = sum(len(entry.get("metrics", ())) for _, entry in entries)
    return len(files) + points + sum("end" in entry and not void(at, entry, opened, run) for at, entry in entries)


def void(at: int, entry: dict[str, Any], opened: int, run: str) -> bool:
    """Whether the end in ``entry``, at byte ``at``, is that of a run that has been continued since."""
    return entry["of"] == run and at < opened


def _encoded(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decoded(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        entry = json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _is_entry(entry) else None


def _is_entry(entry: dict[str, Any]) -> bool:
    """Whether a mapping is one that `Queue` describes: the checksum tells of damage, and not of who has written it."""
    match entry:
        case {"run": str(run)}:
            return bool(run)
        case {"step": int(), "time": int(), "metrics": dict(metrics)}:
            return all(isinstance(value, int | float) for value in metrics.values())
        case {"end": end, "time": int(), "of": str()}:
            return end in (FINISHED, KILLED, FAILED)
        case {"sent": int(sent), "files": list(files)}:
            return sent >= 0 and all(isinstance(each, list) and len(each) == 2 and _is_file(*each) for each in files)
        case _:
            return "file" in entry and _is_file(entry["file"], entry.get("into"))


def _is_file(file: Any, into: Any) -> bool:
    return isinstance(file, str) and isinstance(into, str | None)
