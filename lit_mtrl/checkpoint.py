"""Reading what the checkpoint callback writes: ``last.ckpt`` or ``best.ckpt``, and the sidecar ``last/``.

The sidecar holds a replay for every rank, ``replay``, ``replay.1``, ``replay.2``, ..., and a manifest: the frames and the number of ranks.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from lit_mtrl.spec import ConfigError, require

MANIFEST = "manifest.json"


def load(path: Path, option: str) -> dict[str, Any]:
    """The checkpoint at ``path`` (plain types only, ``weights_only``); `ConfigError` naming ``option`` if it cannot be used."""
    require(path.is_file(), f"{option} {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        # PyTorch's own text tells how to load the file without protection from the code that is in it.
        raise ConfigError(
            f"{option} {path}: truncated, or no checkpoint of plain values ({type(error).__name__}); use one that fit has written"
        ) from error
    require(isinstance(checkpoint, dict) and "lit_mtrl" in checkpoint, f"{option} {path}: not a checkpoint of lit_mtrl")
    return checkpoint


def find_sidecar(folder: Path, frames: int) -> Path:
    """The sidecar in ``folder`` that belongs to the checkpoint at ``frames``; `ConfigError` if there is none.

    While a checkpoint is being replaced two may exist; see `lit_mtrl.callbacks.checkpoint`.
    """
    for name in ("last", "last.old", "last.new"):
        manifest = folder / name / MANIFEST
        if manifest.exists() and json.loads(manifest.read_text())["frames"] == frames:
            return folder / name
    raise ConfigError(
        f"{folder}/last: no replay belongs to last.ckpt at {frames} frames; the run cannot be resumed exactly"
    )


def replay_folder(sidecar: Path, rank: int) -> Path:
    """Where a rank's replay lies in ``sidecar``."""
    return sidecar / (f"replay.{rank}" if rank else "replay")


def replay_folders(sidecar: Path) -> list[Path]:
    """The replays in ``sidecar``, one for each rank that the run had."""
    ranks = json.loads((sidecar / MANIFEST).read_text()).get("ranks", 1)
    return [replay_folder(sidecar, rank) for rank in range(ranks)]
