"""Whose classes a configuration may name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from lit_mtrl.config.compose import compose
from lit_mtrl.config.trust import TRUST, require_trusted, trusting
from lit_mtrl.core.errors import ConfigError
from tests.helpers.command import run

MINE = """
from lit_mtrl.envs.probes import Probes
from lit_mtrl.nets.mlp import MLP
class Mine(Probes):
    def __init__(self, colour: str = "red", **options):
        super().__init__(**options)
class Net(MLP):
    def __init__(
        self, in_dim, out_dim, num_tasks, head_bound, width=[8, 8], scale: float | None = None, hidden: bool = True
    ):
        super().__init__(in_dim, out_dim, num_tasks, head_bound, width=width[0], depth=len(width))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A working directory with a module of the user."""
    (tmp_path / "my_suite.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    yield tmp_path
    sys.modules.pop("my_suite", None)


def test_ours_trusted_and_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str) -> dict:
        return {"env": {"_target_": name}}

    require_trusted(named("lit_mtrl.envs.probes.Probes"), own=())
    require_trusted(named("my_suite.Mine"))
    for keys in ((), ("env.kind",)):
        with pytest.raises(ConfigError, match=r"env\._target_=my_suite\.Mine: .*--trust my_suite"):
            require_trusted(named("my_suite.Mine"), own=keys)
    require_trusted(named("my_suite.Mine"), own=("env._target_",))
    with pytest.raises(ConfigError, match="--trust scipy"):  # installed, but not the user's own
        require_trusted(named("scipy.stats.norm"))
    with pytest.raises(ConfigError, match="there is no module 'nowhere'"):
        require_trusted(named("nowhere.Mine"))
    with trusting(["scipy,my_suite", "other"]):
        require_trusted(named("scipy.stats.norm"), own=())
        require_trusted(named("other.X"), own=())
        assert os.environ[TRUST] == "scipy,my_suite,other"  # for the processes that it starts
    assert TRUST not in os.environ
    monkeypatch.setenv(TRUST, "scipy")
    with trusting(["other"]):
        require_trusted(named("scipy.stats.norm"), own=())
    assert os.environ[TRUST] == "scipy"
    assert "my_suite" not in sys.modules, "asked before anything is imported"


def test_folder_of_the_file_and_python_path(own: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"a": [{"_target_": "my_suite.Mine"}]}
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ConfigError, match=r"a\.0\._target_"):
        require_trusted(named)
    require_trusted(named, folders=[own])
    monkeypatch.setenv("PYTHONPATH", str(own))
    require_trusted(named)


def test_own_suite_from_file_to_resume(own: Path) -> None:
    (own / "mine.yaml").write_text("defaults:\n  - debug\nenv:\n  _target_: my_suite.Mine\nframes: 300\n")
    less = ("~callbacks.gradients", "~callbacks.plasticity", "~callbacks.pictures")
    assert run("fit", "--config", "mine.yaml", "output_dir=run", *less)[0] == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["env"]["_target_"] == "my_suite.Mine"
    for command in (["fit", "--resume", "run", "frames=600"], ["test", "--ckpt", "run/checkpoints/last.ckpt"]):
        code, _, err = run(*command)
        assert code == 2 and "--trust my_suite" in err
        assert run(*command, "--trust", "my_suite")[0] == 0


def test_keys_of_own_classes_have_the_kinds_of_their_arguments(own: Path) -> None:
    """Also where one of ours has the same name."""
    (own / "mine.yaml").write_text("defaults:\n  - debug\nnetwork:\n  _target_: my_suite.Net\n  width: [4, 4]\n")
    assert compose(["mine.yaml"], ["actor.network.width=[5, 5, 5]"]).actor.network.width == [5, 5, 5]
    assert compose(["mine.yaml"], ["+network.scale=0.5"]).network.scale == 0.5
    for bad in ("network.width=[1, nan]", "+network.scale=nan", "+network.hidden=0", "+network.hidden=null"):
        with pytest.raises(ConfigError, match=bad.split("=")[0].lstrip("+")):
            compose(["mine.yaml"], [bad])


def test_folder_named_callbacks_is_the_users(own: Path) -> None:
    (own / "callbacks").mkdir()
    (own / "callbacks" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (own / "debug").mkdir()  # which is no configuration either
    assert run("fit", "--config", "debug", "output_dir=run", "frames=300")[0] == 0


def test_older_names_of_our_callbacks(own: Path) -> None:
    (own / "mine.yaml").write_text(
        "defaults:\n  - mt10_paco_published\ncallbacks:\n  paco_reset:\n    _target_: callbacks.paco_reset.PaCoReset\n"
    )
    cfg = compose(["mine.yaml"], [])
    assert cfg.callbacks.paco_reset._target_ == "lit_mtrl.callbacks.paco_reset.PaCoReset"
    (own / "other.yaml").write_text("callbacks:\n  mine:\n    _target_: callbacks.mine.Mine\n")
    with pytest.raises(ConfigError, match="--trust callbacks"):
        compose(["other.yaml"], [])
