"""Importing MuJoCo where nothing is drawn."""

from __future__ import annotations

import os


def import_mujoco() -> None:
    """Also where the library that MUJOCO_GL names is missing."""
    try:
        import mujoco
    except Exception:  # PyOpenGL fails in many ways
        wanted = os.environ.get("MUJOCO_GL")
        os.environ["MUJOCO_GL"] = "disabled"
        try:
            import mujoco  # noqa: F401
        finally:
            if wanted is None:
                del os.environ["MUJOCO_GL"]
            else:
                os.environ["MUJOCO_GL"] = wanted
