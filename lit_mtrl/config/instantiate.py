"""Calling what a configuration names.

What a class lacks is said in one line, by what its base declares (`lit_mtrl.config.contract`). An exception from within
a user's constructor, unless he raises `ConfigError`, is a fault in his code and keeps its traceback.
"""

from __future__ import annotations

import importlib
import traceback
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.contract import (
    parameters,
    require_arguments,
    require_attributes,
    require_base_constructor,
    require_methods,
)
from lit_mtrl.config.trust import OURS, missing
from lit_mtrl.core.errors import PAGE, ConfigError, require

T = TypeVar("T")


def make(cfg: DictConfig, base: type[T], key: str, skip: tuple[str, ...] = (), **more: Any) -> T:
    """An object of the class under ``_target_`` in the group ``key``, with its values and ``more``; less what ``skip``
    names, and ``name`` unless the class takes one.

    Whether the class may be named has been asked (`lit_mtrl.config.trust`). `ConfigError` if it is no class of
    ``base``, does not take a value or is not given one that it needs, or lacks what ``base`` declares.
    """
    values = plain(cfg)
    name = values.pop("_target_")
    where = f"{key}._target_={name}"
    target = find_class(name, base, where)
    takes = parameters(target)
    values = {k: v for k, v in values.items() if k not in skip and (k != "name" or k in takes)}
    require_arguments(target, takes, values, more, key)
    made = target(**values, **more)
    require_base_constructor(made, where)
    require_attributes(made, base, where)
    return made


def find_class(name: str, base: type[T], where: str) -> type[T]:
    """The class with a dotted name; `ConfigError` begins with ``where`` if there is none, if it is not of ``base``, or
    lacks a method that ``base`` leaves to it.

    A name in this package, which all may use, is that of a class of this package, and of none that a module of it has
    imported.
    """
    found = _found(name, where)
    if not (isinstance(found, type) and issubclass(found, base)):
        # A network need not inherit from ours.
        asked = "torch.nn.Module" if base.__name__ == "Network" else f"{base.__module__}.{base.__qualname__}"
        raise ConfigError(f"{where}: is no class" + ("" if base is object else f" of {asked} (see {PAGE})"))
    home = found.__module__
    ours = name.split(".")[0] != OURS or home.split(".")[0] == OURS
    require(ours, f"{where}: is a class of {home.split('.')[0]}; name it {home}.{found.__qualname__}")
    require_methods(found, base, where)
    return found


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dicts, lists and scalars: to be used, but not to be written."""
    out = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(out, dict)
    return {str(key): value for key, value in out.items()}


def _found(name: str, where: str) -> Any:
    """What the dotted name stands for: the longest part of it that is a module, and attributes from there on."""
    parts = name.split(".")
    found = _imported(parts[0], where)
    for i, part in enumerate(parts[1:], start=2):
        inside = ".".join(parts[:i])
        if not hasattr(found, part) and hasattr(found, "__path__"):
            _imported(inside, where)
        require(hasattr(found, part), f"{where}: cannot be imported ('{'.'.join(parts[: i - 1])}' has no '{part}')")
        found = getattr(found, part)
    return found


def _imported(module: str, where: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise ConfigError(f"{where}: cannot be imported ({_reason(error)})") from error
        parent, _, leaf = module.rpartition(".")
        if parent:
            raise ConfigError(f"{where}: cannot be imported ('{parent}' has no '{leaf}')") from error
        raise ConfigError(f"{where}: {missing(module)}") from error
    except Exception as error:  # whatever happens while a module is imported
        raise ConfigError(f"{where}: cannot be imported ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What happened, and in which line of which file."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    inside = len(frames) > 1 and not isinstance(error, SyntaxError)  # the first is in this file
    at = f", {frames[-1].filename}:{frames[-1].lineno}" if inside else ""
    return f"{type(error).__name__}: {said}{at}"
