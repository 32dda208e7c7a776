"""Folders of the user's own, beside ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lit_mtrl.config.compose import compose
from lit_mtrl.config.files import read_config
from lit_mtrl.config.folders import ADDED, added_dirs, adding, conf_dir, file_of, groups
from lit_mtrl.config.trust import require_trusted
from lit_mtrl.core.errors import ConfigError
from tests.helpers.command import refused, run

FILES = {
    "my_nets.py": "from lit_mtrl.nets.mlp import MLP as Net\n",
    "conf/inside.py": "from lit_mtrl.nets.mlp import MLP as Net\n",
    "conf/network/my_net.yaml": "# A network of mine.\n_target_: my_nets.Net\nname: my_net\nwidth: 8\ndepth: 2\n",
    "conf/experiment/mine.yaml": "# @package _global_\n# My network.\ndefaults:\n  - debug\n  - override /network:"
    " my_net\n",
    "conf/experiment/study/mine.yaml": "# @package _global_\n# Mine and ours.\ndefaults:\n  - /experiment/debug\n"
    "hydra:\n  sweeper:\n    params:\n      network: mlp,my_net\n",
    "conf/dataset/mine.yaml": "# A group that we do not have.\n",
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder ``conf`` with modules beside it and in it; the working directory is elsewhere."""
    for name, content in FILES.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "theirs" / "conf"
    for name in ("my_nets", "inside"):
        sys.modules.pop(name, None)


def test_files_are_found_beside_ours(theirs: Path) -> None:
    ours, path = groups(), [*sys.path]
    with adding(["../theirs/conf"]):
        assert added_dirs() == [theirs] and os.environ[ADDED] == str(theirs)
        both = groups()
        assert both["dataset"] == ["mine"] and both["env"] == ours["env"]
        assert set(both["network"]) - set(ours["network"]) == {"my_net"}
        assert set(both["experiment"]) - set(ours["experiment"]) == {"mine", "study/mine"}
        assert file_of("experiment", "study/mine") == theirs / "experiment" / "study" / "mine.yaml"
        assert file_of("network", "mlp") == conf_dir() / "network" / "mlp.yaml"
        assert read_config("mine").path == theirs / "experiment" / "mine.yaml"
        with adding([str(theirs)]):  # as a rank is told, by the environment and by the command line
            assert added_dirs() == [theirs]
    assert groups() == ours and sys.path == path and ADDED not in os.environ


def test_modules_beside_it_and_in_it_are_the_users_own(theirs: Path) -> None:
    named = [{"network": {"_target_": f"{module}.Net"}} for module in ("my_nets", "inside")]
    for tree in named:
        with pytest.raises(ConfigError, match="there is no module .* --config-dir"):
            require_trusted(tree)
    with adding([str(theirs)]):
        for tree in named:
            require_trusted(tree)
            with pytest.raises(ConfigError, match="add --trust"):
                require_trusted(tree, own=())  # in a saved configuration


def test_from_their_experiment_to_a_configuration(theirs: Path) -> None:
    code, out, err = run("fit", "--config", "mine", "--config-dir", str(theirs), "--print-config", "network.match=mlp")
    assert code == 0, err
    assert "_target_: my_nets.Net" in out and "name: my_net" in out and err.startswith("network.match=mlp: ")
    with adding([str(theirs)]):
        assert compose(["debug"], ["network=my_net", "actor.network.width=5"]).actor.network.width == 5


def test_the_jobs_of_a_sweep_know_them(theirs: Path) -> None:
    out = run("fit", "-m", "--config", "study/mine", "--config-dir", str(theirs), "--print-config")[1]
    assert [line for line in out.splitlines() if line.startswith("  name: m")] == ["  name: mlp", "  name: my_net"]


def test_list_says_where_they_are(theirs: Path) -> None:
    code, out, _ = run("list", "--config-dir", str(theirs))
    lines = [line.split() for line in out.splitlines() if str(theirs) in line]
    assert code == 0 and sorted(line[0] for line in lines) == ["mine", "mine", "my_net", "study/mine"]
    assert ["my_net", "A", "network", "of", "mine.", f"[{theirs}]"] in lines


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", "--config-dir nowhere: no such folder"),
        ("", "--config-dir : no such folder"),
        ("../theirs", "holds no folder of a config group (actor, algo, .*did you mean .*/theirs/conf"),
        (".", "lay it out like conf/, as in network/my_net.yaml"),
    ],
)
def test_folders_that_are_none(folder: str, said: str, theirs: Path) -> None:
    line = refused("list", "--config-dir", folder)
    assert all(part in line for part in said.split(".*"))


def test_two_files_of_one_name(theirs: Path, tmp_path: Path) -> None:
    ours = conf_dir() / "network" / "mlp.yaml"
    (theirs / "network" / "mlp.yaml").write_text(ours.read_text())
    line = refused("params", "--config", "debug", "--config-dir", str(theirs))
    assert f"{ours} and {theirs}/network/mlp.yaml: two files of the name network/mlp.yaml" in line
    (theirs / "network" / "mlp.yaml").unlink()
    (tmp_path / "more" / "network").mkdir(parents=True)
    (tmp_path / "more" / "network" / "my_net.yaml").write_text("# Another.\n")
    line = refused("list", "--config-dir", str(theirs), "--config-dir", str(tmp_path / "more"))
    assert f"{theirs}/network/my_net.yaml and {tmp_path}/more/network/my_net.yaml" in line


def test_what_is_missing_may_lie_in_such_a_folder(theirs: Path) -> None:
    line = refused("params", "--config", str(theirs / "experiment" / "mine.yaml"))
    assert "'network/my_net'; a folder of your own is added by --config-dir" in line
