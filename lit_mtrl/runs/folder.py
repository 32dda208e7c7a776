"""A run's folder: whether a run can be started in it, and whether all in it can be written, by this user and there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from lit_mtrl.core.errors import require
from lit_mtrl.core.manifest import exists
from lit_mtrl.core.processes import denied
from lit_mtrl.core.tables import check

LOCK = "run.lock"
"""Locked while a process trains in the folder."""
WRITTEN = ("config.yaml*", "run.json*", LOCK, "train.log", "mlflow.queue*", "*.csv*", "pictures")
"""Patterns of what a run writes or sends to MLflow; not ``checkpoints``, which may be a link, to another disk."""
ATTEMPTS = 100
"""To read or lock a folder in which other processes make and remove files."""


def require_free(folder: Path) -> None:
    """`ConfigError` if a run cannot be started in ``folder``, which is `lit_mtrl.runs.lock.locked`."""
    require_writable(folder)
    require(
        not exists(folder / "checkpoints"),
        f"output_dir={folder}: already holds a run; continue it with --resume, or choose another run_name or"
        f" output_dir",
    )
    require_files(folder)
    for table in folder.glob("*.csv"):
        check(table, None)


def require_writable(folder: Path) -> None:
    """`ConfigError` if ``folder``, or what a run left in it and in its ``checkpoints``, cannot be written by this
    user, or would be written elsewhere.
    """
    reason = None
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            require_plain(folder)
            reason = denied(folder)
            inside = chain(folder.glob("*"), folder.glob("checkpoints/*")) if reason is None else ()
            reason = reason or next(filter(None, map(denied, inside)), None)
            break
    require(reason is None, f"output_dir={folder}: {reason}, or choose another output_dir")


def require_plain(folder: Path) -> None:
    """`ConfigError` for a link, by which a run would write or send what lies elsewhere, and for a pipe or device,
    which it would wait for.
    """
    for path in chain.from_iterable(map(_entries, (folder, folder / "pictures", folder / "checkpoints"))):
        if path.parent == folder and not any(map(path.match, WRITTEN)):
            continue
        with suppress(OSError):  # another process has removed it
            mode = path.lstat().st_mode
            what = "a link" if stat.S_ISLNK(mode) else "no file"
            plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            require(
                plain,
                f"output_dir={folder}: {path.relative_to(folder)} is {what}; put a copy in its place, or remove it",
            )


def _entries(folder: Path) -> Iterator[Path]:
    """What is in a folder; nothing if this user may not list it, and so not write to it either."""
    with suppress(PermissionError):
        yield from folder.glob("*")


def require_files(folder: Path) -> None:
    """Where the run will write a file there is none, or a file."""
    for name in ("config.yaml", "run.json", "train.log"):
        path = folder / name
        fits = path.is_file() or not os.path.lexists(path)  # a pipe would be waited for
        require(fits, f"{path}: no file, where the run's file should be; move it away")
