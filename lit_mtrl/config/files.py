"""Configuration files: what ``--config`` names, and when what was read of them holds no more."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.config.folders import config_dirs, file_of, groups, here
from lit_mtrl.config.read import read_yaml
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import nearest, unknown
from lit_mtrl.core.text import first_line, shown


@dataclass(frozen=True)
class ConfigFile:
    """A file of ``--config``; equal are those of the same path and text."""

    path: Path
    text: str
    content: dict[str, Any] = field(compare=False)
    """What the text says; not to be changed."""


def conf_state() -> tuple[tuple[str, int, int], ...]:
    """Path, time and size of every configuration: what was composed of them holds until one of these changes."""
    walks = (os.walk(folder) for folder in config_dirs())
    files = (os.path.join(place, name) for walk in walks for place, _, names in walk for name in names)
    return tuple((file, *_stamp(file)) for file in files)


def read_config(config: str) -> ConfigFile:
    """What a ``--config`` argument names: a file, or an experiment by its bare name."""
    names = groups()["experiment"]
    path = Path(config)
    if config in names:
        path = file_of("experiment", config)
    else:
        near = nearest(path.stem, names)
        hint = f"; did you mean the experiment '{near}'?" if near else ""
        none = unknown("--config", shown(config), names) + here(f"experiment/{config}")
        require(bool(path.suffix) or path.is_file(), none)
        require(path.is_file(), f"--config {shown(config)}: no such file{hint}")
    return _read(path.resolve(), f"--config {shown(config)}", _stamp(path))


@lru_cache(maxsize=256)
def _read(path: Path, where: str, stamp: tuple[int, int]) -> ConfigFile:
    """The file at ``path`` as it was at ``stamp``, read once; `ConfigError` begins with ``where``."""
    text, content = read_yaml(path, where)
    require(content not in (None, {}), f"{where}: is empty; start from a file of conf/experiment")
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: must hold a mapping of keys, like the files in conf/experiment")
    try:
        content = OmegaConf.to_container(OmegaConf.create(text))  # reads 1e-3 as a number, which YAML 1.1 does not
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{where}: not readable as YAML: {first_line(error)}") from error
    assert isinstance(content, dict)
    whole = isinstance(content.get("defaults", []), list)
    require(whole, f"{where}: defaults: must be a list, like those in conf/experiment")
    dotted = next((key for key in map(str, content) if "." in key), "")
    require(not dotted, f"{where}: {shown(dotted)}: has dots, as on the command line; in a file keys lie in each other")
    return ConfigFile(path, text, {str(key): value for key, value in content.items()})


def _stamp(file: str | Path) -> tuple[int, int]:
    """When it was written, and its size; zeros for a file that is gone."""
    try:
        state = os.stat(file)
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size
