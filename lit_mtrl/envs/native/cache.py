"""Compiling with numba, and where the result is kept on disk.

Numba notices that a function's own file has changed, but not one that it calls from another file. So what is kept lies
in a folder named for all of the sources here: a new version compiles anew, and never runs what an old one left.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import cfunc, njit
from numba.core import config as numba_config

log = logging.getLogger("lit_mtrl")


@functools.cache
def folder() -> str | None:
    """``$NUMBA_CACHE_DIR``, else ``lit_mtrl`` in the user's cache folder, and in it a folder for these sources; None,
    after one warning, if it cannot be written.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(home, "lit_mtrl"))
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    path = base / f"native-{hashlib.sha256(sources).hexdigest()[:16]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return str(path)
    except OSError as error:
        what = f"compiled Meta-World steps cannot be kept in {path} ({error.strerror})"
        log.warning("%s: every process compiles them anew; set NUMBA_CACHE_DIR to a folder that can be written", what)
        return None


@contextlib.contextmanager
def _kept() -> Iterator[bool]:
    """Numba's setting while a function is declared, which is when it looks where to keep it."""
    config: Any = numba_config
    path, before = folder(), config.CACHE_DIR
    config.CACHE_DIR = path or before
    try:
        yield path is not None
    finally:
        config.CACHE_DIR = before


def compiled(function: Callable) -> Any:
    """For compiled code; runs without the GIL, and division by zero is infinite, as NumPy's."""
    with _kept() as cache:
        return njit(cache=cache, nogil=True, error_model="numpy")(function)


def pointed(signature: Any) -> Callable[[Callable], Any]:
    """A function that compiled code calls by its ``address``; compiled at once."""

    def declare(function: Callable) -> Any:
        with _kept() as cache:
            return cfunc(signature, cache=cache, error_model="numpy")(function)

    return declare
