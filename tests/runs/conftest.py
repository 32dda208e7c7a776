"""What tests of sweeps share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lit_mtrl.runs.gpus import VISIBLE


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """``gpus(4)`` makes it so many here, or ``gpus(2, "5,7")`` those that are visible."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)

    def have(count: int, visible: str | None = None) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.delenv(VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)

    return have
