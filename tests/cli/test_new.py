"""``new``: every template is written under the name that is asked for, and trains; names that would do harm are
refused.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

from lit_mtrl.cli.main import _parse
from lit_mtrl.cli.new import KINDS, PAGE, TEMPLATES
from tests.helpers.command import refused, run
from tests.helpers.project import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("sparse_gates", "my_net"):
        sys.modules.pop(name, None)


FAST = ("network", "weighting")


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_template_trains(kind: str, here: Path) -> None:
    code, out, err = run("new", kind, "sparse_gates", "--dir", "mine")
    assert (code, err) == (0, "")
    group = KINDS[kind]
    files = ["sparse_gates.py", f"conf/{group}/sparse_gates.yaml", "conf/experiment/sparse_gates_debug.yaml"]
    files = [here / "mine" / name for name in [*files, "test_sparse_gates.py"]]
    assert out.splitlines()[:4] == [str(path.relative_to(here)) for path in files]
    for path in files:
        text = path.read_text()
        assert "my_" not in text and "My" not in text.replace("My ", "") and "templates" not in text, path
    named = {node.name for node in ast.walk(ast.parse(files[0].read_text())) if isinstance(node, ast.ClassDef)}
    assert "SparseGates" in named
    command = out.splitlines()[-1].split()
    assert command[:4] == ["python", "-m", "lit_mtrl", "fit"]
    code, _, err = run(*command[3:])
    assert code == 0, err
    assert (here / "outputs" / "sparse_gates_debug").is_dir()


def test_every_kind_has_a_template() -> None:
    for kind in KINDS:
        files = {path.name for path in (TEMPLATES / kind).iterdir() if path.is_file()}
        assert files == {
            *("__init__.py", f"my_{kind}.py", f"my_{kind}.yaml", f"my_{kind}_debug.yaml", f"test_my_{kind}.py")
        }


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("netwrok", "mine", "new=netwrok: unknown; did you mean 'network'?"),
        ("network", "my-net", "new network my-net: give a name that Python can import, such as my_network"),
        ("network", "class", "give a name that Python can import"),
        ("network", "3d", "give a name that Python can import"),
        ("network", "../mine", "give a name that Python can import"),
        ("network", "__init__", "give a name that Python can import"),
        ("network", "", "give a name that Python can import"),
        ("network", "x" * 250, "shorten it"),
        ("network", "torch", "there is a module of that name"),
        ("network", "sys", "there is a module of that name"),
        ("network", "paco", "there is network=paco already"),
        ("suite", "probes", "there is env=probes already"),
    ],
)
def test_names_that_are_refused(kind: str, name: str, said: str, here: Path) -> None:
    assert said in refused("new", kind, name)
    assert not any(here.iterdir())


def test_nothing_is_overwritten(here: Path) -> None:
    (here / "conf" / "weighting").mkdir(parents=True)
    (here / "conf" / "weighting" / "mine.yaml").write_text("mine")
    assert "conf/weighting/mine.yaml exists; remove it, or choose another name" in refused("new", "weighting", "mine")
    assert [path.name for path in here.rglob("*") if path.is_file()] == ["mine.yaml"]
    assert "--dir conf/weighting/mine.yaml" in refused("new", "suite", "mine", "--dir", "conf/weighting/mine.yaml")


def test_the_page_can_be_followed(here: Path) -> None:
    """Every command of docs/your_method.md, in its order; what would train is composed."""
    text = (ROOT / PAGE).read_text()
    commands = [shlex.split(line) for line in re.findall(r"^python -m lit_mtrl (.+)$", text, re.MULTILINE)]
    assert [command[0] for command in commands].count("fit") >= 5
    for command in commands:
        if "--trust" in command or command[0] == "report":
            _parse(command)  # of runs that are not there
        else:
            code, _, err = run(*command, *(["--print-config"] if command[0] == "fit" else []))
            assert code == 0, err
    for name in re.findall(r"`((?:lit_mtrl|tests)/[\w/.]+)`", text):
        assert (ROOT / name).is_file(), name
