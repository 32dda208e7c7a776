"""Standard streams that are closed, or that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import environment


def shell(folder: Path, command: str) -> subprocess.CompletedProcess:
    """``command`` of a shell, in which ``lit_mtrl`` is the command line."""
    text = f'lit_mtrl() {{ "{sys.executable}" -m lit_mtrl "$@"; }}\n{command}'
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("command", ["list", "params --config debug"])
def test_a_pipe_that_nobody_reads(command: str, tmp_path: Path) -> None:
    """As in ``lit_mtrl list | head -1``."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "lit_mtrl", *command.split()],
        cwd=tmp_path,
        env=environment(),
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, "")


def test_files_do_not_become_standard_streams(tmp_path: Path) -> None:
    ask = "from lit_mtrl.cli.main import main; main(['list']); import os; "
    ask += "print(os.open('x', os.O_CREAT), file=open('y', 'w'))"
    done = shell(tmp_path, f'"{sys.executable}" -c "{ask}" <&- >&- 2>&-')
    assert done.returncode == 0
    assert int((tmp_path / "y").read_text()) > 2


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-", "2>&1 | true", "2>/dev/full"])
def test_training_needs_no_standard_streams(closed: str, tmp_path: Path) -> None:
    """Of this process and its workers."""
    workers = "collector.workers=2 eval.workers=2"
    done = shell(tmp_path, f"set -o pipefail; lit_mtrl fit --config debug output_dir=run {workers} {closed}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert "done at 600 frames" in (tmp_path / "run" / "train.log").read_text()
