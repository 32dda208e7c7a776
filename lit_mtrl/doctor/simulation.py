"""Probes of physics, compiled steps and rendering, and of the room that a replay needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from lit_mtrl.doctor.finding import MISSING, OK, PROBLEM, Finding, about, gigabytes, message, version
from lit_mtrl.envs.benchmarks import MT50

CAPACITY = 100_000
"""Transitions per task that a replay keeps by default."""


def physics() -> Iterator[Finding]:
    """One step of Meta-World."""
    import numpy as np

    from lit_mtrl.envs.metaworld import MetaWorld

    env = MetaWorld(["reach"], engine="python").make(0)
    before = env.reset(0)
    after, reward, *_ = env.step(np.ones(4, np.float32))
    assert np.isfinite(reward) and np.isfinite(after).all() and (after != before).any(), "nothing moves"
    yield Finding("physics", OK, f"MuJoCo {version('mujoco')}, Meta-World {version('metaworld')}: one step of reach")


def rendering_EGL() -> Iterator[Finding]:  # noqa: N802  the library's name, as its finding shows it
    """EGL: on the GPU, or by Mesa on the CPU."""
    return _rendering("EGL", "libegl1")


def rendering_OSMesa() -> Iterator[Finding]:  # noqa: N802
    """OSMesa: on the CPU."""
    return _rendering("OSMesa", "libosmesa6")


def compiled_steps() -> Iterator[Finding]:
    """A step of Meta-World in compiled code, beside the official one."""
    name, official = "compiled steps", "steps are the official code's, several times slower"
    if importlib.util.find_spec("numba") is None:
        yield Finding(name, MISSING, f"numba is not installed; {official}", "pip install numba")
        return
    with about(name, f"until then {official}"):
        start = time.perf_counter()
        from lit_mtrl.envs.metaworld import MetaWorld
        from lit_mtrl.envs.native.cache import folder
        from lit_mtrl.envs.native.trial import trial

        trial(["reach"], MetaWorld(["reach"]).make_official(0))
        took = f"numba {version('numba')}: reach steps as the official one after {time.perf_counter() - start:.1f} s"
        kept = folder()
        remedy = "set NUMBA_CACHE_DIR to a folder that can be written" if kept is None else ""
        text = f"{took}; kept in {kept}" if kept else f"{took}, in every process, since nothing can be kept"
        yield Finding(name, PROBLEM if remedy else OK, text, remedy)


def room(folder: Path = Path()) -> Iterator[Finding]:
    """Memory, and disk in the working directory, against MT50's replay."""
    import torch

    from lit_mtrl.algos.base import Algorithm
    from lit_mtrl.data.placement import free_bytes, transition_bytes
    from lit_mtrl.envs.metaworld import MetaWorld

    needed = CAPACITY * len(MT50) * transition_bytes(MetaWorld(MT50), Algorithm.stored)
    free = free_bytes(torch.device("cpu"))
    if free is not None:
        remedy = "" if free > needed else "replay.capacity=20_000, or a larger docker run --memory; MT10 takes a fifth"
        found = f"{gigabytes(free)} free; MT50's replay takes {gigabytes(needed)}"
        yield Finding("memory", PROBLEM if remedy else OK, found, remedy)
    # A checkpoint stays until the next is whole.
    free, needed = shutil.disk_usage(folder).free, 2 * needed
    remedy = "" if free > needed else "choose an output_dir on a larger disk; MT10 takes a fifth"
    found = f"{gigabytes(free)} free in {folder.absolute()}; MT50's checkpoints take up to {gigabytes(needed)}"
    yield Finding("disk", PROBLEM if remedy else OK, found, remedy)


def _rendering(name: str, package: str) -> Iterator[Finding]:
    """One frame of a task by MuJoCo's backend ``name``, which cannot be changed any more in this process."""
    title = f"rendering {name}"
    os.environ["MUJOCO_GL"] = name.lower()
    try:
        yield Finding(title, OK, f"one frame of reach by {_rendered()}")
    except Exception as error:  # PyOpenGL fails in many ways where the library is missing
        if find_library(name) is None:
            yield Finding(title, MISSING, f"no lib{name}", f"apt-get install {package}")
        else:
            remedy = f"apt-get install --reinstall {package}; in a container on a GPU, NVIDIA_DRIVER_CAPABILITIES=all"
            yield Finding(title, PROBLEM, message(error), remedy)


def _rendered() -> str:
    """What drew a frame."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env: Any = ALL_V3_ENVIRONMENTS["reach-v3"](render_mode="rgb_array", camera_name="corner")
    env._set_task_called, env._freeze_rand_vec = True, False
    env.reset()
    assert env.render().std() > 0, "the frame is empty"
    from OpenGL import GL

    renderer: Any = GL.glGetString(GL.GL_RENDERER)
    return renderer.decode()
