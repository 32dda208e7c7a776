"""One process at a time trains in a run's folder: the lock that says so."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import is_locked, lock_file
from lit_mtrl.runs.folder import ATTEMPTS, LOCK, require_writable


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder``, making it if needed, for the run that this process trains in it, until the block ends.

    Look at what is in the folder only within the block: another process may have trained there until then.
    `ConfigError` if one does so now, or if the folder cannot be made. If the block ends by a `ConfigError`, or before
    the run has written its configuration, the lock and the folders that were made here are removed.
    """
    require_writable(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    new = not (folder / LOCK).exists()
    lock, refused = _acquire(folder), False
    try:
        yield
    except ConfigError:
        refused = True
        raise
    finally:
        if new and (refused or not (folder / "config.yaml").exists()):
            (folder / LOCK).unlink(missing_ok=True)  # before it is released, see `_acquire`
            with suppress(OSError):  # something else lies in them
                for path in missing:
                    path.rmdir()
        lock.close()


def _acquire(folder: Path) -> TextIO:
    """The locked file, which is the one that now has that name: another process may remove its own when it ends."""
    try:
        for _ in range(ATTEMPTS):
            with suppress(FileNotFoundError):  # another process is removing what it had made
                folder.mkdir(parents=True, exist_ok=True)
                lock = lock_file(folder / LOCK)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
                        return lock
                lock.close()  # of a file that another process has removed
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BlockingIOError as error:
        raise ConfigError(_busy(folder)) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ConfigError(f"output_dir={folder}: {error.strerror}{where}; mend that, or choose another one") from error


def require_idle(folder: Path) -> None:
    """`ConfigError` if a process is training in ``folder``."""
    require(not os.path.isdir(folder / LOCK), f"output_dir={folder}: {LOCK} is a folder; remove it")
    require(not is_locked(folder / LOCK), _busy(folder))


def _busy(folder: Path) -> str:
    return f"output_dir={folder}: another process is training there; stop it, or wait"
