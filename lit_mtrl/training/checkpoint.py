"""Reading what the checkpoint callback writes: ``last.ckpt`` or ``best.ckpt``, and the sidecar ``last/``.

The pair before, ``last.ckpt.old`` and ``last.old/``, is used where the newest is damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lit_mtrl.core import files
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.files import Sum
from lit_mtrl.core.manifest import (
    MANIFEST,
    NAMES,
    SIDECARS,
    DamagedError,
    called,
    check_zip,
    damage,
    frames_in,
    read_manifest,
    replay_folder,
)
from lit_mtrl.data import tensor_files


@dataclass(frozen=True)
class Saved:
    """A checkpoint and its sidecar, read and verified.

    ``content``: of the checkpoint. ``tables``: what the run's tables held then, by file name. ``config``: the `Sum`
    of its ``config.yaml``. ``notes``: one line each about what was damaged or could not be verified.
    """

    path: Path
    sidecar: Path
    content: dict[str, Any]
    tables: Mapping[str, Any] = field(default_factory=dict)
    config: Sum | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Environment steps until then, summed over tasks and ranks."""
        return self.content["lit_mtrl"]["frames"]


def load(path: Path, option: str) -> dict[str, Any]:
    """The checkpoint at ``path`` (plain types only, ``weights_only``); `ConfigError` naming ``option`` if it cannot
    be used.
    """
    try:
        return _load(path)
    except DamagedError as error:
        raise ConfigError(f"{option} {path}: {error}") from error


def find(folder: Path, option: str) -> Saved:
    """The newest whole checkpoint with its sidecar in ``folder``, all of it verified; `ConfigError` naming ``option``
    if there is none.
    """
    reasons = []
    for name in NAMES:
        try:
            found = _find(folder / name)
        except DamagedError as error:
            reasons.append(f"{name}: {error}")
            continue
        at = f"; continued from the checkpoint before, at {found.frames} frames"
        return replace(found, notes=(*(reason + at for reason in reasons), *found.notes))
    raise ConfigError(
        f"{option} {folder}: cannot be continued exactly ({'; '.join(reasons)}); restore that from a copy, or start"
        f" anew elsewhere"
    )


def frames_saved(folder: Path, option: str) -> int:
    """Frames of the newest checkpoint in ``folder`` that can be read, which is read only where sizes and manifest
    leave doubts.
    """
    frames = frames_in(folder)
    if frames is not None:
        return frames
    whole = [name for name in NAMES if damage(folder / name) is None]
    return load(folder / (*whole, NAMES[0])[0], option)["lit_mtrl"]["frames"]


def keep(folder: Path, sidecar: Path) -> None:
    """Give ``sidecar`` and its checkpoint in ``folder`` the names ``last`` and ``last.ckpt``, and remove all others."""
    path = next(path for path in (folder / name for name in NAMES) if _is_pair(path, sidecar))
    if sidecar.name != SIDECARS[0]:
        files.remove(folder / SIDECARS[0])
        sidecar.rename(folder / SIDECARS[0])
    if path.name != NAMES[0]:
        if (folder / NAMES[0]).is_dir():
            files.remove(folder / NAMES[0])
        path.replace(folder / NAMES[0])
    files.sync(folder)


def _find(path: Path) -> Saved:
    content = _load(path)
    reasons = []
    for name in SIDECARS:
        sidecar = path.parent / name
        try:
            manifest = read_manifest(sidecar)
        except DamagedError as error:
            reasons += [str(error)] if sidecar.exists() else []
            continue
        if _belongs(manifest, path, content["lit_mtrl"]["frames"]):
            notes = _verify(sidecar, manifest, content)
            return Saved(path, sidecar, content, manifest.get("tables", {}), manifest.get("config"), notes)
    raise DamagedError("; ".join(["no replay belongs to it", *reasons]))


def _is_pair(path: Path, sidecar: Path) -> bool:
    try:
        return _belongs(read_manifest(sidecar), path)
    except DamagedError:
        return False


def _belongs(manifest: Mapping[str, Any], path: Path, frames: int | None = None) -> bool:
    if "checkpoint" in manifest:
        return path.is_file() and files.difference(path, manifest["checkpoint"]) is None
    return manifest["frames"] == (_load(path)["lit_mtrl"]["frames"] if frames is None else frames)


def _verify(sidecar: Path, manifest: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, ...]:
    for name, expected in manifest.get("files", {}).items():
        if wrong := files.difference(sidecar / name, expected):
            raise DamagedError(f"{sidecar.name}/{name} {wrong}")
    if "files" in manifest:
        return ()
    found = {path.name for path in sidecar.glob("replay*")}
    wanted = {replay_folder(sidecar, rank).name for rank in range(manifest["ranks"])}
    if found != wanted or len(content["lit_mtrl"].get("random", wanted)) != len(wanted):
        raise DamagedError(f"{sidecar.name}/{MANIFEST} says {len(wanted)} ranks, which is not what the files have")
    for replay in sorted(sidecar / name for name in wanted):
        state = _torch(replay / "state.pt")
        try:
            held = len(tensor_files.load(replay / "transitions")) if (replay / "transitions").exists() else 0
            if not held and state["writer"]["_cursor"]:
                raise ValueError(f"{sidecar.name}/{replay.name}/transitions is missing")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(str(error)) from error
    return (f"{sidecar}: written by an older version, without checksums; cannot be verified",)


def _load(path: Path) -> dict[str, Any]:
    content = _torch(path)
    state = content.get("lit_mtrl") if isinstance(content, dict) else None
    if not isinstance(state, dict) or type(state.get("frames")) is not int:
        raise DamagedError("not a checkpoint of lit_mtrl")
    return content


def _torch(path: Path) -> Any:
    check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a parser of foreign bytes
        raise DamagedError(f"{called(path)}holds other things than plain types and tensors") from error
