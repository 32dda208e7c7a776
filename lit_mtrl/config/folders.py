"""The folders that hold configurations: ours, and the user's own, which ``--config-dir`` adds.

What the user adds is his own writing: modules beside his folder and in it can be imported, and his configurations may
name their classes (`lit_mtrl.config.trust`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.text import shown

ADDED = "LIT_MTRL_CONFIG_DIR"
"""Environment variable with the folders of ``--config-dir``, separated by ``:``; jobs of a sweep and ranks inherit it.
"""


def conf_dir() -> Path:
    """``$LIT_MTRL_CONF``, else ``conf/`` beside the package (a checkout), else the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    named = os.environ.get("LIT_MTRL_CONF")
    places = [Path(named).absolute()] if named else [package.parent / "conf", package / "conf"]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(f"{places[0]}: holds no config.yaml; set LIT_MTRL_CONF to a folder like the repository's conf/")


def added_dirs() -> list[Path]:
    """The user's own folders, absolute, each once."""
    return [Path(text) for text in dict.fromkeys(os.environ.get(ADDED, "").split(os.pathsep)) if text]


def config_dirs() -> list[Path]:
    """All folders, ours first."""
    return [conf_dir(), *added_dirs()]


def groups() -> dict[str, list[str]]:
    """Config groups and their choices, of all folders."""
    found: dict[str, set[str]] = {}
    for folder in config_dirs():
        for group in _subfolders(folder):
            found.setdefault(group.name, set()).update(_choices(group))
    return {group: sorted(names) for group, names in sorted(found.items())}


def file_of(group: str, name: str) -> Path:
    """The file of a choice that `groups` knows."""
    paths = [folder / group / f"{name}.yaml" for folder in config_dirs()]
    return next(path for path in paths if os.path.lexists(path))


def here(name: str) -> str:
    """What to add to a message about a name that no folder has, such as ``network/my_net``, if a folder ``conf`` in the
    working directory has it.
    """
    found = "conf" not in map(str, added_dirs()) and Path("conf", f"{name}.yaml").is_file()
    return "; it lies in ./conf, which --config-dir conf adds" if found else ""


@contextmanager
def adding(folders: Sequence[str]) -> Iterator[None]:
    """Add the folders, besides those of the environment, within the block, and make the user's modules importable.

    `ConfigError` for a folder that does not exist or is not laid out like ``conf/``, and for two files of one name.
    """
    before, path = os.environ.get(ADDED), [*sys.path]
    for folder in folders:
        require(bool(folder) and Path(folder).is_dir(), f"--config-dir {shown(folder)}: no such folder")
        require(os.pathsep not in os.path.abspath(folder), f"--config-dir {shown(folder)}: '{os.pathsep}' in its path")
    texts = [*([before] if before else []), *(os.path.abspath(folder) for folder in folders)]
    os.environ.update({ADDED: os.pathsep.join(texts)} if texts else {})
    try:
        for folder in added_dirs():
            _require_groups(folder)
        if added_dirs():
            _require_different()
        make_importable(own_places())
        yield
    finally:
        sys.path[:] = path
        os.environ.pop(ADDED, None)
        os.environ.update({} if before is None else {ADDED: before})


def own_places() -> list[Path]:
    """Folders whose modules are the user's own, wherever he names them: the working directory, ``PYTHONPATH``, and for
    each folder of his the one that it lies in, and itself.
    """
    named = [Path(text) for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    return [Path.cwd(), *named, *(place for folder in added_dirs() for place in (folder.parent, folder))]


def make_importable(places: Iterable[Path]) -> None:
    """Modules in ``places`` can be imported here and in the processes that this one starts; they hide no installed
    one.
    """
    for place in map(str, places):
        if place not in sys.path:
            sys.path.append(place)


def _require_groups(folder: Path) -> None:
    """`ConfigError` unless it holds one of our groups."""
    known, name = {path.name for path in _subfolders(conf_dir())}, f"--config-dir {shown(folder)}"
    require(folder.is_dir(), f"{name}: no such folder")
    if not known & {path.name for path in _subfolders(folder)}:
        within = [path for path in _subfolders(folder) if known & {inner.name for inner in _subfolders(path)}]
        remedy = f"did you mean {within[0]}?" if within else "lay it out like conf/, as in network/my_net.yaml"
        raise ConfigError(f"{name}: holds no folder of a config group ({', '.join(sorted(known))}); {remedy}")


def _require_different() -> None:
    """`ConfigError` for two files of one name: which of them counted would depend on the order of the folders."""
    files: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(path.resolve() for path in config_dirs()):
        for path in [folder / "config.yaml", *folder.glob("*/**/*.yaml")]:
            if path.is_file():
                files.setdefault(path.relative_to(folder).as_posix(), []).append(path)
    for name, paths in files.items():
        for one, other in pairwise(paths):
            raise ConfigError(f"--config-dir: {one} and {other}: two files of the name {name}; rename one of them")


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _choices(group: Path) -> Iterator[str]:
    for place, folders, files in os.walk(group):
        inside = Path(place).relative_to(group).parts
        names = [name for name in (*folders, *files) if name.endswith(".yaml")]
        yield from ("/".join((*inside, name.removesuffix(".yaml"))) for name in names)
