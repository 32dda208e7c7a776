"""Nothing imports upwards; hydra and lightning stay in the files that may know them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = {
    0: ("spec", "suggest", "processes", "config", "core", "manifest"),
    1: ("nets", "weighting", "envs", "policies", "critics", "ranks"),
    2: (
        "algos",
        "engine",
        "execution",
        "gradients",
        "data",
        "evaluate",
        "players",
        "checkpoint",
        "mlflow_store",
        "mlflow_view",
        "tracking",
        "tables",
        "stats",
        "report",
        "ui",
        "weights",
    ),
    3: ("agent", "data.module", "logger", "strategies"),
    4: (
        "cli",
        "commands",
        "compose",
        "completion",
        "multirun",
        "study",
        "folder",
        "build",
        "run",
        "bench",
        "doctor",
        "make",
        "labels",
        "match",
        "schema",
        "config.resolve",
        "testing",
        "__main__",
    ),
}
FILES = sorted([*(ROOT / "lit_mtrl").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")])


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"lit_mtrl.{name}" if name.startswith("callbacks") else name


def layer(module: str) -> int:
    if module.startswith("lit_mtrl.callbacks"):
        return 5
    name = module.removeprefix("lit_mtrl").lstrip(".")
    if not name:
        return 0
    found = [n for n, names in LAYERS.items() for known in names if name == known or name.startswith(known + ".")]
    assert found, f"{module} has no layer: add it to tests/test_layers.py and CONTRIBUTING.md"
    return max(found)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} if node.module != "lit_mtrl" else {f"lit_mtrl.{alias.name}" for alias in node.names}
    return {name for name in names if name != "lit_mtrl.__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    own = module_of(path)
    for name in imports(path):
        top = name.split(".")[0]
        if top == "lit_mtrl":
            assert layer(name) <= layer(own), f"{own} imports {name}"
        assert top != "callbacks", f"{own} imports {name}: that name is everybody's; ours is lit_mtrl.callbacks"
        assert not name.startswith("lit_mtrl.callbacks"), f"{own} imports {name}: callbacks are imported by nobody"
        if top in ("hydra", "omegaconf"):
            assert layer(own) == 4, f"{own} imports {name}"
        if top == "lightning":
            assert layer(own) >= 3, f"{own} imports {name}"
    if layer(own) < 5:
        assert len(path.read_text().splitlines()) <= 300, f"{path} is long: split it, unless that would hide the maths"
