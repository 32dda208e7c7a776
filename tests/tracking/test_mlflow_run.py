"""A run in MLflow: what is logged, and that a resumed run is the same one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from omegaconf import DictConfig

from lit_mtrl.runs.match import composed
from lit_mtrl.runs.unsent import send_unsent
from lit_mtrl.tracking.queue import QUEUE, Queue


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_run_and_its_continuation_are_one(
    cli, tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shutil.copy(mlflow_db, tmp_path)
    args = ("--config", "debug", "logger=mlflow", "logger.log_frames=60")
    done = cli("fit", *args)
    assert done.returncode == 0, done.stderr
    done = cli("fit", "--resume", "outputs/debug/sac-multi_head-s0", "frames=900")
    assert done.returncode == 0, done.stderr

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("debug").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "sac-multi_head-s0"
    assert run.data.params["algo.gamma"] == "0.99" and run.data.params["seed"] == "0"
    assert not {"run_name", "output_dir", "algo._target_"} & run.data.params.keys()
    assert run.data.params["parameters.actor"] == "470"
    tags = {"method": "sac-multi_head", "backend": "probes", "horizon": "10", "goals": "2", "seed": "0"}
    tags |= {"group": "sac-multi_head", "mlflow.source.type": "LOCAL"}
    assert tags.items() <= run.data.tags.items() and "git_commit" in run.data.tags
    steps = {name: [m.step for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}
    assert steps["eval/success"] == steps["eval/success/push"] == [300, 600, 900]
    assert steps["loss/critic"] == list(range(120, 901, 60))
    for name in ("alpha/reach", "norm/actor/grad", "norm/critic/params", "train/success", "speed/updates_per_second"):
        assert name in steps
    assert len(steps) <= 100
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    tables = {"eval.csv", "gradients.csv", "metrics.csv", "plasticity.csv"}
    assert files == {"config.yaml", "run.json", "checkpoints", "pictures", *tables}
    assert {f.path for f in client.list_artifacts(run.info.run_id, "checkpoints")} == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }

    ends_what_a_kill_left_open(client, tmp_path, monkeypatch, capsys)


def ends_what_a_kill_left_open(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A process that was killed between its last checkpoint and its end."""
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/debug/sac-multi_head-s0")
    cfg = composed([str(folder / "config.yaml")], [])
    assert send_unsent(cfg) is None  # nothing to do
    (run,) = client.search_runs([client.get_experiment_by_name("debug").experiment_id])
    Queue(folder / QUEUE).append({"run": run.info.run_id})
    client.update_run(run.info.run_id, "RUNNING")
    shutil.rmtree(Path(unquote(run.info.artifact_uri.removeprefix("file://"))))
    assert send_unsent(DictConfig({**cfg, "frames": 1200})) is None  # to be trained on
    assert send_unsent(cfg) == 0 and send_unsent(cfg) is None
    said = f"{folder}: trained to its end before; MLflow run {run.info.run_id} now has all of it\n"
    assert capsys.readouterr().out == said
    again = client.get_run(run.info.run_id)
    assert again.info.status == "FINISHED" and again.data.metrics == run.data.metrics
    files = {path.path for path in client.list_artifacts(run.info.run_id)}
    assert files >= {"config.yaml", "run.json", "checkpoints", "pictures", "eval.csv", "metrics.csv"}


def test_unreachable_server_is_one_line_and_leaves_nothing(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "logger=mlflow", "logger.tracking_uri=http://127.0.0.1:9")
    assert done.returncode == 2
    assert "logger.tracking_uri=http://127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
