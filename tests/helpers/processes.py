"""The command line in processes of its own: for signals, exit codes, locks, streams, and runs that are killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.project import ROOT


def environment() -> dict[str, str]:
    """Of a subprocess that imports this checkout, on one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def lit_mtrl(folder: Path, *args: str, **options: Any) -> subprocess.CompletedProcess:
    """``python -m lit_mtrl`` in ``folder``, to its end."""
    settings = dict(cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    return subprocess.run([sys.executable, "-m", "lit_mtrl", *args], **{**settings, **options})


def fit(folder: Path, *args: str) -> subprocess.CompletedProcess:
    return lit_mtrl(folder, "fit", *args)


def start(folder: Path, *args: str, **options: Any) -> subprocess.Popen:
    """``python -m lit_mtrl``, begun in a process group of its own, like one that a terminal runs in front."""
    settings = dict(cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)
    return subprocess.Popen([sys.executable, "-m", "lit_mtrl", *args], **{**settings, **options})


def any_left(group: int) -> bool:
    """Whether a process of the group lives."""
    stats = [stat for path in Path("/proc").glob("[0-9]*/stat") if (stat := _text(path))]
    fields = [stat.rpartition(")")[2].split() for stat in stats]  # state, parent, process group, ...
    return any(int(f[2]) == group and f[0] != "Z" for f in fields)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def wait_for(condition: Callable[[], object], seconds: float, every: float = 0.02) -> bool:
    """Whether ``condition`` came true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
