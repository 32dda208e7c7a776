"""Small things about processes."""

from __future__ import annotations

import ctypes
import fcntl
import signal
import sys
from pathlib import Path
from typing import TextIO


def die_with_parent(gently: bool = False) -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed run leaves no workers behind; ``gently`` with SIGTERM."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM if gently else signal.SIGKILL)


def hold(path: Path) -> TextIO:
    """Lock the file at ``path``, making it if needed, until the result is closed or this process ends; `BlockingIOError` if another has it."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def held(path: Path) -> bool:
    """Whether a process holds the lock of ``path``."""
    if not path.exists():
        return False
    try:
        hold(path).close()
    except BlockingIOError:
        return True
    return False
