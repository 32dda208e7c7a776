"""Small things about processes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from lit_mtrl.core.errors import require
from lit_mtrl.core.text import shown

RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "JSM_NAMESPACE_RANK"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS"),
)
"""Environment variables of processes that others have started as ranks."""


def die_with_parent(gently: bool = False) -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed run leaves no workers behind; ``gently``
    with SIGTERM.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM if gently else signal.SIGKILL)


def open_standard_streams() -> None:
    """Nowhere in place of standard input, output or error where this process was started without (``2>&-``, as a
    daemon).

    The next file to be opened would take such a number, and get what libraries print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(nowhere, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def nobody_reads(stream: TextIO) -> bool:
    """Whether ``stream`` is a pipe whose reader has gone, as after ``| head -1``."""
    asked = select.poll()
    asked.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in asked.poll(0))


def spin_briefly() -> None:
    """Let GNU's OpenMP threads wait for each other asleep after a short while, unless the user said how; call it before
    PyTorch is imported.

    By default they spin for milliseconds on a core that something else could use. On two cores, 8 % less for an update
    of MT10 at width 400 alone, a third to a half less beside another busy process.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_freed_memory() -> None:
    """Ask glibc to reuse what is freed instead of returning it to the kernel, which would map and clear it again for
    every large tensor.

    A tenth of the time of a CPU update of MT10 at width 400. Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        # Older versions take no more than 32 MiB. If none is taken, the other setting would do harm: it ends glibc's
        # own adaptation.
        if mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25):
            mallopt(m_trim_threshold, 2**31 - 1)


def cores(ranks: int = 1) -> int:
    """Cores for this process, one of ``ranks`` on this machine, which share them; SLURM's ``--cpus-per-task`` has given
    each its own.
    """
    return max(1, len(os.sched_getaffinity(0)) // (1 if "SLURM_CPUS_PER_TASK" in os.environ else ranks))


def rank_of_process() -> int:
    """Its number among the processes that train one run, from what Lightning, torchrun or SLURM left in its
    environment; 0 if alone.
    """
    values = (os.environ.get(key, "") for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next(filter(str.isdecimal, values), 0))


def require_rank_variables() -> None:
    """`ConfigError` unless what should tell this process which rank it is are numbers; Lightning reads them when it is
    imported.
    """
    for name in RANK_VARIABLES:
        value = os.environ.get(name, "0")
        require(
            value.isdecimal(), f"{name}={shown(value)}: is a whole number where torchrun or SLURM sets it; unset it"
        )


def lock_file(path: Path) -> TextIO:
    """Lock the file at ``path``, making it if needed, until the result is closed or this process ends;
    `BlockingIOError` if another has it.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of ``path``."""
    if not os.path.exists(path):
        return False
    with path.open() as file:  # to be read only, as one of another user may be
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def claim(folder: Path, names: Sequence[str], count: int) -> Iterator[list[str]]:
    """``count`` of ``names``, those that are claimed least, until the block or this process ends; claims are locked
    files in ``folder``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as claims:
        with (folder / "lock").open("a") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            claimed = {name: sum(is_locked(path) for path in folder.glob(f"{name}.*")) for name in names}
            chosen = sorted(sorted(names, key=claimed.__getitem__)[:count], key=names.index)
            for name in chosen:
                paths = (folder / f"{name}.{number}" for number in itertools.count())
                claims.enter_context(lock_file(next(path for path in paths if not is_locked(path))))
        yield chosen


def denied(path: Path) -> str | None:
    """Why this process cannot write to a file or folder, or make it where it does not exist, with the remedy; None if
    it can.

    `FileNotFoundError` if another process removes it meanwhile.
    """
    place = path.absolute()
    while not os.path.exists(place):  # False for what cannot be looked at, where `Path.exists` raises
        place = place.parent
    mode = os.W_OK | (os.X_OK if place.is_dir() else 0)
    if place != path.absolute() and os.path.exists(place) and not place.is_dir():
        return f"{place} is not a folder"
    before = place.stat()
    if os.access(place, mode, effective_ids=os.access in os.supports_effective_ids):
        return None
    after = place.stat()
    if (before.st_ino, before.st_ctime_ns) != (after.st_ino, after.st_ctime_ns):  # what was asked about may be neither
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{place} is on a file system that is mounted read-only; mount it writable"
    owner, user = after.st_uid, os.geteuid()
    if owner == user:
        return f"{place} is not writable for its owner, uid {user}; `chmod -R u+rwX {place}`"
    # Its owner may want to keep a folder that is only on the way.
    give = f"chown -R {user} {place}" if place == path.absolute() else f"install -d -o {user} {path.absolute()}"
    whose = f"{place} belongs to uid {owner} and is not writable for uid {user}"
    return f"{whose}; as root `{give}`, or start the container with `--user {owner}`"


def cpu_quota(proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many cores' time the control groups leave this process (``docker run --cpus``), of version 1 and 2; None
    where all of it.
    """
    quotas = []
    for line in proc.read_text().splitlines() if proc.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        folder = root / path.lstrip("/")
        for group in (group for group in (folder, *folder.parents) if group.is_relative_to(root)):
            if (group / "cpu.max").exists():
                quota, period = (group / "cpu.max").read_text().split()
            elif (group / "cpu.cfs_quota_us").exists():
                quota, period = (
                    (group / f"cpu.cfs_{name}_us").read_text().strip().replace("-1", "max")
                    for name in ("quota", "period")
                )
            else:
                continue
            quotas += [] if quota == "max" else [int(quota) / int(period)]
    return min(quotas, default=None)
