"""Stores that go away, processes that are killed, damaged queues: MLflow has every point exactly once, and runs end."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_mtrl.core.tables import keep_rows_until
from lit_mtrl.tracking import mlflow as logger_module
from lit_mtrl.tracking import queue, sender
from lit_mtrl.tracking.csv import CSVLogger
from lit_mtrl.tracking.mlflow import MLflowLogger
from lit_mtrl.tracking.queue import QUEUE, Queue, unsent


class Store:
    """As much of MLflow as a run needs. Like MLflow, it keeps a point with the same name, step, time and value once."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, int, int, float], None] = {}
        self.files: dict[tuple[str, str | None], bytes] = {}
        self.status: dict[str, str] = {}
        self.down = self.loses_answers = False
        self.refuses = ""
        self.hangs: threading.Event | None = None

    def answer(self) -> None:
        if self.hangs:
            self.hangs.wait(20)
        if self.down:
            raise OSError("connection refused\nand more")

    def create_run(self, *_: object, **__: object) -> Any:
        self.answer()
        run_id = f"run{len(self.status)}"
        self.status[run_id] = "RUNNING"
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id: str, status: str) -> None:
        self.answer()
        self.status[run_id] = status

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self.answer()
        if run_id not in self.status:
            error = OSError("no such run")
            error.error_code = "RESOURCE_DOES_NOT_EXIST"  # pyright: ignore[reportAttributeAccessIssue]
            raise error
        self.status[run_id] = status

    def log_batch(self, run_id: str, metrics: Any = (), **_: object) -> None:
        self.answer()
        assert run_id in self.status and len(metrics) <= 1000
        self.points.update(dict.fromkeys((m.key, m.step, m.timestamp, m.value) for m in metrics))
        if self.loses_answers and metrics:
            self.loses_answers = False
            raise OSError("timed out")

    def log_artifact(self, run_id: str, path: str, into: str | None) -> None:
        self.answer()
        if self.refuses and path.endswith(self.refuses):
            raise OSError("413 request entity too large")
        self.files[Path(path).name, into] = Path(path).read_bytes()

    def get_run(self, run_id: str) -> Any:
        self.answer()
        return SimpleNamespace(data=SimpleNamespace(metrics=dict.fromkeys(key for key, *_ in self.points)))

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=s, timestamp=t, value=v) for k, s, t, v in self.points if k == key]

    def steps(self, key: str) -> list[int]:
        """Steps of the points of a metric, in the order in which they came."""
        return [step for name, step, *_ in self.points if name == key]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def start(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loggers]:
    """``start(done=...)``: the loggers of a run in this test's folder, which continue it if it has been started."""
    monkeypatch.setattr(sender, "PAUSES", (0.01,))
    monkeypatch.setattr(logger_module, "FLUSH", 3.0)
    monkeypatch.setattr(logger_module, "BRIEF", 0.3)

    def opened(logger: Any) -> str:
        store.answer()
        logger._client = store
        return "1"

    monkeypatch.setattr(MLflowLogger, "_open", opened)

    def begin(done: int = 0, run_id: str | None = None, folder: Path = tmp_path) -> Loggers:
        logger = MLflowLogger("http://server", "mt10", "run", {}, {}, folder, run_id=run_id, done=done)
        logger.connect()
        keep_rows_until(folder / "metrics.csv", done)
        return Loggers(CSVLogger(folder), logger)

    return begin


class Loggers:
    """Both loggers of a run, as training uses them."""

    def __init__(self, table: CSVLogger, mlflow: MLflowLogger):
        self.table, self.mlflow = table, mlflow

    def log(self, steps: range) -> None:
        for step in steps:
            for logger in (self.table, self.mlflow):
                logger.log_metrics({"loss": step / 7, "norm[w]": 1.0}, step=step)

    def failing(self) -> bool:
        return self.mlflow._sender is not None and self.mlflow._sender._failures > 4

    def kill(self) -> None:
        """As SIGKILL does: nothing is sent or written any more."""
        atexit.unregister(self.mlflow.finalize)
        sender, self.mlflow._sender = self.mlflow._sender, None
        assert sender is not None
        sender._stopped.set()
        sender._closing.set()
        sender.wake()
        sender._thread.join(10)
        assert not sender._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("away", [range(0, 3), range(4, 7), range(7, 10)], ids=["beginning", "middle", "end"])
def test_store_that_goes_away_and_comes_back(
    away: range, store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = start()
    for part in range(10):
        store.down = part in away
        loggers.log(range(100 * part, 100 * part + 100, 10))
        if part == away[-1]:
            until(loggers.failing)
    threading.Timer(0.1, lambda: setattr(store, "down", False)).start()
    loggers.mlflow.finalize("success")
    assert store.steps("loss") == store.steps("norm_w_") == [*range(0, 1000, 10)]
    assert store.status == {"run0": "FINISHED"} and not unsent(tmp_path) and loggers.mlflow.left == 0
    (message,) = messages(caplog)
    assert "training goes on, and what it lacks waits in" in message and message.endswith("OSError: connection refused")


def test_store_that_stays_away_is_told_later(
    store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = start()
    (tmp_path / "eval.csv").write_text("frames\n")
    loggers.log(range(0, 100, 10))
    until(lambda: len(store.points) == 20)
    store.down = True
    loggers.log(range(100, 200, 10))
    loggers.mlflow.log_artifact(tmp_path / "eval.csv")
    loggers.mlflow.finalize("success")
    assert loggers.mlflow.left == 22 and unsent(tmp_path) and store.status == {"run0": "RUNNING"}
    assert f"lacks 22 points, files or its end, kept in {tmp_path}/mlflow.queue; once" in messages(caplog)[-1]
    assert messages(caplog)[-1].endswith(f"lit_mtrl fit --resume {tmp_path}")
    store.down = False
    again = start(done=190, run_id="run0")
    again.mlflow.finalize("success")
    assert store.steps("loss") == [*range(0, 200, 10)] and store.files[("eval.csv", None)]
    assert store.status == {"run0": "FINISHED"} and not unsent(tmp_path)


@pytest.mark.parametrize("down", [False, True])
def test_killed_twice_beyond_its_checkpoints(
    down: bool, store: Store, start: Callable[..., Loggers], tmp_path: Path
) -> None:
    first = start()
    first.log(range(0, 60, 10))
    store.down = down
    first.log(range(60, 80, 10))
    first.kill()
    store.down = False
    for end, checkpoint in ((90, 40), (130, 70)):
        later = start(done=checkpoint, run_id="run0")
        assert store.status == {"run0": "RUNNING"}
        later.log(range(checkpoint + 10, end, 10))
        store.down = down
        later.kill()
        store.down = False
    last = start(done=120, run_id="run0")
    last.log(range(130, 200, 10))
    last.mlflow.finalize("success")
    assert sorted(store.steps("loss")) == sorted(store.steps("norm_w_")) == [*range(0, 200, 10)]
    values = {step: value for key, step, _, value in store.points if key == "loss"}
    assert values == {step: row["loss"] for step, row in queue.logged(tmp_path / "metrics.csv")}
    assert store.status == {"run0": "FINISHED"} and not unsent(tmp_path)


def test_answer_that_is_lost(store: Store, start: Callable[..., Loggers]) -> None:
    """The store has taken what is sent again: it is the same points, at the same times."""
    loggers = start()
    store.loses_answers = True
    loggers.log(range(0, 50, 10))
    loggers.mlflow.finalize("success")
    assert not store.loses_answers and store.steps("loss") == [*range(0, 50, 10)]


def test_what_is_logged_while_the_queue_is_found_empty_is_sent(
    store: Store, start: Callable[..., Loggers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends, too, before the sender has understood that it found nothing."""
    loggers, read, found_nothing = start(), Queue.read, threading.Event()
    sends = loggers.mlflow._sender
    assert sends is not None

    def slow_to_return(queue: Queue, at: int) -> Any:
        found = read(queue, at)
        if not found[0]:
            found_nothing.set()
            assert sends._closing.wait(10)
        return found

    loggers.log(range(0, 50, 10))
    until(lambda: len(store.points) == 10)
    monkeypatch.setattr(Queue, "read", slow_to_return)
    sends.wake()
    assert found_nothing.wait(10)
    loggers.log(range(50, 60, 10))
    loggers.mlflow.finalize("success")
    assert store.steps("loss") == store.steps("norm_w_") == [*range(0, 60, 10)]
    assert store.status == {"run0": "FINISHED"} and not unsent(tmp_path)


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[: data.index(b"\n") + 1],
        lambda data: data[:-5],
        flip,
        lambda data: data.replace(b'"step":110,', b'"step":111,'),
        lambda data: data.replace(b'"loss":15.7', b'"loss":25.7'),
        lambda data: b"\x00" * len(data),
        None,
    ],
    ids=["empty", "half", "first line", "cut", "bit", "step", "value", "zeros", "removed"],
)
@pytest.mark.parametrize("down", [False, True])
def test_damaged_queue(
    damage: Callable[[bytes], bytes] | None,
    down: bool,
    store: Store,
    start: Callable[..., Loggers],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loggers = start()
    loggers.log(range(0, 100, 10))
    until(lambda: len(store.points) == 20)
    store.down = down
    loggers.log(range(100, 200, 10))
    if not down:
        until(lambda: len(store.points) == 40)
    loggers.kill()
    store.down = False
    path = tmp_path / QUEUE
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    again = start(done=140, run_id="run0")
    again.log(range(150, 300, 10))
    again.mlflow.finalize("success")
    assert sorted(store.steps("loss")) == sorted(store.steps("norm_w_")) == [*range(0, 300, 10)]
    assert all(value == step / 7 for key, step, _, value in store.points if key == "loss")
    assert store.status == {"run0": "FINISHED"} and not unsent(tmp_path)
    assert len([message for message in messages(caplog) if "made anew" in message]) <= 1


def test_file_that_is_refused_holds_nothing_up(
    store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuses = "last.ckpt"
    loggers = start()
    for name in ("last.ckpt", "eval.csv"):
        (tmp_path / name).write_text(name)
        loggers.mlflow.log_artifact(tmp_path / name, "checkpoints")
    loggers.mlflow.log_artifact(tmp_path / "gone.csv")
    loggers.log(range(0, 50, 10))
    loggers.mlflow.finalize("success")
    assert store.steps("loss") == [*range(0, 50, 10)] and store.status == {"run0": "FINISHED"}
    assert store.files == {("eval.csv", "checkpoints"): b"eval.csv"} and loggers.mlflow.left == 1
    assert "last.ckpt cannot be uploaded, and is tried again: OSError: 413" in messages(caplog)[0]
    assert "gone.csv has not been sent: it is no longer there" in messages(caplog)[1] and len(messages(caplog)) == 3
    store.refuses = ""
    start(done=40, run_id="run0").mlflow.finalize("success")
    assert store.files[("last.ckpt", "checkpoints")] and not unsent(tmp_path)


def test_files_from_elsewhere_are_not_sent_for_an_earlier_process(
    store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, disk = tmp_path / "elsewhere" / "secret", tmp_path / "disk" / "best.ckpt"
    for path in (secret, disk):
        path.parent.mkdir()
        path.write_text(path.name)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(disk.parent)
    (tmp_path / "run" / "link").symlink_to(secret)
    loggers = start(folder=tmp_path / "run")
    loggers.kill()
    own = Queue(tmp_path / "run" / QUEUE)
    own.append(*({"file": file, "into": None} for file in ("../elsewhere/secret", str(secret), "link")))
    own.append({"file": "checkpoints/best.ckpt", "into": None}, {"sent": 0, "files": [["../elsewhere/secret", "x"]]})
    again = start(done=0, run_id="run0", folder=tmp_path / "run")
    again.mlflow.log_artifact(secret, "asked for")
    again.mlflow.finalize("success")
    assert store.files == {("best.ckpt", None): b"best.ckpt", ("secret", "asked for"): b"secret"}
    assert sum("is not in the run's folder, and is not sent" in message for message in messages(caplog)) == 4


@pytest.mark.parametrize(
    "entry",
    [
        5,
        [],
        {},
        {"run": 5},
        {"run": ""},
        {"step": 1},
        {"metrics": 5, "step": 1, "time": 1},
        {"metrics": {"loss": "high"}, "step": 1, "time": 1},
        {"metrics": {"loss": 1.0}, "step": "1", "time": 1},
        {"sent": -5, "files": []},
        {"sent": 1e300, "files": []},
        {"sent": 0, "files": 5},
        {"sent": 0, "files": [["a"]]},
        {"file": 5, "into": None},
        {"end": "NONSENSE", "time": 1, "of": "run0"},
        {"end": "FINISHED"},
    ],
    ids=str,
)
def test_lines_that_no_run_writes_make_the_queue_anew(
    entry: Any, store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = start()
    loggers.log(range(0, 30, 10))
    until(lambda: len(store.points) == 6)
    loggers.kill()
    Queue(tmp_path / QUEUE).append(entry)
    assert Queue(tmp_path / QUEUE).load() is None and unsent(tmp_path)
    start(done=20, run_id="run0").mlflow.finalize("success")
    assert store.steps("loss") == [0, 10, 20] and store.status == {"run0": "FINISHED"} and not unsent(tmp_path)
    assert "made anew" in messages(caplog)[0] and len(messages(caplog)) == 1


def test_files_while_the_store_is_away(
    store: Store, start: Callable[..., Loggers], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = start()
    (tmp_path / "eval.csv").write_text("frames\n")
    store.down = True
    loggers.mlflow.log_artifact(tmp_path / "eval.csv")
    until(loggers.failing)
    (tmp_path / "eval.csv").write_text("frames\n300\n")
    store.down = False
    loggers.mlflow.finalize("success")
    assert store.files == {("eval.csv", None): b"frames\n300\n"} and "cannot be uploaded" not in caplog.text


def test_training_does_not_wait_for_a_store_that_hangs(store: Store, start: Callable[..., Loggers]) -> None:
    loggers = start()
    store.hangs = threading.Event()
    begin = time.perf_counter()
    for step in range(2000):
        loggers.mlflow.log_metrics({"loss": 1.0}, step=step)
    loggers.mlflow.finalize("success")
    assert time.perf_counter() - begin < 5 and loggers.mlflow.left == 2001
    store.hangs.set()


def test_replaced_runs_are_ended(store: Store, start: Callable[..., Loggers], tmp_path: Path) -> None:
    """Runs that died in this folder before their first checkpoint become KILLED, also where the store was away, and
    what ended stays.
    """
    start().mlflow.finalize("failed")
    start().kill()
    second = start()
    store.down = True
    second.kill()
    store.down = False
    path = tmp_path / QUEUE
    path.write_bytes(path.read_bytes() + b"garbage")
    third = start()
    third.mlflow.finalize("success")
    assert store.status == {"run0": "FAILED", "run1": "KILLED", "run2": "KILLED", "run3": "FINISHED"}
    store.status.pop("run3")
    queue = Queue(path)
    queue.append({"run": "run3"})  # continued, and then removed from the store
    start().mlflow.finalize("success")
    assert store.status["run3"] == "FINISHED" and not unsent(tmp_path)


def test_an_end_that_was_not_sent_is_void_once_the_run_is_continued(
    store: Store, start: Callable[..., Loggers]
) -> None:
    loggers = start()
    store.down = True
    loggers.log(range(0, 50, 10))
    loggers.mlflow.finalize("killed")
    store.down = False
    ends: list[str] = []
    original = store.set_terminated
    store.set_terminated = lambda run, status, end_time: (ends.append(status), original(run, status, end_time))[1]  # type: ignore[method-assign]
    again = start(done=40, run_id="run0")
    again.log(range(50, 90, 10))
    again.mlflow.finalize("success")
    assert ends == ["FINISHED"] and store.steps("loss") == [*range(0, 90, 10)]


def test_points_only_in_metrics_csv_are_sent(store: Store, start: Callable[..., Loggers], tmp_path: Path) -> None:
    """A process may be killed between its two loggers; and a run may have begun without MLflow."""
    table = CSVLogger(tmp_path)
    for step in range(0, 50, 10):
        table.log_metrics({"loss": 1.0}, step=step)
    start(done=30).mlflow.finalize("success")
    assert store.steps("loss") == [0, 10, 20, 30]
    table.log_metrics({"loss": 1.0}, step=40)
    start(done=40, run_id="run0").mlflow.finalize("success")
    assert store.steps("loss") == [0, 10, 20, 30, 40]
