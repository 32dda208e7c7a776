"""Fixtures of several rooms; what needs no fixture is in ``tests/helpers``."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from lit_mtrl.core.once import warn_once
from lit_mtrl.tracking.store import create_sqlite
from tests.helpers.command import run
from tests.helpers.processes import environment
from tests.helpers.users import become_nobody

# A shell starts what runs in the background deaf to Ctrl-C, and so would be every process that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Undo what a run in this process does to the package's log, and Hydra to that of all; nothing was said before."""
    warn_once.cache_clear()
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    for handler in {*root.handlers} - {*handlers}:  # which write to streams that this test's capture closes
        root.removeHandler(handler)
    root.setLevel(level)
    log = logging.getLogger("lit_mtrl")
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests in this process do not wait for the disk, whose state after a power cut they cannot see."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess]:
    """``cli("fit", ...)`` runs the command line in an empty folder, in this process, and says how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit_mtrl"])

    def command(*args: str) -> subprocess.CompletedProcess:
        with patch.dict(os.environ, environment()):
            return subprocess.CompletedProcess(args, *run(*args))

    return command


@pytest.fixture(scope="session")
def mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, to be copied: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    create_sqlite(path)
    return path


@pytest.fixture
def nobody() -> Callable[[], AbstractContextManager[None]]:
    """``with nobody():`` is another user, without root's rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    return become_nobody


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of this user that all can look into; pytest's are private."""
    folder = Path(tempfile.mkdtemp(prefix="lit_mtrl-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
