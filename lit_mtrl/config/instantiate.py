"""Calling what a configuration names."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.trust import OURS
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown_key
from lit_mtrl.core.text import first_line

T = TypeVar("T")


def make(cfg: DictConfig, base: type[T], key: str, skip: tuple[str, ...] = (), **more: Any) -> T:
    """An object of the class under ``_target_`` in the group ``key``, with its values (less ``name`` and what
    ``skip`` names) and ``more``.

    Whether the class may be named has been asked (`lit_mtrl.config.trust`). `ConfigError` if it is no class of
    ``base``, or does not take a value.
    """
    values = plain(cfg)
    name = values.pop("_target_")
    target = find_class(name, base, f"{key}._target_={name}")
    values = {k: v for k, v in values.items() if k not in ("name", *skip)}
    known = inspect.signature(target).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for value in values:
            require(value in known, unknown_key(f"{key}.{value}", [f"{key}.{each}" for each in known]))
    return target(**values, **more)


def find_class(name: str, base: type[T], where: str) -> type[T]:
    """The class with a dotted name; `ConfigError` begins with ``where`` if there is none, or if it is not of
    ``base``.

    A name in this package, which all may use, is that of a class of this package, and of none that a module of it has
    imported.
    """
    try:
        found = get_object(name)
    except Exception as error:  # whatever happens while a module is imported
        raise ConfigError(f"{where}: cannot be imported ({first_line(error)})") from error
    needed = "" if base is object else f" of {base.__module__}.{base.__qualname__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{where}: is no class{needed}")
    home = found.__module__
    ours = name.split(".")[0] != OURS or home.split(".")[0] == OURS
    require(ours, f"{where}: is a class of {home.split('.')[0]}; name it {home}.{found.__qualname__}")
    return found


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dicts, lists and scalars: to be used, but not to be written."""
    out = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(out, dict)
    return {str(key): value for key, value in out.items()}
