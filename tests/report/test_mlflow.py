"""Runs read from an MLflow store."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.report import find_sweeps, log_report, read_folders, read_mlflow
from lit_mtrl.report.groups import plan
from lit_mtrl.tracking.store import import_mlflow
from tests.helpers.run_folders import write_run

TWO = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
STATUS = {"a": "FINISHED", "b": "KILLED", "c": "RUNNING"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """Three runs, the parent of a sweep, and one that failed before it sent anything."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(mlflow_db, folder)
    client = import_mlflow().MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("mt 10", artifact_location=(folder / "mlartifacts").as_uri())
    for seed, (name, status) in enumerate(STATUS.items()):
        run = client.create_run(experiment, run_name=name, tags={"seed": str(seed)}).info.run_id
        for file in sorted(
            write_run(
                folder / "runs" / name, TWO, seed=seed, plasticity=True, frames=2000 if name == "a" else 4000
            ).iterdir()
        ):
            client.log_artifact(run, str(file))
        if status != "RUNNING":
            client.set_terminated(run, status)
    client.create_run(experiment, run_name="parent", tags={"sweep_parent": "true"})
    early = client.create_run(experiment, run_name="early", tags={"method": "sac-mlp"}).info.run_id
    client.set_terminated(early, "FAILED")
    return folder


@pytest.mark.parametrize("local", [True, False])
def test_the_same_as_from_folders(local: bool, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not local:  # as from a server, whose artifacts come as downloads
        monkeypatch.setattr("lit_mtrl.report.mlflow_runs.urlparse", lambda _: type("Address", (), {"scheme": "http"}))
    runs = read_mlflow(f"sqlite:///{store}/mlflow.db", ["mt 10"], "http://host:1/")
    assert {run.name: run.status for run in runs} == {"a": "finished", "b": "killed", "c": "running", "early": "failed"}
    folders = read_folders([store / "runs"])
    for run, same in zip(runs, folders, strict=False):
        assert (run.labels, run.tasks, run.last) == (same.labels, same.tasks, same.last)
        assert (run.success == same.success).all() and run.metrics.keys() == same.metrics.keys()
        assert run.plasticity is not None and run.plasticity.equals(same.plasticity)
        assert run.link is not None and run.link.startswith("http://host:1/#/experiments/1/runs/")
    assert [run.name for group in plan(runs).panels[0].groups for run in group.runs] == ["a"]


def test_a_report_goes_into_the_run_of_the_sweep(store: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{store}/mlflow.db"
    (sweep,) = find_sweeps(uri, ["mt 10"])
    for name in ("index.html", "figures/a.png", "tables/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    log_report(uri, [sweep], tmp_path)
    client = import_mlflow().MlflowClient(uri)
    assert client.get_run(sweep).info.run_name == "parent"
    found = [f.path for part in ("", "/figures", "/tables") for f in client.list_artifacts(sweep, f"report{part}")]
    assert {"report/index.html", "report/figures/a.png", "report/tables/b.csv"} <= set(found)


def test_an_experiment_that_does_not_exist(store: Path) -> None:
    with pytest.raises(ConfigError, match=r"--experiment=mt 1O: unknown; did you mean 'mt 10'"):
        read_mlflow(f"sqlite:///{store}/mlflow.db", ["mt 10", "mt 1O"])


def test_stores_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 10)
    for uri, message in [
        (f"sqlite:///{tmp_path}/none.db", "no such file"),
        (f"sqlite:///{tmp_path}/text.db", "file is not a database"),
        ("http://name:secret@127.0.0.1:9", "--tracking-uri http://***@127.0.0.1:9: "),
    ]:
        start = time.monotonic()
        with pytest.raises(ConfigError) as error:
            read_mlflow(uri, ["mt10"])
        assert message in str(error.value) and "\n" not in str(error.value) and "secret" not in str(error.value)
        assert "sqlite:///mlflow.db" in str(error.value)
        assert time.monotonic() - start < 10
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_store_that_fails_after_the_report_is_made(store: Path) -> None:
    for call in (
        lambda: log_report("http://127.0.0.1:9", ["a"], store),
        lambda: find_sweeps("http://127.0.0.1:9", ["a"]),
    ):
        with pytest.raises(ConfigError, match=r"^--tracking-uri http://127.0.0.1:9: ") as error:
            call()
        assert "\n" not in str(error.value)
