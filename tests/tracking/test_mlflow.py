"""MLflow and CSV loggers: what goes in comes out, in order; stores that cannot work fail at once and in one line."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lit_mtrl.tracking.store
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.tables import keep_rows_until
from lit_mtrl.report import read_mlflow
from lit_mtrl.tracking import sender
from lit_mtrl.tracking.csv import CSVLogger
from lit_mtrl.tracking.mlflow import MLflowLogger
from lit_mtrl.tracking.store import checked_uri, client_uri, import_mlflow
from tests.helpers.runs import read

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:DeprecationWarning"
    ),  # MLflow's use of SQLAlchemy
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # the forked jobs
]

PARAMS = {
    "seed": 3,
    "algo.gamma": 0.99,
    "algo.widths": [400, 400],
    "algo.note": "x" * 900,
    **{f"many.key{i}": i for i in range(250)},
}


@pytest.fixture
def make(mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MLflowLogger]:
    """A connected logger on a store of this test's own; ``uri``, ``run_id`` and so on can be given."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    shutil.copyfile(mlflow_db, tmp_path / "mlflow.db")
    (tmp_path / "config.yaml").write_text("seed: 3\n")

    def build(uri: str | None = None, experiment: str = "mt10", **more: Any) -> MLflowLogger:
        uri = uri or f"sqlite:///{tmp_path}/mlflow.db"
        logger = MLflowLogger(
            uri, experiment, "sac-s3", {"method": "sac", "benchmark": "mt10"}, PARAMS, tmp_path, **more
        )
        logger.connect()
        return logger

    return build


def client(tmp_path: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def history(tmp_path: Path, logger: MLflowLogger, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client(tmp_path).get_metric_history(logger.run_id, key)]


def test_round_trip(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    logger = make()
    logger.log_metrics({"eval/success": 0.5, "alpha/door-open": 1, "bad[name]": 2.0}, step=2**40)
    logger.log_metrics({"loss/critic": math.nan, "loss/actor": -math.inf}, step=0)
    (tmp_path / "plot.txt").write_text("figure")
    logger.log_artifact(tmp_path / "plot.txt", "figures")
    logger.finalize("success")
    run = client(tmp_path).get_run(logger.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "sac-s3"
    assert (logger.name, logger.version) == ("mt10", run.info.run_id)
    assert run.data.tags["method"] == "sac" and run.data.tags["benchmark"] == "mt10"
    assert run.data.params["algo.gamma"] == "0.99" and run.data.params["algo.widths"] == "[400, 400]"
    assert run.data.params["algo.note"] == "x" * 500 and run.data.params["many.key249"] == "249"
    assert len(run.data.params) == 254
    assert history(tmp_path, logger, "eval/success") == [(2**40, 0.5)]
    assert run.data.metrics["bad_name_"] == 2.0 and math.isnan(run.data.metrics["loss/critic"])
    assert run.data.metrics["loss/actor"] < -1e300
    files = tmp_path / "mlartifacts"
    assert next(files.rglob("config.yaml")).read_text() == "seed: 3\n"
    assert next(files.rglob("figures/plot.txt")).read_text() == "figure"


def test_chunks_in_order(make: Callable[..., MLflowLogger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, sizes, steps = make(), [], []
    send = logger._client.log_batch

    def spy(run_id: str, metrics: list) -> None:
        assert threading.current_thread().name == "mlflow"
        sizes.append(len(metrics))
        steps.extend(metric.step for metric in metrics)
        send(run_id, metrics=metrics)

    monkeypatch.setattr(logger._client, "log_batch", spy)
    logger.log_metrics({f"m{i}": i for i in range(2300)}, step=7)
    for step in range(8, 20):
        logger.log_metrics({"m0": step}, step=step)
    logger.finalize("finished")
    assert sizes[:2] == [1000, 1000] and sum(sizes) == 2312 and steps == [7] * 2300 + [*range(8, 20)]
    assert history(tmp_path, logger, "m0") == [(7, 0.0)] + [(s, float(s)) for s in range(8, 20)]
    assert history(tmp_path, logger, "m2299") == [(7, 2299.0)]


def test_continues_a_run(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    first = make()
    first.log_metrics({"a": 1.0}, step=10)
    first.finalize("failed")
    assert client(tmp_path).get_run(first.run_id).info.status == "FAILED"
    second = make(run_id=first.run_id, experiment="other")
    assert client(tmp_path).get_run(first.run_id).info.status == "RUNNING"
    second.log_metrics({"a": 2.0}, step=20)
    second.finalize("success")
    assert second.run_id == first.run_id and history(tmp_path, first, "a") == [(10, 1.0), (20, 2.0)]
    assert client(tmp_path).get_run(first.run_id).info.status == "FINISHED"
    assert client(tmp_path).get_experiment_by_name("other") is None


def test_run_of_another_store(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^logger.tracking_uri=sqlite.*0123456789abcdef"):
        make(run_id="0123456789abcdef" * 2)
    with pytest.raises(ConfigError, match="no such file, yet the checkpoint's run 01 "):
        make(uri=f"sqlite:///{tmp_path}/none.db", run_id="01")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("status", ["success", "finished", "failed", "killed", "interrupt"])
def test_final_status(make: Callable[..., MLflowLogger], tmp_path: Path, status: str) -> None:
    logger = make()
    sender = logger._sender
    assert sender is not None and sender._thread.is_alive()
    if status == "interrupt":
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            logger.finalize("failed")
    else:
        logger.finalize(status)
    logger.finalize("success")
    logger.log_metrics({"late": 1.0}, step=1)
    expected = {"failed": "FAILED", "killed": "KILLED", "interrupt": "KILLED"}.get(status, "FINISHED")
    run = client(tmp_path).get_run(logger.run_id)
    assert run.info.status == expected and "late" not in run.data.metrics
    assert not sender._thread.is_alive()


@pytest.mark.parametrize("uri", ["file:/tmp/x", "file:///tmp/x", "mlruns", "./mlruns", "/tmp/mlruns", "sqlite:///"])
def test_plain_folders_are_rejected(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^logger.tracking_uri=.*use sqlite:///PATH .* http://") as error:
        MLflowLogger(uri, "mt10", "run", {}, {}, tmp_path)
    assert "\n" not in str(error.value)


def test_unreachable_server(make: Callable[..., MLflowLogger]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        start = time.perf_counter()
        with pytest.raises(ConfigError, match=r"^logger.tracking_uri=http://127") as error:
            make(uri=uri)
    assert time.perf_counter() - start < 10
    assert "\n" not in str(error.value)


def test_server_that_does_not_answer(make: Callable[..., MLflowLogger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lit_mtrl.tracking.store, "ANSWER", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.perf_counter()
        with pytest.raises(ConfigError, match=r"^logger.tracking_uri=http://127"):
            make(uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.perf_counter() - start < 8


def test_unusable_files(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, and longer than the header of one " * 20)
    for path in ("file", "file/mlflow.db", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        start = time.perf_counter()
        with pytest.raises(ConfigError, match=rf"^logger.tracking_uri=sqlite:///{tmp_path}/{path}: ") as error:
            make(uri=f"sqlite:///{tmp_path}/{path}")
        assert "\n" not in str(error.value) and time.perf_counter() - start < 10


def test_deleted_experiment(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    make().finalize("success")
    store = client(tmp_path)
    store.delete_experiment(store.get_experiment_by_name("mt10").experiment_id)
    with pytest.raises(ConfigError, match="^experiment_name=mt10: deleted"):
        make()


def test_no_run_is_left_when_connecting_fails(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    store = client(tmp_path)
    with pytest.raises(ConfigError):
        MLflowLogger(f"sqlite:///{tmp_path}/mlflow.db", "mt10", "run", {"": "no name"}, {}, tmp_path).connect()
    assert not store.search_runs([store.get_experiment_by_name("mt10").experiment_id])


def job(folder: Path) -> None:
    for logger in (logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)):
        for handler in logger.handlers[:]:  # made while an earlier test's output was captured
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
    os.chdir(folder)
    logger = MLflowLogger(None, "mt10", "run", {}, {"seed": 1}, folder)
    logger.connect()
    logger.log_metrics({"a": 1.0}, step=1)
    logger.finalize("success")


def test_parallel_jobs_make_the_default_store(tmp_path: Path, mlflow_db: Path, capfd: pytest.CaptureFixture) -> None:
    """No database yet: one job makes it, the other waits; both runs are in one experiment, nothing is said, and nothing
    lies elsewhere.
    """
    folder = tmp_path / "a b%20?#é"
    folder.mkdir()
    (folder / "mlflow.db.new").write_text("left by a job that was killed while it made the tables")
    # Forked, since two fresh processes would import Lightning and MLflow for a minute on a busy machine.
    jobs = [multiprocessing.get_context("fork").Process(target=job, args=(folder,)) for _ in range(2)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(300)
    assert [process.exitcode for process in jobs] == [0, 0]
    assert capfd.readouterr() == ("", "")
    store = import_mlflow().MlflowClient(client_uri(f"sqlite:///{folder}/mlflow.db"))
    experiment = store.get_experiment_by_name("mt10")
    assert experiment.artifact_location == (folder / "mlartifacts").as_uri()
    runs = store.search_runs([experiment.experiment_id])
    assert [run.data.metrics for run in runs] == [{"a": 1.0}] * 2
    assert {file.name for file in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlflow.queue"}
    assert list(tmp_path.iterdir()) == [folder]


def test_parallel_threads_make_one_experiment(make: Callable[..., MLflowLogger], tmp_path: Path) -> None:
    loggers: list[MLflowLogger] = []
    threads = [threading.Thread(target=lambda: loggers.append(make())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for logger in loggers:
        logger.finalize("success")
    assert len({logger.run_id for logger in loggers}) == 3
    assert [e.name for e in client(tmp_path).search_experiments()].count("mt10") == 1


@pytest.mark.parametrize("name", ["a b#é", "a%20b", "a b%20?#é'\"&x=1"])
@pytest.mark.parametrize("given", [False, True])
def test_any_character_in_the_path_of_a_store(
    name: str, given: bool, mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Database and files lie where they were asked for, and nothing lies elsewhere; also when they are read."""
    folder = tmp_path / "in" / name
    folder.mkdir(parents=True)
    shutil.copyfile(mlflow_db, folder / "mlflow.db")
    (folder / "eval.csv").write_text("frames,task,success\n")
    monkeypatch.chdir(tmp_path if given else folder)
    uri = f"sqlite:///in/{name}/mlflow.db" if given else None
    logger = MLflowLogger(uri, "odd", "run", {"method": "sac"}, {}, folder)
    logger.connect()
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_artifact(folder / "eval.csv")
    logger.finalize("success")
    assert logger.left == 0 and logger.run_id
    address = uri or "sqlite:///mlflow.db"
    (run,) = read_mlflow(address, ["odd"])
    assert run.status == "finished" and run.source == f"MLflow run {logger.run_id}"
    store = import_mlflow().MlflowClient(client_uri(checked_uri(address)))
    assert store.get_run(logger.run_id).data.metrics == {"a": 1.0}
    files = [path.relative_to(folder).parts for path in folder.rglob("*") if path.is_file()]
    kept = {("mlartifacts", logger.run_id, "artifacts", "eval.csv")}
    assert set(files) == {("mlflow.db",), ("mlflow.db.lock",), ("mlflow.queue",), ("eval.csv",)} | kept
    assert [path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)] == [tmp_path / "in"]


def test_options_of_sqlalchemy_are_no_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has options after the path"):
        MLflowLogger(f"sqlite:///{tmp_path}/mlflow.db?timeout=30", "mt10", "run", {}, {}, tmp_path)


def test_sqlalchemy_that_cannot_name_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 2.1 it read no percent codes."""
    monkeypatch.setattr("sqlalchemy.make_url", lambda uri: SimpleNamespace(database=uri.split(":///")[1].split("?")[0]))
    assert client_uri("sqlite:////a%20b/mlflow.db") == "sqlite+pysqlite:////a%20b/mlflow.db"
    with pytest.raises(ConfigError, match=r"^logger.tracking_uri=sqlite:////a\?b/mlflow.db: SQLAlchemy before"):
        client_uri("sqlite:////a?b/mlflow.db")


def test_csv_new_columns_and_reopening(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.5}, step=10)
    logger.log_metrics({"b": 2.0, "a": 3.0}, step=20)
    again = CSVLogger(tmp_path)
    again.log_metrics({"b": 4.0}, step=30)
    again.log_metrics({"c": 5.0}, step=40)
    rows = read(tmp_path / "metrics.csv")
    assert list(rows[0]) == ["frames", "a", "b", "c"]
    assert [list(row.values()) for row in rows] == [
        ["10", "1.5", "", ""],
        ["20", "3.0", "2.0", ""],
        ["30", "", "4.0", ""],
        ["40", "", "", "5.0"],
    ]


def test_csv_keeps_rows_until(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    keep_rows_until(logger.path, 100)
    assert not logger.path.exists()
    for step in (10, 20, 30):
        logger.log_metrics({"a": step, "b": 1}, step=step)
    keep_rows_until(logger.path, 20)
    logger.log_metrics({"a": 25, "b": 1}, step=25)
    (tmp_path / "mine.csv").write_text("x,y\n1,2\n")
    keep_rows_until(tmp_path / "mine.csv", 20)
    assert (tmp_path / "mine.csv").read_text() == "x,y\n1,2\n"
    assert [row["frames"] for row in read(logger.path)] == ["10", "20", "25"]
    with logger.path.open("a") as file:
        file.write("1")  # of 15,...: the process was killed while it wrote
    keep_rows_until(logger.path, 30)
    assert [row["frames"] for row in read(logger.path)] == ["10", "20", "25"]
