"""What the operating system allows a process: open files, other processes, shared memory.

NOTE: PyTorch's other way to share tensors (`torch.multiprocessing.set_sharing_strategy("file_system")`) keeps no
      files open, but what a killed process shared then stays in ``/dev/shm`` until the machine restarts. We keep
      ``file_descriptor`` and ask for more open files.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lit_mtrl.core.errors import require

if TYPE_CHECKING:
    from torch import Tensor

SHARED = "/dev/shm"
OPEN_FILES = 65_536
"""As many are asked for; some programs slow down in proportion to a limit of a billion."""
OWN_FILES = 48
"""Open files of a process that starts no others: log, tables, MLflow's connections."""
PAGE = os.sysconf("SC_PAGE_SIZE")
REMEDIES = {
    ("Too many open files", "ancdata"): "raise the limit by `ulimit -n`, or use fewer {key}",
    ("Resource temporarily unavailable", "can't start new thread", "Cannot allocate memory"): (
        "the system allows no more processes or threads (`ulimit -u`, a container's --pids-limit) or has no memory"
        " left; use fewer {key}"
    ),
    ("unable to allocate shared memory", "No space left on device"): (
        f"{SHARED} is full; start the container with a larger --shm-size, or use {{key}}=1"
    ),
}


def raise_open_files() -> None:
    """Allow this process and those it starts as many open files as it may without being root, up to `OPEN_FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_open_files(needed: int, what: str, key: str) -> None:
    """Raise `ConfigError` if this process, which needs ``needed`` open files for ``what``, is not allowed as many;
    ``key`` would need less.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    total = needed + OWN_FILES
    require(
        soft == resource.RLIM_INFINITY or total <= soft,
        f"{key}: {what} need {total} open files, and {soft} are allowed; raise the limit by `ulimit -n {total}`, or use"
        f" fewer {key.partition('=')[0]}",
    )


def require_shared_memory(needed: int, what: str, key: str) -> None:
    """Raise `ConfigError` if less than ``needed`` bytes of shared memory are free, for ``what``; ``key`` would need
    less.
    """
    if not os.path.isdir(SHARED):
        return
    state = os.statvfs(SHARED)
    free = state.f_bavail * state.f_frsize
    require(
        needed <= free,
        f"{key}: {what} share {_mb(needed)} of memory, and {SHARED} has {_mb(free)} left; start the container with a"
        f" larger --shm-size, or use {key.partition('=')[0]}=1",
    )


def shared_bytes(tensors: Iterable[Tensor]) -> int:
    """Shared memory that ``tensors`` take: whole pages each."""
    return sum(-(-tensor.numel() * tensor.element_size() // PAGE) * PAGE for tensor in tensors)


def remedy(error: str, key: str) -> str | None:
    """What helps against ``error``, if the system refused something; ``key`` is the number of processes. None if it
    is about something else.
    """
    for signs, text in REMEDIES.items():
        if any(sign in error for sign in signs):
            return text.format(key=key)
    return None


def _mb(size: int) -> str:
    return f"{-(-size // 2**20):,} MiB" if size >= 2**20 else f"{-(-size // 2**10):,} KiB"
