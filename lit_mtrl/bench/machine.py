"""What was measured on, and how much memory it took."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores that this process may use, PyTorch's threads and version, GPU, and the load before anything
    started.
    """
    names = re.findall(r"model name\s*: (.*)", _text("/proc/cpuinfo"))
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "load": round(os.getloadavg()[0], 2),
    }


class Memory:
    """Peak of the resident memory from now on: of this process, and of those it starts, added up."""

    def __init__(self) -> None:
        self._before = children()
        # Linux keeps the peak of the whole life otherwise.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, float]:
        """MiB on the host and of PyTorch on the GPU; call it while the started processes live."""
        own = [os.getpid(), *(children() - self._before)]
        device = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
        return {"host_mib": sum(_peak(pid) for pid in own), "device_mib": device / 2**20}


def children(of: Collection[int] = ()) -> set[int]:
    """Processes that descend from ``of``, by default from this one."""
    found: set[int] = set()
    todo = list(of) or [os.getpid()]
    while todo:
        pid = todo.pop()
        born = {int(c) for p in Path(f"/proc/{pid}/task").glob("*/children") for c in _text(p).split()}
        todo += born - found
        found |= born
    return found


def _peak(pid: int) -> float:
    found = re.search(r"VmHWM:\s*(\d+) kB", _text(f"/proc/{pid}/status"))
    return int(found[1]) / 1024 if found else 0.0


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
