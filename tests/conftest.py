"""Shared by all tests: a way to run the command line as a user does, and folders to run it in."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True)
def own_log():
    """Undo what a run in this process does to the package's log."""
    yield
    log = logging.getLogger("lit_mtrl")
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch):
    """Tests in this process do not wait for the disk, whose state after a power cut they cannot see."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def cli(tmp_path: Path):
    """``cli("fit", ...)`` runs ``python -m lit_mtrl`` in an empty folder and returns the finished process."""

    def run(*args: str, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "lit_mtrl", *args],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,  # pyright: ignore[reportArgumentType]
        )

    return run


def environment() -> dict[str, str]:
    """Of a subprocess that imports this checkout, on one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
