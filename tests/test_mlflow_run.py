"""A run in MLflow: what is logged, and that a resumed run is the same one."""

from __future__ import annotations

from pathlib import Path


def test_run_and_its_continuation_are_one(cli, tmp_path: Path) -> None:
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


def test_unreachable_server_is_one_line_and_leaves_nothing(cli, tmp_path: Path) -> None:
    done = cli("fit", "--config", "debug", "logger=mlflow", "logger.tracking_uri=http://127.0.0.1:9")
    assert done.returncode == 2
    assert "logger.tracking_uri=http://127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
