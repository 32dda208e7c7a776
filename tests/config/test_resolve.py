"""What lies in the environment is used, and never written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from lit_mtrl.cli.main import main
from lit_mtrl.config.compose import compose
from lit_mtrl.config.resolve import as_written, resolved
from lit_mtrl.core.errors import ConfigError

SECRET = "hunter2"


def test_only_what_depends_on_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    tree = {
        "a": "${oc.env:TOKEN}",
        "b": "x-${a}",
        "c": ["${b}", "${d}"],
        "d": 3,
        "e": {"f": "${d}", "g": "${oc.env:LIT_MTRL_NO_SUCH,4}"},
        "h": ["${d}"],
    }
    cfg = resolved(OmegaConf.create(tree))
    assert as_written(cfg) == {**tree, "e": {"f": 3, "g": "${oc.env:LIT_MTRL_NO_SUCH,4}"}, "h": [3]}
    assert (cfg.b, list(cfg.c), cfg.e.g) == (f"x-{SECRET}", [f"x-{SECRET}", 3], "4")
    monkeypatch.setenv("TOKEN", "other")
    assert cfg.b == "x-other"


def test_a_run_uses_a_secret_and_writes_it_nowhere(
    tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(mlflow_db, tmp_path / f"{SECRET}.db")
    own = ["logger=mlflow", "logger.tracking_uri='sqlite:///${oc.env:TOKEN}.db'", "frames=300"]
    less = ["~callbacks.gradients", "~callbacks.plasticity", "~callbacks.pictures"]
    assert main(["fit", "--config", "debug", "output_dir=run", *own, *less]) == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["logger"]["tracking_uri"] == "sqlite:///${oc.env:TOKEN}.db"
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["lit_mtrl"]["config"]["logger"]["tracking_uri"] == "sqlite:///${oc.env:TOKEN}.db"
    holders = [
        p.relative_to(tmp_path).as_posix()
        for p in tmp_path.rglob("*")
        if p.is_file() and SECRET.encode() in p.read_bytes()
    ]
    assert [name for name in holders if not name.startswith(SECRET)] == []
    capsys.readouterr()
    assert main(["fit", "--resume", "run", "frames=600"]) == 2
    assert (
        "logger.tracking_uri=sqlite:///${oc.env:TOKEN}.db: a saved configuration looks nothing up"
        in capsys.readouterr().err
    )
    assert main(["fit", "--resume", "run", "frames=600", own[1]]) == 0


def test_override_of_a_saved_configuration_may_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "again")
    (tmp_path / "saved.yaml").write_text(OmegaConf.to_yaml(compose(["debug"], [])))
    assert compose([str(tmp_path / "saved.yaml")], ["run_name='${oc.env:NAME}'"]).run_name == "again"


def test_lists_keep_their_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    cfg = compose(["debug"], ["benchmark.tasks=[a,'${oc.env:TOKEN}']"])
    assert as_written(cfg)["benchmark"]["tasks"] == ["a", "${oc.env:TOKEN}"] and cfg.benchmark.tasks[1] == SECRET


@pytest.mark.parametrize("text", ["run_name='${oc.decode:${oc.env:TOKEN}}'", "output_dir='${oc.env:HIDDEN}'"])
def test_what_would_have_to_be_written_in_another_form_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "4711")
    monkeypatch.setenv("HIDDEN", f"~/{SECRET}")
    with pytest.raises(ConfigError, match="not in the form that is used") as caught:
        compose(["debug"], [text])
    assert "4711" not in str(caught.value) and SECRET not in str(caught.value)
