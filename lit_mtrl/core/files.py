"""Files that are whole or not there: written, synced and renamed; with sizes and checksums."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Sum = list[int]
"""Size in bytes and CRC32 of a file; a list, as JSON has it."""
CHUNK = 2**24
"""Bytes that are read or written at a time."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, chunks: Iterable[Any]) -> Sum:
    """Write ``chunks``, which are bytes or the like, to a new file, on disk when this returns; a file that could not
    be written whole is removed.
    """
    size = crc = 0
    try:
        # Never through a map: where the disk is full, that is SIGBUS instead of an error.
        with path.open("wb") as file:
            for chunk in chunks:
                view = memoryview(chunk).cast("B")
                for part in (view[start : start + CHUNK] for start in range(0, len(view), CHUNK)):
                    file.write(part)
                    size, crc = size + len(part), zlib.crc32(part, crc)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return [size, crc]


def checksum(path: Path) -> Sum:
    """Of a file as it is."""
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]


def difference(path: Path, expected: Sum) -> str | None:
    """What is wrong with a file whose `Sum` should be ``expected``; None if nothing is."""
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != expected[0]:
        return f"has {size} of {expected[0]} bytes"
    return None if checksum(path) == expected else "has other contents than were written"


def sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno in FULL:  # some file systems cannot do it for folders
            raise
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends without an error, and is removed if not."""
    new = path.with_name(f"{path.name}.new")
    try:
        yield new
        sync(new)
        new.replace(path)
    except Exception:
        new.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def trouble(error: BaseException, folder: Path) -> str | None:
    """One line about an error of the disk, or of a file in ``folder``, with the remedy; None for any other error."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno in FULL:
        return (
            f"{os.strerror(error.errno)} ({error.filename or folder}); free some, then continue with --resume {folder}"
        )
    inside = isinstance(error.filename, str | os.PathLike) and Path(error.filename).is_relative_to(folder)
    if not inside and error.errno not in (errno.EIO, errno.EROFS):
        return None
    return f"{error.strerror} ({error.filename or folder})"


class LogFile(logging.FileHandler):
    """A log that cannot be written says so once, to the other handlers, and goes on."""

    failed = False

    def __init__(self, path: Path):
        super().__init__(path, delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            logging.getLogger(record.name).warning(
                "%s: %s; lines may be missing there", self.baseFilename, error.strerror
            )
