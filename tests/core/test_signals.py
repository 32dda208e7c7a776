"""How runs end that are told to: exit code, last line, and nothing left; and how processes start that are not to be
told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lit_mtrl.core.signals import ENDING, Ended, ended_by_signals, raise_if_told, starting_processes
from lit_mtrl.training.checkpoint import find
from tests.helpers import processes
from tests.helpers.processes import any_left, fit, wait_for

LONG = ("--config", "debug", "frames=300_000", "~callbacks.progress", "eval.workers=2")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    old = {signum: signal.signal(signum, signal.SIG_DFL) for signum in ENDING}
    yield
    for signum, handler in old.items():
        signal.signal(signum, handler)


def start(folder: Path, *args: str) -> subprocess.Popen:
    """A command that no signal is kept from."""

    def reset() -> None:
        for signum in ENDING:
            signal.signal(signum, signal.SIG_DFL)

    return processes.start(folder, *args, stdout=subprocess.PIPE, preexec_fn=reset)


def wait_until_there(path: Path, process: subprocess.Popen) -> None:
    wait_for(lambda: path.exists() or process.poll() is not None, 120)
    assert path.exists(), process.communicate()


def ended(process: subprocess.Popen) -> list[str]:
    """Lines of standard error; no process is left, and none of them complained."""
    out, said = process.communicate(timeout=120)
    assert out == ""
    assert "Traceback" not in said and "leaked" not in said and "KeyError" not in said, said
    assert wait_for(lambda: not any_left(process.pid), 10)
    assert not list(Path("/dev/shm").glob(f"torch_{process.pid}_*"))
    return said.splitlines()


@pytest.mark.parametrize("signum", ENDING)
def test_a_signal_is_an_exception_once(signum: signal.Signals) -> None:
    done = []
    with pytest.raises(Ended) as error, ended_by_signals():
        try:
            signal.raise_signal(signum)
        finally:
            signal.raise_signal(signal.SIGINT)  # impatience does not disturb the cleaning up
            done.append("cleaned up")
    assert done and str(error.value) == SAID[signum] and error.value.code == CODES[signum]
    signal.raise_signal(signal.SIGINT)  # nor the interpreter's own


def test_a_lost_exception_is_raised_again() -> None:
    raise_if_told()
    with pytest.raises(Ended) as error, ended_by_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:  # as a library may have it
            pass
        with ended_by_signals(at_once=False) as came:
            assert came == [signal.SIGTERM]
            raise_if_told()
    assert error.value.code == 143
    raise_if_told()


def test_python_says_nothing_of_a_signals_exception_that_it_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of others it does."""

    class Loses:
        def __init__(self, act: Callable[[], object]):
            self.act = act

        def __del__(self) -> None:
            self.act()

    told: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    hook = sys.unraisablehook
    with pytest.raises(Ended), ended_by_signals():
        Loses(lambda: signal.raise_signal(signal.SIGTERM))
        Loses(lambda: 1 / 0)
        raise_if_told()
    assert told == [ZeroDivisionError] and sys.unraisablehook is hook


def test_handlers_come_back() -> None:
    before = [signal.getsignal(signum) for signum in ENDING]
    with ended_by_signals():
        assert signal.getsignal(signal.SIGHUP) not in before
    with pytest.raises(ValueError, match="as it was"), ended_by_signals():
        raise ValueError("as it was")
    assert [signal.getsignal(signum) for signum in ENDING] == before


def test_what_is_ignored_stays_ignored() -> None:
    """As under ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_by_signals() as came:
        signal.raise_signal(signal.SIGHUP)
    assert not came


def test_the_second_signal_where_the_first_is_waited_with() -> None:
    with pytest.raises(Ended, match="ended by SIGTERM"), ended_by_signals(at_once=False) as came:
        signal.raise_signal(signal.SIGTERM)
        assert came == [signal.SIGTERM]
        signal.raise_signal(signal.SIGINT)


def test_what_fails_after_a_signal_has_been_ended_by_it() -> None:
    """Other processes may have got it, too."""
    with pytest.raises(Ended, match="ended by SIGTERM"), ended_by_signals(at_once=False):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a worker has died")


def test_processes_that_a_terminal_does_not_reach() -> None:
    ask = "import signal; print(*sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    with pytest.raises(Ended), ended_by_signals():
        with starting_processes():
            signal.raise_signal(signal.SIGTERM)  # waits
            child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        pytest.fail("the signal has been lost")
    assert child.stdout == "SIGHUP SIGINT\n"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_interrupt(tmp_path: Path) -> None:
    """Twice, and to all processes, as by Ctrl-C; the last checkpoint stays."""
    run = tmp_path / "run"
    process = start(tmp_path, "fit", *LONG, "collector.workers=2", f"output_dir={run}")
    wait_until_there(run / "checkpoints" / "last.ckpt", process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    said = ended(process)
    assert process.returncode == 130
    assert said[0].startswith("lit_mtrl ") and said[-1].startswith("interrupted at ")
    assert all("frames: evaluation success" in line for line in said[1:-1])
    assert (run / "train.log").read_text().rstrip().endswith(said[-1])
    assert find(run / "checkpoints", "").notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to_all", [False, True], ids=["one", "all"])
def test_other_signals(signum: signal.Signals, to_all: bool, tmp_path: Path) -> None:
    """To one process, or to all, as a closed terminal and systemd do."""
    import mlflow

    run, store = tmp_path / "run", f"sqlite:///{tmp_path}/store.db"
    logged = ("logger=mlflow", f"logger.tracking_uri={store}", "collector.workers=2")
    process = start(tmp_path, "fit", *LONG, *logged, f"output_dir={run}")
    wait_until_there(run / "checkpoints" / "last.ckpt", process)
    (os.killpg if to_all else os.kill)(process.pid, signum)
    said = ended(process)
    assert process.returncode == CODES[signum]
    assert said[-1].startswith(f"{SAID[signum]} at ")
    client = mlflow.MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("debug").experiment_id])  # pyright: ignore
    assert found.info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2, 4, 6, 8, 10, 12])
def test_an_interrupt_while_everything_starts(seconds: float, tmp_path: Path) -> None:
    """Imports, collecting processes, evaluating processes."""
    process = start(tmp_path, "fit", *LONG, "collector.workers=3", "eval.workers=4", "output_dir=run")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130
    assert said[-1].startswith("interrupted")


@pytest.mark.slow
@pytest.mark.parametrize("signum", ENDING)
def test_several_ranks(signum: signal.Signals, tmp_path: Path) -> None:
    """What a terminal sends reaches all of them; SIGTERM, the first. They stop at the same place, and one speaks."""
    run = tmp_path / "run"
    process = start(tmp_path, "fit", *LONG, "trainer.devices=2", "trainer.accelerator=cpu", f"output_dir={run}")
    wait_until_there(run / "checkpoints" / "last.ckpt", process)
    (os.kill if signum == signal.SIGTERM else os.killpg)(process.pid, signum)
    said = ended(process)
    assert process.returncode == CODES[signum]
    assert said[-1].startswith(f"{SAID[signum]} at ") and len([line for line in said if SAID[signum] in line]) == 1


@pytest.mark.slow
def test_an_interrupt_of_an_evaluation(tmp_path: Path) -> None:
    assert fit(tmp_path, "--config", "debug", "output_dir=run").returncode == 0
    long = ("test", "--ckpt", "run/checkpoints/last.ckpt", "eval.workers=2", "eval.episodes=200000")
    process = start(tmp_path, *long)
    time.sleep(12)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == ["interrupted"]
    assert process.returncode == 130
