"""What the checkpoint callback says about its files: names, frames, ranks, sizes and checksums. PyTorch is not needed
to read it.

The sidecar ``last/`` holds a replay for every rank, ``replay``, ``replay.1``, ``replay.2``, ..., and a manifest: the
frames, the number of ranks, size and checksum of ``last.ckpt`` and of every file in the sidecar, what the run's
tables held, and a checksum of all that. Manifests of older versions have frames and ranks only.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_mtrl.core import files

MANIFEST = "manifest.json"
NAMES = ("last.ckpt", "last.ckpt.old")
"""Checkpoints that a run can be continued from, the newest first."""
SIDECARS = ("last", "last.old", "last.new")
"""While a checkpoint is being replaced any of them may belong to any of `NAMES`; see `lit_mtrl.callbacks.checkpoint`.
"""


class DamagedError(Exception):
    """The message says which file cannot be used, and why."""


def exists(folder: Path) -> bool:
    """Whether there is something in ``folder`` to continue a run from, whole or not."""
    return any(os.path.exists(folder / name) for name in NAMES)  # False where it may not be looked at


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at ``path``, by the checksums within; None if nothing is."""
    try:
        check_zip(path)
    except DamagedError as error:
        return str(error)
    return None


def replay_folder(sidecar: Path, rank: int) -> Path:
    """Where a rank's replay lies in ``sidecar``."""
    return sidecar / (f"replay.{rank}" if rank else "replay")


def replay_folders(sidecar: Path) -> list[Path]:
    """The replays in ``sidecar``, one for each rank that the run had."""
    return [replay_folder(sidecar, rank) for rank in range(read_manifest(sidecar)["ranks"])]


def write_manifest(sidecar: Path, manifest: dict[str, Any]) -> None:
    """Write ``manifest`` with a checksum of itself into ``sidecar``."""
    text = json.dumps({**manifest, "sum": _own_sum(manifest)})
    files.write(sidecar / MANIFEST, [text.encode()])
    files.sync(sidecar)


def read_manifest(sidecar: Path) -> dict[str, Any]:
    """The manifest in ``sidecar``; of an older version ``frames`` and ``ranks`` only."""
    name = f"{sidecar.name}/{MANIFEST}"
    try:
        manifest = json.loads((sidecar / MANIFEST).read_bytes())
    except OSError as error:
        raise DamagedError(
            f"{name} is {'missing' if isinstance(error, FileNotFoundError) else 'unreadable'}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{name} is damaged") from error
    if not isinstance(manifest, dict):
        raise DamagedError(f"{name} is damaged")
    if "sum" in manifest and manifest["sum"] == _own_sum(manifest):
        return manifest
    older = {"ranks": 1, **manifest}
    if set(older) != {"frames", "ranks"} or not all(type(value) is int and value > 0 for value in older.values()):
        raise DamagedError(f"{name} is damaged")
    return older


def frames_in(folder: Path) -> int | None:
    """Frames of ``last.ckpt`` in ``folder``, by sizes and its manifest; None where these do not fit, or a replacement
    was under way.
    """
    try:
        manifest = read_manifest(folder / SIDECARS[0])
        size = (folder / NAMES[0]).stat().st_size
    except (DamagedError, OSError):
        return None
    if "checkpoint" not in manifest:
        return None if (folder / SIDECARS[1]).exists() else manifest["frames"]
    replacing = (folder / "last.ckpt.new").exists()
    return manifest["frames"] if size == manifest["checkpoint"][0] and not replacing else None


def check_zip(path: Path) -> None:
    """Raise `DamagedError` unless a file of ``torch.save`` has the checksums in it, which PyTorch writes and does not
    look at.
    """
    if not path.exists():
        raise DamagedError(f"{called(path)}no such file")
    if not path.is_file():
        raise DamagedError(f"{called(path)}not a file")
    try:
        with zipfile.ZipFile(path) as file:
            # PyTorch compresses nothing; what is compressed may be without end.
            plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in file.infolist())
            bad = file.testzip() if plain else "its compression"
    except Exception as error:  # a parser of foreign bytes: there is nothing that it does not raise
        raise DamagedError(f"{called(path)}truncated, damaged, or no checkpoint at all") from error
    if bad is not None:
        raise DamagedError(f"{called(path)}damaged, in {bad}")


def called(path: Path) -> str:
    """What to say before the trouble with ``path``, of which checkpoints have been named."""
    return "" if ".ckpt" in path.name else f"{path.parent.name}/{path.name}: "


def _own_sum(manifest: Mapping[str, Any]) -> int:
    rest = {key: value for key, value in manifest.items() if key != "sum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())
