"""Nothing imports upwards or in a circle; hydra and lightning stay in the rooms that may know them; files are short."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, SOURCES

ROOMS = ("core envs nets weighting policies critics algos data evaluation training tracking config runs report").split()
ROOMS += ["bench", "doctor", "cli", "__main__", "callbacks"]
"""From the bottom: a room imports from itself and from those before it."""
HYDRA = ("config", "runs", "cli", "bench")
LIGHTNING = ("data.module", "training", "tracking", "runs", "bench", "cli", "callbacks")
LINES, FOLDERS = 250, 18


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"lit_mtrl.{name}" if name.startswith("callbacks") else name


MODULES = {module_of(path): path for path in SOURCES}


def room(module: str) -> str:
    return (module.split(".")[1:] or [""])[0]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere but for its annotations."""
    tree = ast.parse(path.read_text())
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (below & MODULES.keys()) or {node.module}
    return {name for name in names if name != "lit_mtrl"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    own = module_of(path)
    for name in imports(path):
        top = name.split(".")[0]
        if top == "lit_mtrl":
            assert ROOMS.index(room(name)) <= ROOMS.index(room(own)), f"{own} imports {name}"
            assert room(name) != "callbacks", f"{own} imports {name}: callbacks are imported by nobody"
        assert top != "callbacks", f"{own} imports {name}: that name is everybody's; ours is lit_mtrl.callbacks"
        if top in ("hydra", "omegaconf"):
            assert room(own) in HYDRA, f"{own} imports {name}"
        if top == "lightning":
            assert own.removeprefix("lit_mtrl.").startswith(LIGHTNING), f"{own} imports {name}"
    assert len(path.read_text().splitlines()) <= LINES, f"{path} is long: split it, unless that would hide the maths"


def test_no_circles() -> None:
    graph = {module: {name for name in imports(path) if name in MODULES} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_tests_share_what_is_in_helpers() -> None:
    """Test modules do not import each other; what lies beside the rooms is about the whole project."""
    loose = {path.name for path in (ROOT / "tests").glob("*.py")}
    assert loose == {"__init__.py", "conftest.py", "test_layers.py", "test_packaging.py", "test_readme.py"}
    for path in (ROOT / "tests").rglob("*.py"):
        ours = {name for name in imports(path) if name.split(".")[0] == "tests"}
        assert all(name.startswith("tests.helpers") for name in ours), f"{path} imports {ours}"


def test_the_house() -> None:
    places = [path for path in (ROOT / "lit_mtrl").iterdir() if path.name != "__pycache__"]
    assert sum(path.is_dir() for path in places) <= FOLDERS
    assert {path.name for path in places if path.is_file()} == {"__init__.py", "__main__.py"}
    for path in places:
        if path.is_dir():
            assert ast.get_docstring(ast.parse((path / "__init__.py").read_text())), f"{path}: say what the room is for"
