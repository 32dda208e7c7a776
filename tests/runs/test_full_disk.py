"""A full disk ends a run in one line, exit code 1; its last checkpoint stays, nothing half-written does, and it can be
continued.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_mtrl.callbacks.checkpoint import _sums
from lit_mtrl.cli.main import main
from lit_mtrl.core.files import replacing, trouble, write
from lit_mtrl.training.checkpoint import find
from tests.helpers.runs import LEAN, same_end

CONFIG = ("fit", "--config", "debug", *LEAN)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    libc, folder = ctypes.CDLL(None, use_errno=True), tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1m"):
        pytest.skip("no file system can be mounted here")
    yield folder
    libc.umount2(bytes(folder), 2)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves ``left`` bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "ballast").write_bytes(bytes(free - left))
    return folder / "ballast"


def lines(text: str) -> list[str]:
    return [line for line in text.replace("\r", "\n").splitlines() if "stopped at" in line or "error:" in line]


def left_over(run: Path) -> list[Path]:
    return [path for path in run.rglob("*") if path.name.endswith(".new")]


@pytest.mark.parametrize("left", [0, 4096, 8192, 20_480])
def test_the_disk_is_full(left: int, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """At whatever comes to be written when ``left`` bytes have been."""
    run = small_disk / "run"
    assert main([*CONFIG, f"output_dir={run}", "frames=120"]) == 0
    ballast = fill(small_disk, left)
    capsys.readouterr()
    code = main(["fit", "--resume", str(run), "frames=1200"])
    said = capsys.readouterr().err
    assert code == 1 and "Traceback" not in said and "Logging error" not in said, said
    (line,) = lines(said)
    assert "No space left on device" in line and line.endswith(f"free some, then continue with --resume {run}")
    found = find(run / "checkpoints", "")
    assert not left_over(run) and not found.notes
    ballast.unlink()
    end = f"frames={found.frames + 60}"
    assert main(["fit", "--resume", str(run), end]) == 0
    assert main([*CONFIG, f"output_dir={tmp_path}/whole", end]) == 0
    same_end(run, tmp_path / "whole")
    assert (run / "eval.csv").read_text() == (tmp_path / "whole" / "eval.csv").read_text()


def test_the_disk_is_full_before_the_run_begins(small_disk: Path, capsys: pytest.CaptureFixture) -> None:
    fill(small_disk, 0)
    code = main([*CONFIG, f"output_dir={small_disk}/a/run", "frames=120"])
    assert code in (1, 2) and len(lines(capsys.readouterr().err)) == 1
    assert not [path for path in small_disk.rglob("*.*") if path.name != "train.log"]


@pytest.mark.parametrize("limit", [3000, 20_000])
def test_a_file_may_not_grow(limit: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The same everywhere, by a limit of the process: of a replay's file, and of ``last.ckpt``."""
    run = tmp_path / "run"
    assert main([*CONFIG, f"output_dir={run}", "frames=120"]) == 0
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        code = main(["fit", "--resume", str(run), "frames=1200"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert code == 1 and "Traceback" not in said, said
    (line,) = lines(said)
    assert "File too large" in line
    assert not left_over(run) and find(run / "checkpoints", "").frames == 120


def test_a_folder_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr("lit_mtrl.callbacks.evaluation.Evaluation._begin", lambda *_: shutil.rmtree(run))
    assert main([*CONFIG, f"output_dir={run}", "frames=120"]) == 1
    (line,) = lines(capsys.readouterr().err)
    assert f"No such file or directory ({run}/" in line


def test_a_file_that_could_not_be_written_is_removed(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a", chunks())
    (tmp_path / "b").write_text("old")
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "b") as new:
        new.write_text("ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [path.name for path in tmp_path.iterdir()] == ["b"] and (tmp_path / "b").read_text() == "old"
    with replacing(tmp_path / "b") as new:
        new.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"] and (tmp_path / "b").read_text() == "new"


def test_only_errors_of_the_disk_are_said_without_a_traceback(tmp_path: Path) -> None:
    assert trouble(OSError(errno.ENOSPC, "x"), tmp_path) is not None
    assert trouble(FileNotFoundError(errno.ENOENT, "x", str(tmp_path / "eval.csv")), tmp_path) is not None
    assert trouble(FileNotFoundError(errno.ENOENT, "x", "/elsewhere"), tmp_path) is None
    assert trouble(ConnectionResetError(errno.ECONNRESET, "x"), tmp_path) is None
    assert trouble(ValueError("x"), tmp_path) is None


def test_all_is_on_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both halves of a checkpoint and the folders that name their files, before the first name changes."""
    synced: set[tuple[int, int]] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add((os.fstat(handle).st_dev, os.fstat(handle).st_ino)))
    rename, renamed = Path.rename, []

    def check(path: Path, target: Path) -> Path:
        if path.name == "last.new":
            for part in (path, *path.rglob("*"), path.parent / "last.ckpt.new"):
                assert (part.stat().st_dev, part.stat().st_ino) in synced, part
            renamed.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", check)
    assert main([*CONFIG, f"output_dir={tmp_path}/run", "frames=120"]) == 0
    assert len(renamed) == 2
    checkpoints = (tmp_path / "run" / "checkpoints").stat()
    assert (checkpoints.st_dev, checkpoints.st_ino) in synced
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["lit_mtrl"]["frames"] == 120


def test_every_rank_raises_what_one_met(tmp_path: Path) -> None:
    """Else the others would wait for it in vain."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    module: Any = SimpleNamespace(buffer=SimpleNamespace(dumps=lambda path: {"state.pt": [1, 2]}))
    ranks: Any = SimpleNamespace(rank=1, gather=lambda found: [{"replay/state.pt": [3, 4]}, found])
    assert _sums(module, tmp_path, ranks) == {"replay/state.pt": [3, 4], "replay.1/state.pt": [1, 2]}
    ranks.gather = lambda found: [pickle.loads(pickle.dumps(error)), found]
    with pytest.raises(OSError, match="No space"):
        _sums(module, tmp_path, ranks)
    module.buffer.dumps, ranks.gather = lambda path: write(tmp_path / "no" / "a", []), lambda found: [{}, found]
    with pytest.raises(FileNotFoundError):
        _sums(module, tmp_path, ranks)
