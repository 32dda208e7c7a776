"""Reading configuration files that may be damaged, endless or made to do harm: plain values of a bounded size, or one
line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.text import first_line

BYTES = 2**18
VALUES = 10_000
DEPTH = 50
"""A run's configuration has about 4 kB, 150 values, and a depth of 4."""


def read_yaml(path: Path, name: str, remedy: str = "repair it, or give another file") -> tuple[str, Any]:
    """The text of a YAML file and the plain values in it; `ConfigError` says ``name`` and ``remedy``.

    Aliases count as often as they are used, so a few lines that stand for billions of values are refused, and so are
    values that contain themselves.
    """
    try:
        size = path.stat().st_size
        require(size <= BYTES, f"{name}: has {size:,} bytes, a configuration at most {BYTES:,}; {remedy}")
        text = path.read_text(encoding="utf-8-sig")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not readable as YAML ({first_line(error)}); {remedy}") from error
    require_bounded(tree, name, remedy)
    return text, tree


def require_bounded(tree: Any, name: str, remedy: str = "give another file") -> None:
    """`ConfigError` if plain values are too many for a configuration, or lie in each other too deep."""
    try:
        size = _values(tree, {}, 0)
    except RecursionError as error:
        raise ConfigError(f"{name}: values lie in each other more than {DEPTH} deep; {remedy}") from error
    require(size <= VALUES, f"{name}: stands for more than {VALUES:,} values; {remedy}")


def _values(tree: Any, known: dict[int, int], depth: int) -> int:
    """How many values it has when aliases are written out; `RecursionError` if they are too deep or endless."""
    if not isinstance(tree, dict | list):
        return 1
    if depth > DEPTH:
        raise RecursionError
    if id(tree) not in known:
        below = tree.values() if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_values(each, known, depth + 1) for each in below)
    return known[id(tree)]
