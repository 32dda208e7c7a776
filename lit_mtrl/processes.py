"""Small things about processes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import TextIO


def die_with_parent(gently: bool = False) -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed run leaves no workers behind; ``gently`` with SIGTERM."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM if gently else signal.SIGKILL)


def spin_briefly() -> None:
    """Let GNU's OpenMP threads wait for each other asleep after a short while, unless the user said how; call it before PyTorch is imported.

    By default they spin for milliseconds on a core that something else could use. On two cores, 8 % less for an update of MT10 at width 400
    alone, a third to a half less beside another busy process.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_freed_memory() -> None:
    """Ask glibc to reuse what is freed instead of returning it to the kernel, which would map and clear it again for every large tensor.

    A tenth of the time of a CPU update of MT10 at width 400. Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        # Older versions take no more than 32 MiB. If none is taken, the other setting would do harm: it ends glibc's own adaptation.
        if mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25):
            mallopt(m_trim_threshold, 2**31 - 1)


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
