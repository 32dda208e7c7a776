"""A package outside the library, with a folder of configurations of its own, trains without a line changed here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.command import refused, run
from tests.helpers.processes import fit
from tests.helpers.project import ROOT

THEIRS = str(ROOT / "tests" / "outside" / "their_conf")
LESS = ("~callbacks.gradients", "~callbacks.plasticity", "~callbacks.pictures", "collector.random_steps=5")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing of theirs is in the working directory, nor imported by another test."""
    monkeypatch.chdir(tmp_path)
    yield
    forget()


def forget() -> None:
    """As a process that has not imported their package."""
    for name in [name for name in sys.modules if name.split(".")[0] == "their_pkg"]:
        del sys.modules[name]


def test_everything_at_once_and_again() -> None:
    code, _, err = run("fit", "--config", "everything", "--config-dir", THEIRS, "output_dir=run", *LESS)
    assert code == 0, err
    assert Path("run/trace.txt").read_text() == "300 actor critic temperature\n600 actor critic temperature\n"
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    targets = re.findall(r"_target_: their_pkg\.(\w+)", Path("run/config.yaml").read_text())
    assert sorted(targets) == ["c51", "gated", "line", "norms", "trace"] and saved["network"]["name"] == "gated"
    # What a run saved may be somebody else's: its classes run only if their package is trusted.
    again = ("fit", "--config", "run/config.yaml", "run_name=again", "output_dir=again")
    more = ("fit", "--resume", "run", "frames=900")
    played = ("test", "--ckpt", "run/checkpoints/last.ckpt")
    for command in (again, more, played):
        assert "add --trust their_pkg" in refused(*command)
    forget()
    assert "add the folder beside it by --config-dir" in refused(*again, "--trust", "their_pkg")
    for command in (again, more, played):
        code, _, err = run(*command, "--trust", "their_pkg", "--config-dir", THEIRS)
        assert code == 0, err
    rows = [Path(folder, "eval.csv").read_text().splitlines() for folder in ("run", "again")]
    assert rows[0][: len(rows[1])] == rows[1]  # repeated to the digit


@pytest.mark.slow
def test_on_policy() -> None:
    code, _, err = run("fit", "--config", "on_policy", "--config-dir", THEIRS, "output_dir=run")
    assert code == 0, err
    assert Path("run/trace.txt").read_text() == "300 actor value\n600 actor value\n"


@pytest.mark.slow
def test_a_sweep_against_ours(tmp_path: Path) -> None:
    """In a process of its own, since Hydra sets up the logging of all that is in it."""
    done = fit(
        tmp_path,
        *("-m", "--config", "debug", "--config-dir", THEIRS, "network=mlp,gated", "weighting.critic=norms"),
        *("frames=300", "collector.random_steps=5"),
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/debug/*/checkpoints/last.ckpt"))) == 2


@pytest.mark.slow
def test_collecting_processes_import_it() -> None:
    options = ("collector.workers=2", "eval.workers=2", "output_dir=run", *LESS)
    code, _, err = run("fit", "--config", "everything", "--config-dir", THEIRS, *options)
    assert code == 0, err
    assert "2 collecting processes" in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("network.widht=3", "network.widht: unknown key; did you mean 'network.width'?"),
        ("network.width=wide", "network.width=wide: a whole number is needed"),
        ("weighting.critic.favours=larg", "weighting.critic.favours=larg: unknown; did you mean 'large'?"),
        ("critic.v_min=5", "critic.v_min=5"),
        ("env.speed=fast", "env.speed=fast: a number is needed"),
        ("network=gatd", "network=gatd: unknown; did you mean 'gated'?"),
        ("network._target_=their_pkg.gated.Gatd", "'their_pkg.gated' has no 'Gatd'"),
        (
            "network._target_=their_pkg.trace.Trace",
            "is no class of torch.nn.Module (see docs/your_method.md)",
        ),
        ("critic._target_=their_pkg.gated.Gated", "is no class of lit_mtrl.critics.base.Critic (see docs/your_met"),
    ],
)
def test_one_line_for_mistakes(override: str, said: str) -> None:
    assert said in refused("fit", "--config", "everything", "--config-dir", THEIRS, override)
