"""A run's folder: whether it is free, which run it holds, and what of it can be continued."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from omegaconf import DictConfig

from lit_mtrl.config.read import read_yaml
from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.upgrade import upgraded
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.files import difference
from lit_mtrl.core.manifest import damage, exists
from lit_mtrl.core.processes import denied, held, hold, rank_of_process
from lit_mtrl.core.tables import check, flat, frames_of

if TYPE_CHECKING:
    from lit_mtrl.training.checkpoint import Saved

LOCK = "run.lock"
"""Locked while a process trains in the folder."""
TRIES = 100
"""While other processes make and remove what is looked at."""
WRITTEN = ("config.yaml*", "run.json*", LOCK, "train.log", "mlflow.queue*", "*.csv*", "pictures")
"""Patterns of what a run writes or sends to MLflow; not ``checkpoints``, which may be a link, to another disk."""
SHOWN = 5
"""Of evaluations that are lacking."""
RESUMABLE = (
    *("frames", "output_dir", "run_name", "experiment_name", "trainer.", "logger.", "eval.workers", "eval.background"),
    *("engine.mode", "replay.device", "collector.policy_device"),
)
"""Keys that may differ between a run and its continuation."""


def leads(cfg: DictConfig) -> bool:
    """Whether this process is the run's first rank, which trains in the folder by the time that the others look."""
    return cfg.trainer.devices == 1 or rank_of_process() == 0


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for the run that this process starts or continues in it, making it if needed, until the block
    ends.

    Only under the lock is what lies in the folder looked at: another process may have trained in it until then.
    `ConfigError` if one does so now, or the folder cannot be made. If the block ends by a `ConfigError`, or before
    the run has left its configuration, nothing remains of the lock and of folders made here.
    """
    require_writable(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    new = not (folder / LOCK).exists()
    lock, refused = _lock(folder), False
    try:
        yield
    except ConfigError:
        refused = True
        raise
    finally:
        if new and (refused or not (folder / "config.yaml").exists()):
            (folder / LOCK).unlink(missing_ok=True)  # while it is held, see `_lock`
            with suppress(OSError):  # something else lies in them
                for path in missing:
                    path.rmdir()
        lock.close()


def _lock(folder: Path) -> TextIO:
    try:
        for _ in range(TRIES):
            with suppress(FileNotFoundError):  # another process is removing what it had made
                folder.mkdir(parents=True, exist_ok=True)
                lock = hold(folder / LOCK)
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


def require_free(folder: Path) -> None:
    """`ConfigError` if a run cannot be started in ``folder``, which is `occupied`."""
    require_writable(folder)
    require(
        not exists(folder / "checkpoints"),
        f"output_dir={folder}: already holds a run; continue it with --resume, or choose another run_name or output_dir",
    )
    _require_files(folder)
    for table in folder.glob("*.csv"):
        check(table, None)


def require_writable(folder: Path) -> None:
    """`ConfigError` if ``folder``, or what a run left in it and in its ``checkpoints``, cannot be written by this
    user, or would be written elsewhere.
    """
    reason = None
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            _require_plain(folder)
            reason = denied(folder)
            inside = chain(folder.glob("*"), folder.glob("checkpoints/*")) if reason is None else ()
            reason = reason or next(filter(None, map(denied, inside)), None)
            break
    require(reason is None, f"output_dir={folder}: {reason}, or choose another output_dir")


def _require_plain(folder: Path) -> None:
    """`ConfigError` for a link, by which a run would write or send what lies elsewhere, and for a pipe or device,
    which it would wait for.
    """
    for path in chain.from_iterable(map(_looked_at, (folder, folder / "pictures", folder / "checkpoints"))):
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


def _looked_at(folder: Path) -> Iterator[Path]:
    """What is in a folder; nothing if it may not be looked at, nor written then."""
    with suppress(PermissionError):
        yield from folder.glob("*")


def require_idle(folder: Path) -> None:
    """`ConfigError` if a process is training in ``folder``."""
    require(not os.path.isdir(folder / LOCK), f"output_dir={folder}: {LOCK} is a folder; remove it")
    require(not held(folder / LOCK), _busy(folder))


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


def resumed(cfg: DictConfig) -> Saved:
    """The last checkpoint of the run in ``output_dir``, if it belongs to this configuration; the first rank has
    `occupied` the folder.

    Everything that the run will read or write again is looked at, nothing is changed. `ConfigError` if it cannot be
    used; what was mended or is missing is in the result's notes.
    """
    from lit_mtrl.training import checkpoint
    from lit_mtrl.training.weights import saved_part

    folder = Path(cfg.output_dir)
    require_writable(folder)
    require(
        exists(folder / "checkpoints"),
        f"--resume {folder}: holds no checkpoints/last.ckpt; start the run without --resume",
    )
    found = checkpoint.find(folder / "checkpoints", "--resume")
    part = saved_part(found.content, f"--resume {folder}")
    require_same("--resume", folder, part["config"], cfg)
    require(
        found.frames < cfg.frames,
        f"--resume {folder}: finished at {found.frames} frames; give a larger budget, such as frames={2 * found.frames}",
    )
    if not leads(cfg):
        return found
    _require_files(folder)
    return replace(found, notes=(*found.notes, *_notes(folder, found, cfg)))


def frames_done(cfg: DictConfig) -> int:
    """Frames of the last checkpoint of the run that ``cfg`` describes, 0 if there is none; `ConfigError` if the
    folder holds another run.
    """
    folder = Path(cfg.output_dir)
    _require_plain(folder)
    if not exists(folder / "checkpoints"):
        return 0
    _, saved = read_yaml(folder / "config.yaml", f"--multirun {folder}/config.yaml", "restore it, or remove the folder")
    require_same("--multirun", folder, saved, cfg)
    from lit_mtrl.training.checkpoint import frames_saved

    return frames_saved(folder / "checkpoints", "--multirun")


def _busy(folder: Path) -> str:
    return f"output_dir={folder}: another process is training there; stop it, or wait"


def _require_files(folder: Path) -> None:
    """Where the run will write a file there is none, or a file."""
    for name in ("config.yaml", "run.json", "train.log"):
        path = folder / name
        fits = path.is_file() or not os.path.lexists(path)  # a pipe would be waited for
        require(fits, f"{path}: no file, where the run's file should be; move it away")


def _notes(folder: Path, found: Saved, cfg: DictConfig) -> Iterator[str]:
    """What has changed in ``folder`` since the checkpoint that should not have."""
    if found.config and (wrong := difference(folder / "config.yaml", found.config)):
        yield f"config.yaml {wrong.replace('were written', 'at the checkpoint')}; what it says now is used"
    tables = {path.name for path in folder.glob("*.csv")} | {*found.tables}
    yield from filter(None, (check(folder / name, found.tables.get(name)) for name in sorted(tables)))
    evaluated, waiting, every = (
        frames_of(folder / "eval.csv"),
        _pending(folder, cfg),
        cfg.epoch_frames * cfg.eval.every_epochs,
    )
    due = range(every, found.frames + 1, every)
    there = evaluated | ({waiting} - {None})
    lacking = len(due) - sum(frames in due for frames in there)
    if lacking:
        first = islice((frames for frames in due if frames not in there), SHOWN)
        more = f", and {lacking - SHOWN} more" if lacking > SHOWN else ""
        yield f"eval.csv: lacks the evaluation at {', '.join(map(str, first))} frames{more}"
    best = folder / "checkpoints" / "best.ckpt"
    wrong = damage(best)
    if wrong is None:
        _frames_of_own(best, cfg)
    elif best.exists() or evaluated - {waiting}:
        yield f"checkpoints/best.ckpt: {wrong}; there is none until an evaluation is better than those before"


def _frames_of_own(path: Path, cfg: DictConfig) -> int:
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
    return _frames_of_own(path, cfg)
