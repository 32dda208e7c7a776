"""Configurations that earlier versions saved, in results, run folders and checkpoints, in their present form."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_mtrl.config.compose import compose
from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.saved import override_saved
from lit_mtrl.config.trust import trusting
from lit_mtrl.config.upgrade import ADDED, ENVPOOL, MOVED, upgraded
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.runs.build import build_algorithm, build_data, build_suite
from lit_mtrl.runs.resume import require_same
from tests.helpers.project import ROOT

SAVED = sorted((ROOT / "results").rglob("config.yaml"))
OLD_CLASSES = {new: old for old, new in MOVED.items()}


def downgraded(present: dict[str, Any]) -> dict[str, Any]:
    """As the first version wrote it."""

    def old_names(tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        out = {key: old_names(value) for key, value in tree.items()}
        name = str(out.get("_target_"))
        if "_target_" in out:
            out["_target_"] = OLD_CLASSES.get(name, name.replace("lit_mtrl.callbacks.", "callbacks."))
        return out

    old = old_names(copy.deepcopy(present))
    old["env"]["copies"] = old["collector"].pop("copies")
    for group, added in ADDED.items():
        for key in added:
            del old[group][key]
    weighting = old["weighting"]
    old["weighting"] = {"name": weighting["critic"]["name"]} | {
        part: {key: value for key, value in values.items() if key != "name"} for part, values in weighting.items()
    }
    return old


@pytest.fixture(scope="module")
def present() -> dict[str, Any]:
    return as_written(compose(["debug"], ["collector.copies=3", "logger=mlflow"]))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.parent.relative_to(ROOT / "results").as_posix())
def test_recorded_runs_can_be_repeated(path: Path) -> None:
    old = yaml.safe_load(path.read_text())
    with trusting(["results"]):
        cfg = compose([str(path)], [])
    said = {**old["collector"], **old["env"]}  # of older versions in env
    assert cfg.collector.copies == said["copies"] and not {"copies", "stagger"} & cfg.env.keys()
    assert cfg.collector.stagger == said.get("stagger", False)
    assert cfg.replay._target_ == "lit_mtrl.data.replay.PerTaskReplay"
    assert cfg.replay.capacity == old["replay"]["capacity"]


def test_there_are_recorded_runs() -> None:
    assert len(SAVED) > 30


def test_the_first_versions_form_is_mapped_to_the_present_one(present: dict[str, Any]) -> None:
    old = downgraded(present)
    assert old["env"]["copies"] == 3 and old["actor"]["_target_"] == "lit_mtrl.policies.TanhGaussian"
    assert upgraded(old) == present
    assert upgraded(present) == present


def test_what_is_given_is_not_changed(present: dict[str, Any]) -> None:
    old = downgraded(present)
    before = copy.deepcopy(old)
    upgraded(old)
    assert old == before


def test_stagger_and_copies_move_and_what_is_there_already_stays(present: dict[str, Any]) -> None:
    old = copy.deepcopy(present)
    del old["collector"]["copies"], old["collector"]["stagger"]
    old["env"] |= {"copies": 5, "stagger": True}
    found = upgraded(old)
    assert (found["collector"]["copies"], found["collector"]["stagger"]) == (5, True)
    assert found["env"] == present["env"]
    both = copy.deepcopy(present)
    both["env"]["copies"] = 5
    assert upgraded(both)["collector"]["copies"] == 3


def test_another_packages_environments_are_the_official_ones(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Said once; and such a run is continued with either engine."""
    new = compose(["mt10_mtmhsac"], [])
    old = as_written(new)
    for key in ("engine", "keep_starts"):
        del old["env"][key]
    old["env"] |= {"_target_": ENVPOOL, "threads": 4}
    with caplog.at_level(logging.WARNING, "lit_mtrl"):
        found = [upgraded(old)["env"] for _ in range(2)]
    (record,) = caplog.records
    assert record.getMessage().startswith("env=envpool: is no longer there") and "\n" not in record.getMessage()
    assert (found[0]["_target_"], found[0]["threads"]) == (new.env._target_, 0)
    for engine in ("native", "python"):
        require_same("--resume", tmp_path, old, override_saved(old, [f"env.engine={engine}"]))


def test_old_values_are_kept(present: dict[str, Any]) -> None:
    changed = copy.deepcopy(present)
    changed["collector"] |= {"overlap": True, "policy_device": "cpu"}
    changed["replay"]["_target_"] = "mine.Buffer"
    assert upgraded(changed) == changed


def test_a_run_of_the_first_version_is_the_same_run(present: dict[str, Any], tmp_path: Path) -> None:
    """Which its checkpoint is asked when it is continued: the configuration in it is as old as the run."""
    new = override_saved(present, [])
    require_same("--resume", tmp_path, downgraded(present), new)
    with pytest.raises(ConfigError, match=r"collector.copies \(3 there, 2 here\)"):
        require_same("--resume", tmp_path, downgraded(present), override_saved(present, ["collector.copies=2"]))


def test_a_checkpoint_of_the_first_version_is_built(present: dict[str, Any]) -> None:
    """As ``test`` and ``record`` do with the configuration that lies in it; overrides use the present keys."""
    cfg = override_saved(downgraded(present), ["collector.copies=2", "collector.workers=1"], "--ckpt last.ckpt")
    suite = build_suite(cfg)
    data = build_data(cfg, suite, build_algorithm(cfg, suite))
    assert data.copies == 2 and data.buffer.capacity == cfg.replay.capacity
    with pytest.raises(ConfigError, match="^env.copies: unknown key"):
        override_saved(downgraded(present), ["env.copies=2"])


@pytest.mark.parametrize("group", ["env", "collector"])
@pytest.mark.parametrize("value", ["copies", ["copies"], None, 3], ids=str)
def test_a_group_that_holds_no_keys_is_one_line(group: str, value: Any, present: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^--ckpt x: {group}\.\S+ is missing in its configuration"):
        upgraded({**downgraded(present), group: value}, "--ckpt x")
