"""Calling what a configuration names."""

from __future__ import annotations

import inspect
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.spec import require
from lit_mtrl.suggest import unknown_key


def make(cfg: DictConfig, skip: tuple[str, ...] = (), **more: Any) -> Any:
    """Call the ``_target_`` of a group with its values (less ``name`` and what ``skip`` names) and ``more``."""
    values = plain(cfg)
    name = values.pop("_target_")
    target = get_object(name)
    values = {k: v for k, v in values.items() if k not in ("name", *skip)}
    known = inspect.signature(target).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for key in values:
            require(key in known, f"{name}: " + unknown_key(key, known))
    return target(**values, **more)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dicts, lists and scalars."""
    out = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(out, dict)
    return {str(key): value for key, value in out.items()}
