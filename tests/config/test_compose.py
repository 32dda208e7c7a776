"""What was composed is kept while its files stay as they are; jobs that differ in values alone compose once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lit_mtrl.config import compose as module
from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import groups
from lit_mtrl.core.errors import ConfigError
from tests.helpers.project import ROOT


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``conf/`` in use."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.setenv("LIT_MTRL_CONF", str(tmp_path / "conf"))
    return tmp_path / "conf"


def test_jobs_that_differ_in_values_compose_once() -> None:
    compose(["debug"], ["network=mlp"])
    before = module._chosen.cache_info().misses
    cfgs = [compose(["debug"], ["network=mlp", f"seed={seed}", f"network.width={8 + seed}"]) for seed in range(5)]
    assert module._chosen.cache_info().misses == before
    assert [(cfg.seed, cfg.network.width) for cfg in cfgs] == [(seed, 8 + seed) for seed in range(5)]


def test_values_of_one_job_do_not_reach_the_next() -> None:
    first = OmegaConf.to_container(compose(["debug"], []))
    added = ["+callbacks.mine._target_=lit_mtrl.callbacks.progress.Progress", "~callbacks.pictures", "algo.tau=0.1"]
    changed = compose(["debug"], [*added, "actor.network.width=4", "callbacks.plasticity.thresholds=[0.5]"])
    assert changed.actor.network.width == 4 and "pictures" not in changed.callbacks
    changed.network.width = 4
    assert OmegaConf.to_container(compose(["debug"], [])) == first


def test_changed_files_are_read_again(conf: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [debug]\nseed: 3\n")
    assert (compose([str(mine)], []).seed, compose(["debug"], []).frames) == (3, 600)
    mine.write_text("# @package _global_\ndefaults: [debug]\nseed: 41\n")
    debug = conf / "experiment" / "debug.yaml"
    debug.write_text(debug.read_text().replace("frames: 600", "frames: 1_200"))
    assert (compose([str(mine)], []).seed, compose(["debug"], []).frames) == (41, 1200)
    (conf / "network" / "mine.yaml").write_text((conf / "network" / "mlp.yaml").read_text().replace("400", "40"))
    assert "mine" in groups()["network"]
    assert compose([], ["network=mine"]).network.width == 40


def test_values_are_set_as_hydra_sets_them() -> None:
    for text, said in (
        ("network.widht=4", "did you mean 'network.width'"),
        ("+seed=4", "Could not append to config"),
        ("~callbacks.nothing", "Could not delete from config"),
        ("network.width={a: 1}", "network.width"),
        ("+experiment/study=nothing", "nothing"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            compose(["debug"], [text])
        assert "\n" not in str(caught.value)


def test_a_budget_that_no_benchmark_gives_is_asked_for(conf: Path) -> None:
    (conf / "benchmark" / "mine.yaml").write_text("name: mine\ntasks: [reach]\n")
    with pytest.raises(ConfigError, match=r"^frames=\?\?\?: stands for a value that is missing; give one$"):
        compose([], ["benchmark=mine"])
    assert compose([], ["benchmark=mine", "frames=1_000", "epoch_frames=500"]).frames == 1000


def test_groups_are_the_folders_of_conf(conf: Path) -> None:
    (conf / "network" / "own").mkdir()
    (conf / "network" / "own" / "deep.yaml").touch()
    os.rename(conf / "network" / "mlp.yaml", conf / "network" / "mlp.yml")
    names = groups()
    assert "own/deep" in names["network"] and "mlp" not in names["network"] and "config" not in names
    assert list(names) == sorted(names) and names["benchmark"] == ["custom", "mt1", "mt10", "mt25", "mt50"]
