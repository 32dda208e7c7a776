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


ALL = ["progress", "checkpoint", "pictures", "gradients", "plasticity"]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], ALL),
        (["callbacks=default"], ALL),
        (["callbacks=[default,default]"], ALL),
        (["callbacks=[default,paco_reset]"], [*ALL, "paco_reset"]),
        (["+callbacks=[paco_reset]"], [*ALL, "paco_reset"]),
        (["callbacks=[paco_reset,default]", "~callbacks.pictures"], ["paco_reset", *ALL[:2], *ALL[3:]]),
        (["callbacks=[]"], []),
    ],
    ids=str,
)
def test_callbacks_are_a_list_of_choices(overrides: list[str], names: list[str]) -> None:
    """What the experiment says of one that is not chosen (here of gradients) has no effect."""
    assert list(compose(["debug"], overrides).callbacks) == names


def test_values_of_callbacks_that_are_chosen(conf: Path) -> None:
    (conf / "callbacks" / "rare.yaml").write_text("# Changes one of default's.\npictures:\n  every_epochs: 7\n")
    pictures = [compose([], [f"callbacks=[{names}]"]).callbacks.pictures for names in ("default,rare", "rare,default")]
    assert [each.every_epochs for each in pictures] == [7, 1]
    cfg = compose(["mt10_paco_published"], ["callbacks.paco_reset.method=copy", "callbacks.pictures.every_epochs=2"])
    assert (cfg.callbacks.paco_reset.method, cfg.callbacks.pictures.every_epochs) == ("copy", 2)


@pytest.mark.parametrize(
    ("defaults", "callbacks", "overrides", "said"),
    [
        ("- override /callbacks: [default, paco_rest]", "{}", [], "'callbacks/paco_rest'; did you mean 'paco_reset'?"),
        ("", "{graidents: {batches: 2}}", [], "callbacks.graidents: unknown key; did you mean 'callbacks.gradients'?"),
        ("", "{gradients: {batch: 2}}", [], "callbacks.gradients.batch: unknown key; did you mean"),
        ("", "{mine: 3}", [], "callbacks.mine: unknown key"),
        ("", "7", [], "callbacks=7: has keys of its own"),
        ("", "null", [], "callbacks=null: has keys of its own"),
        ("", "{}", ["callbacks.paco_reset.method=copy"], "callbacks.paco_reset.method: unknown key"),
        ("", "{}", ["callbacks=[default,pacoreset]"], "callbacks=pacoreset: unknown; did you mean 'paco_reset'?"),
        (
            "",
            "{mine: {_target_: lit_mtrl.callbacks.pictures.Pictures}}",
            ["callbacks.mine.evry=1"],
            "callbacks.mine.evry",
        ),
    ],
)
def test_wrong_callbacks_are_one_line(
    defaults: str, callbacks: str, overrides: list[str], said: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"# @package _global_\ndefaults:\n  - debug\n  {defaults}\ncallbacks: {callbacks}\n")
    with pytest.raises(ConfigError) as caught:
        compose([str(mine)], overrides)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_experiment_adds_a_callback_of_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    own = "{_target_: lit_mtrl.callbacks.pictures.Pictures, every_epochs: 2}"
    mine.write_text(f"# @package _global_\ndefaults: [debug]\ncallbacks:\n  mine: {own}\n")
    cfg = compose([str(mine)], ["callbacks=[]", "callbacks.mine.every_epochs=3"])
    assert OmegaConf.to_container(cfg.callbacks) == {
        "mine": {"_target_": "lit_mtrl.callbacks.pictures.Pictures", "every_epochs": 3}
    }


def test_a_saved_configuration_has_callbacks_and_no_choices(tmp_path: Path) -> None:
    cfg = compose(["mt10_paco_published"], ["logger=csv"])
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    saved = compose([str(tmp_path / "config.yaml")], ["callbacks.paco_reset.method=copy"])
    assert list(saved.callbacks) == list(cfg.callbacks) and saved.callbacks.paco_reset.method == "copy"
    with pytest.raises(ConfigError, match=r"^callbacks: a saved config.yaml is resolved, its groups cannot be"):
        compose([str(tmp_path / "config.yaml")], ["callbacks=[default]"])
