"""A run's folder: whether it is free, which run it holds, and what of it can be continued."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.upgrade import upgraded
from lit_mtrl.processes import denied, held, rank_of_process
from lit_mtrl.spec import ConfigError, require
from lit_mtrl.tables import flat

LOCK = "run.lock"
"""Locked while a process trains in the folder."""
RESUMABLE = (
    *("frames", "output_dir", "run_name", "experiment_name", "trainer.", "logger.", "eval.workers", "eval.background"),
    *("engine.mode", "replay.device", "collector.policy_device"),
)
"""Keys that may differ between a run and its continuation."""


def leads(cfg: DictConfig) -> bool:
    """Whether this process is the run's first rank, which trains in the folder by the time that the others look."""
    return cfg.trainer.devices == 1 or rank_of_process() == 0


def require_free(folder: Path) -> None:
    """`ConfigError` if a run cannot be started in ``folder``."""
    require_writable(folder)
    require(
        not (folder / "checkpoints" / "last.ckpt").exists(),
        f"output_dir={folder}: already holds a run; continue it with --resume, or choose another run_name or output_dir",
    )
    require_idle(folder)


def require_writable(folder: Path) -> None:
    """`ConfigError` if ``folder``, or what a run left in it and in its ``checkpoints``, cannot be written by this user."""
    reason = denied(folder)
    inside = chain(folder.glob("*"), folder.glob("checkpoints/*")) if reason is None else ()
    reason = reason or next(filter(None, map(denied, inside)), None)
    require(reason is None, f"output_dir={folder}: {reason}, or choose another output_dir")


def require_idle(folder: Path) -> None:
    """`ConfigError` if a process is training in ``folder``."""
    require(not held(folder / LOCK), f"output_dir={folder}: another process is training there; stop it, or wait")


def require_same(option: str, folder: Path, old: dict[str, Any], new: DictConfig) -> None:
    """`ConfigError` unless ``old`` and ``new`` configure the same run, but for what may differ in a continuation."""
    there, here = flat(upgraded(old)), flat(as_written(new))
    if not here["collector.workers"]:
        here["collector.workers"] = there.get("collector.workers")
    # Random numbers begin anew on another number of ranks, and with them the noise of each process that collects.
    free = RESUMABLE if there["trainer.devices"] == here["trainer.devices"] else (*RESUMABLE, "collector.workers")
    differ = sorted(k for k in {*there, *here} if there.get(k) != here.get(k) and not k.startswith(free))
    shown = ", ".join(f"{k} ({there.get(k)} there, {here.get(k)} here)" for k in differ)
    require(not differ, f"{option} {folder}: the run has another configuration: {shown}")


def resumed(cfg: DictConfig) -> dict[str, Any]:
    """The last checkpoint of the run in ``output_dir``, if it belongs to this configuration."""
    from lit_mtrl.checkpoint import load
    from lit_mtrl.weights import saved_part

    folder = Path(cfg.output_dir)
    path = folder / "checkpoints" / "last.ckpt"
    require_writable(folder)
    require(path.is_file(), f"--resume {folder}: holds no checkpoints/last.ckpt; start the run without --resume")
    if leads(cfg):
        require_idle(folder)
    checkpoint = load(path, "--resume")
    part = saved_part(checkpoint, f"--resume {folder}")
    require_same("--resume", folder, part["config"], cfg)
    done = part["frames"]
    require(
        done < cfg.frames,
        f"--resume {folder}: finished at {done} frames; give a larger budget, such as frames={2 * done}",
    )
    return checkpoint


def frames_done(cfg: DictConfig) -> int:
    """Frames of the last checkpoint of the run that ``cfg`` describes, 0 if there is none; `ConfigError` if the folder holds another run."""
    folder = Path(cfg.output_dir)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not os.path.exists(checkpoint):  # also False where it may not be looked at, of which `require_writable` tells
        return 0
    try:
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        require_same("--multirun", folder, saved, cfg)
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(
            f"--multirun {folder}: its config.yaml cannot be read; restore it, or remove the folder"
        ) from error
    sidecars = list(checkpoint.parent.glob("last*/manifest.json"))
    if len(sidecars) == 1:
        return int(yaml.safe_load(sidecars[0].read_text())["frames"])
    from lit_mtrl.checkpoint import load  # it was killed while it replaced one by the other: the checkpoint knows

    return load(checkpoint, "--multirun")["lit_mtrl"]["frames"]
