"""Starts of episodes on disk, so that a later run needs no official resets for them.

A start depends on the task, its goal and the software and processor that computed it, so all of them are in its name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import tempfile
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from llvmlite import binding
from numpy.typing import NDArray

from lit_mtrl.envs.native.cache import folder

log = logging.getLogger("lit_mtrl")

PACKAGES = ("metaworld", "mujoco", "gymnasium", "numpy")
"""What an official reset is computed by."""


class SavedStarts:
    """A folder of files, one for each task and goal; without a folder that can be written, nothing is kept."""

    def __init__(self):
        base = folder()
        self._folder = None if base is None else Path(base, f"starts-{_machine()}")

    def read(self, task: str, goal: NDArray, sizes: Sequence[int]) -> list[NDArray] | None:
        """The arrays of a start, float64, of ``sizes``; None if it is not there, or damaged."""
        if self._folder is None:
            return None
        try:
            held = self._path(self._folder, task, goal).read_bytes()
        except OSError:
            return None
        data, check = held[:-4], held[-4:]
        if len(data) != 8 * sum(sizes) or zlib.crc32(data).to_bytes(4, "little") != check:
            return None
        return np.split(np.frombuffer(data, np.float64), np.cumsum(sizes)[:-1])

    def write(self, task: str, goal: NDArray, arrays: Sequence[NDArray]) -> None:
        """Keep a start; other processes may write the same one."""
        if self._folder is None:
            return
        path, data = self._path(self._folder, task, goal), np.concatenate(arrays).astype(np.float64).tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data + zlib.crc32(data).to_bytes(4, "little"))
            os.replace(file.name, path)
        except OSError as error:
            log.warning("env.keep_starts: %s; starts are not kept on disk", error)
            self._folder = None

    @staticmethod
    def _path(base: Path, task: str, goal: NDArray) -> Path:
        return base / task / hashlib.sha256(np.ascontiguousarray(goal, np.float64).tobytes()).hexdigest()[:24]


def _machine() -> str:
    """A name for the versions and the processor; functions of the C library differ between processors."""
    parts = [f"{name} {version(name)}" for name in PACKAGES]
    parts += [*platform.libc_ver(), platform.machine(), binding.get_host_cpu_name()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
