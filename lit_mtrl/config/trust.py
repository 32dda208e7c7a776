"""Whose classes a configuration may name under ``_target_``; asked before any of them is imported.

A configuration that somebody saved (in a checkpoint, a run's folder, an artifact) is data: it may name classes of
this package, and of packages that the user trusts in so many words (``--trust my_pkg``). What the user writes himself
(a file that he gives, an override, a folder of ``--config-dir``) may also name his own modules: those in the working
directory, on ``PYTHONPATH``, beside the file, and beside and in the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lit_mtrl.config.folders import own_places
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.text import shown

TRUST = "LIT_MTRL_TRUST"
"""Environment variable with the packages of ``--trust``, comma-separated; jobs of a sweep and ranks inherit it."""
OURS = "lit_mtrl"
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Trust the packages, besides those of the environment, within the block; `ConfigError` for what names none."""
    names = [name for text in packages for name in text.split(",") if name]
    for name in names:
        require(name.isidentifier(), f"--trust {shown(name)}: give the top name of a package, such as my_pkg")
    before = os.environ.get(TRUST)
    if names:
        os.environ[TRUST] = ",".join([*([before] if before else []), *names])
    try:
        yield
    finally:
        if names:
            os.environ.pop(TRUST)
            os.environ.update({} if before is None else {TRUST: before})


def require_trusted(tree: Any, own: Collection[str] | None = None, folders: Sequence[Path] = ()) -> None:
    """`ConfigError` for the first ``_target_`` in the configuration that may not be imported, or that is no dotted
    name.

    ``own``: the keys of targets that the user wrote himself, None for all. ``folders``: of the files that he wrote,
    beside his own places (`lit_mtrl.config.folders`).
    """
    given = {OURS, *os.environ.get(TRUST, "").split(",")}
    for key, name in _targets(tree):
        dotted = isinstance(name, str) and DOTTED.fullmatch(name)
        require(bool(dotted), f"{key}={shown(name)}: give a class by its dotted name, such as my_pkg.my_module.MyClass")
        top = name.split(".")[0]
        mine = own is None or key in own
        if top not in given and mine and find_spec(top) is None:  # there is nothing to trust
            raise ConfigError(f"{key}={shown(name)}: {missing(top)}")
        require(
            top in given or (mine and _is_own(top, folders)),
            f"{key}={shown(name)}: code of '{top}' does not run because a configuration names it;"
            f" if you know and trust that code, add --trust {top}",
        )


def missing(module: str) -> str:
    """What to say of a module that does not exist."""
    remedy = "start where it lies, or add the folder beside it by --config-dir, or its own to PYTHONPATH"
    return f"cannot be imported (there is no module '{module}'); {remedy}"


def _targets(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        if key == "_target_":
            yield f"{prefix}{key}", value
        else:
            yield from _targets(value, f"{prefix}{key}.")


def _is_own(top: str, folders: Sequence[Path]) -> bool:
    """Whether ``import top`` would find a module that lies in one of the user's own places or in ``folders``."""
    places = {path.resolve() for path in (*own_places(), *folders)}
    found = PathFinder.find_spec(top)
    if found is None:
        return False
    inside = [*(found.submodule_search_locations or [found.origin or ""])]
    return all(Path(path).parent.resolve() in places for path in inside)
