"""What of a run can be continued: its last checkpoint, if it is of the same run, and what has changed since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lit_mtrl.config.read import read_yaml
from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.upgrade import upgraded
from lit_mtrl.core.errors import require
from lit_mtrl.core.files import difference
from lit_mtrl.core.manifest import damage, exists
from lit_mtrl.core.tables import check, flat, frames_of
from lit_mtrl.runs.folder import require_files, require_plain, require_writable

if TYPE_CHECKING:
    from lit_mtrl.training.checkpoint import Saved

SHOWN = 5
"""Evaluations that are named, of those that are lacking."""
RESUMABLE = (
    *("frames", "output_dir", "run_name", "experiment_name", "trainer.", "logger.", "eval.workers", "eval.background"),
    *("engine.mode", "replay.device", "collector.policy_device", "env.engine", "env.threads", "env.keep_starts"),
)
"""Keys that may differ between a run and its continuation."""


def require_same(option: str, folder: Path, old: dict[str, Any], new: DictConfig, free: tuple[str, ...] = ()) -> None:
    """`ConfigError` unless ``old`` and ``new`` configure the same run, but for what may differ in a continuation, and
    ``free``.
    """
    there, here = flat(upgraded(old)), flat(as_written(new))
    if not here["collector.workers"]:
        here["collector.workers"] = there.get("collector.workers")
    # Random numbers begin anew on another number of ranks, and with them the noise of each process that collects.
    moved = there["trainer.devices"] != here["trainer.devices"]
    free = (*RESUMABLE, *free, *(("collector.workers",) if moved else ()))
    differ = sorted(k for k in {*there, *here} if there.get(k) != here.get(k) and not k.startswith(free))
    shown = ", ".join(f"{k} ({there.get(k)} there, {here.get(k)} here)" for k in differ)
    require(not differ, f"{option} {folder}: the run has another configuration: {shown}")


def resumed(cfg: DictConfig, first: bool = True) -> Saved:
    """The last checkpoint of the run in ``output_dir``, if it belongs to this configuration.

    Everything that the run will read or write again is looked at, nothing is changed. `ConfigError` if it cannot be
    used; what was mended or is missing is in the result's notes.

    cfg: the configuration of the continuation.
    first: whether this is the run's first rank, which has locked the folder; the others leave all files but the
        checkpoint to it, and training in the folder may have begun by the time that they look.
    """
    from lit_mtrl.training import checkpoint
    from lit_mtrl.training.weights import saved_part

    folder = Path(cfg.output_dir)
    require_writable(folder)
    require(
        exists(folder / "checkpoints"),
        f"--resume {folder}: holds no checkpoints/last.ckpt; start the run without --resume",
    )
    saved = checkpoint.find(folder / "checkpoints", "--resume")
    part = saved_part(saved.content, f"--resume {folder}")
    require_same("--resume", folder, part["config"], cfg)
    require(
        saved.frames < cfg.frames,
        f"--resume {folder}: finished at {saved.frames} frames;"
        f" give a larger budget, such as frames={2 * saved.frames}",
    )
    if not first:
        return saved
    require_files(folder)
    return replace(saved, notes=(*saved.notes, *_notes(folder, saved, cfg)))


def frames_done(cfg: DictConfig) -> int:
    """Frames of the last checkpoint of the run that ``cfg`` describes, 0 if there is none; `ConfigError` if the
    folder holds another run.
    """
    folder = Path(cfg.output_dir)
    require_plain(folder)
    if not exists(folder / "checkpoints"):
        return 0
    _, saved = read_yaml(folder / "config.yaml", f"--multirun {folder}/config.yaml", "restore it, or remove the folder")
    require_same("--multirun", folder, saved, cfg)
    from lit_mtrl.training.checkpoint import frames_saved

    return frames_saved(folder / "checkpoints", "--multirun")


def _notes(folder: Path, saved: Saved, cfg: DictConfig) -> Iterator[str]:
    """What has changed in ``folder`` since the checkpoint that should not have."""
    if saved.config and (wrong := difference(folder / "config.yaml", saved.config)):
        yield f"config.yaml {wrong.replace('were written', 'at the checkpoint')}; what it says now is used"
    tables = {path.name for path in folder.glob("*.csv")} | {*saved.tables}
    yield from filter(None, (check(folder / name, saved.tables.get(name)) for name in sorted(tables)))
    evaluated, pending = frames_of(folder / "eval.csv"), _pending(folder, cfg)
    every = cfg.epoch_frames * cfg.eval.every_epochs
    due = range(every, saved.frames + 1, every)
    known = evaluated | ({pending} - {None})
    lacking = len(due) - sum(frames in due for frames in known)
    if lacking:
        first = islice((frames for frames in due if frames not in known), SHOWN)
        more = f", and {lacking - SHOWN} more" if lacking > SHOWN else ""
        yield f"eval.csv: lacks the evaluation at {', '.join(map(str, first))} frames{more}"
    best = folder / "checkpoints" / "best.ckpt"
    wrong = damage(best)
    if wrong is None:
        _frames_of_same_run(best, cfg)
    elif best.exists() or evaluated - {pending}:
        yield f"checkpoints/best.ckpt: {wrong}; there is none until an evaluation is better than those before"


def _frames_of_same_run(path: Path, cfg: DictConfig) -> int:
    """Frames of a checkpoint beside the last one; `ConfigError` if it is of another run."""
    from lit_mtrl.training.checkpoint import load
    from lit_mtrl.training.weights import saved_part

    part = saved_part(load(path, "--resume"), f"--resume {path}")
    require_same("--resume", path, part["config"], cfg, free=("collector.workers",))
    return part["frames"]


def _pending(folder: Path, cfg: DictConfig) -> int | None:
    """Frames of the weights that wait for their evaluation."""
    from lit_mtrl.evaluation.evaluator import PENDING

    path = folder / "checkpoints" / PENDING
    if not path.exists():
        return None
    remedy = "remove it to continue without the evaluation that it waits for"
    require(damage(path) is None, f"--resume {folder}: checkpoints/{PENDING}: {damage(path)}; {remedy}")
    return _frames_of_same_run(path, cfg)
