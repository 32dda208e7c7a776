"""One run's folder, started or continued by several processes at the same moment: one trains, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.processes import lock_file
from lit_mtrl.runs import lock as locks
from lit_mtrl.runs.folder import LOCK, require_free
from lit_mtrl.runs.lock import locked
from lit_mtrl.training.checkpoint import find
from tests.helpers import runs as lean
from tests.helpers.processes import environment
from tests.helpers.runs import read

LEAN = (*lean.LEAN, "frames=300")
MEET = """
import sys, time
from pathlib import Path
{imports}
from lit_mtrl.cli.main import main
there, all_there, count = Path(sys.argv[1]), Path(sys.argv[2]), {count}
def meet():
    there.touch()
    while len(list(there.parent.glob("*"))) < count:
        time.sleep(0.005)
{where}
sys.exit(main(sys.argv[3:]))
"""
"""A process that waits for the others just before it takes the lock, or just before it looks whether the folder is
free.
"""
BEFORE = {
    "the lock": (
        "import lit_mtrl.runs.lock as locks",
        "lock = locks.lock_file\nlocks.lock_file = lambda path: (meet(), lock(path))[1]",
    ),
    "the whole command": ("", "meet()"),
}


def at_once(folder: Path, where: str, count: int, *args: str) -> list[subprocess.CompletedProcess]:
    """``count`` processes run the command line with ``args`` and wait for each other before ``where``."""
    imports, hook = BEFORE[where]
    script = MEET.format(imports=imports, where=hook, count=count)
    (folder / "there").mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder / "there" / str(number)), "", *args],
            cwd=folder,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    done = [(process, process.communicate(timeout=300)[1]) for process in started]
    return [subprocess.CompletedProcess(args, process.returncode, "", text) for process, text in done]


def one_trained(done: list[subprocess.CompletedProcess], *refusals: str) -> None:
    assert sorted(process.returncode for process in done) == [0] + [2] * (len(done) - 1), [p.stderr for p in done]
    for process in done:
        if process.returncode:
            assert process.stderr.count("\n") == 1 and any(text in process.stderr for text in refusals), process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", BEFORE)
def test_eight_processes(where: str, tmp_path: Path) -> None:
    """They start one run, and continue it."""
    run = tmp_path / "run"
    for name in ("start", "continue"):
        (tmp_path / name).mkdir()
    start = at_once(tmp_path / "start", where, 8, "fit", "--config", "debug", *LEAN, f"output_dir={run}")
    one_trained(start, "another process is training there", "already holds a run")
    assert (run / "train.log").read_text().count("done at 300 frames") == 1
    more = at_once(tmp_path / "continue", where, 8, "fit", "--resume", str(run), "frames=600")
    one_trained(more, "another process is training there", "finished at 600 frames")
    assert [row["frames"] for row in read(run / "eval.csv")] == [str(f) for f in range(60, 601, 60) for _ in range(3)]
    frames = [int(row["frames"]) for row in read(run / "metrics.csv")]
    assert frames == sorted(frames) and frames[-1] == 600
    assert find(run / "checkpoints", "").frames == 600 and not find(run / "checkpoints", "").notes


def test_what_another_process_did_before_the_lock_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The worst moment: it starts, trains to its end and leaves, after this process was called and before it has the
    lock.
    """
    from lit_mtrl.cli.main import main

    run = tmp_path / "run"

    def late(path: Path):
        monkeypatch.setattr(locks, "lock_file", lock_file)
        assert main(["fit", "--config", "debug", *LEAN, f"output_dir={run}"]) == 0
        capsys.readouterr()
        return lock_file(path)

    monkeypatch.setattr(locks, "lock_file", late)
    assert main(["fit", "--config", "debug", *LEAN, f"output_dir={run}"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert find(run / "checkpoints", "").frames == 300


def test_what_another_process_continued_before_the_lock_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from lit_mtrl.cli.main import main

    run = tmp_path / "run"
    assert main(["fit", "--config", "debug", *LEAN, f"output_dir={run}"]) == 0

    def late(path: Path):
        monkeypatch.setattr(locks, "lock_file", lock_file)
        assert main(["fit", "--resume", str(run), "frames=420"]) == 0
        return lock_file(path)

    monkeypatch.setattr(locks, "lock_file", late)
    assert main(["fit", "--resume", str(run), "frames=480"]) == 0
    assert [row["frames"] for row in read(run / "eval.csv")] == [str(f) for f in range(60, 481, 60) for _ in range(3)]
    text = (run / "train.log").read_text()
    assert "dropped" not in text and "420 frames: evaluation" in text and "480 frames: evaluation" in text


@pytest.mark.parametrize("there", [(), ("mine",), ("mine/run",)])
def test_nothing_is_left_behind_when_refused(there: tuple[str, ...], tmp_path: Path) -> None:
    for name in there:
        (tmp_path / name).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    run = tmp_path / "mine" / "run"
    with pytest.raises(ConfigError, match="wrong"), locked(run):
        assert (run / LOCK).exists()
        raise ConfigError("wrong")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(KeyboardInterrupt), locked(run):
        raise KeyboardInterrupt
    assert sorted(tmp_path.rglob("*")) == before


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), locked(tmp_path / "a" / "run"):
        (tmp_path / "a" / "notes").touch()
        raise ConfigError("wrong")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["a", "notes"]
    with locked(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "config.yaml").touch()
    with pytest.raises(ConfigError), locked(tmp_path / "a" / "run"):
        raise ConfigError("wrong")
    assert (tmp_path / "a" / "run" / LOCK).exists()  # of a run that was there before


def test_a_lock_that_another_process_removes_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused, and takes away what it had made between our opening of the file and our locking of it."""
    calls = []

    def removed(path: Path):
        lock = lock_file(path)
        if not calls:
            path.unlink()
            path.parent.rmdir()
        calls.append(os.fstat(lock.fileno()).st_ino)
        return lock

    monkeypatch.setattr(locks, "lock_file", removed)
    with locked(tmp_path / "run"):
        assert len(calls) == 2 and (tmp_path / "run" / LOCK).stat().st_ino == calls[-1]
        with pytest.raises(BlockingIOError):
            lock_file(tmp_path / "run" / LOCK)


def test_threads_that_are_refused_and_one_that_is_not(tmp_path: Path) -> None:
    """Never two at a time, whatever is made and removed meanwhile."""
    inside, most, trained = [], [], []
    run = tmp_path / "a" / "run"

    def attempt(good: bool) -> None:
        for _ in range(200):
            try:
                with ExitStack() as stack:
                    stack.enter_context(locked(run))
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    if not good:
                        raise ConfigError("wrong")
                    trained.append(1)
            except ConfigError as error:
                assert "wrong" in str(error) or "another process" in str(error)

    threads = [threading.Thread(target=attempt, args=(number == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and trained


@pytest.mark.parametrize("kind", ["folder", "dangling", "file"])
def test_where_there_can_be_no_lock(kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if kind == "folder":
        (run / LOCK).mkdir(parents=True)
    elif kind == "dangling":
        run.symlink_to(tmp_path / "nowhere")
    else:
        run.touch()
    with pytest.raises(ConfigError, match=f"output_dir={run}: ") as caught, locked(run):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "train.log", "metrics.csv", "eval.csv"])
def test_a_folder_where_a_file_should_be(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name}: (a folder|no file,) where the run's"):
        require_free(tmp_path)


def test_only_the_first_rank_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_mtrl.cli import commands
    from lit_mtrl.cli.main import main

    monkeypatch.setenv("LOCAL_RANK", "1")
    trained = []
    monkeypatch.setattr(commands, "_train", lambda cfg, saved: trained.append(cfg.output_dir) or 0)
    run = tmp_path / "run"
    with locked(run):
        command = ["fit", "--config", "debug", "trainer.devices=2", "trainer.accelerator=cpu", f"output_dir={run}"]
        assert main(command) == 0 and trained == [str(run)]
        monkeypatch.delenv("LOCAL_RANK")
        assert main(command) == 2
