"""Checks of a composed configuration against the groups it chose: which keys exist, and of which type their values are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.spec import ConfigError, require
from lit_mtrl.suggest import unknown_key

PART_NETWORKS = ("actor.network.", "critic.network.")


def known_key(override: Override, schema: DictConfig) -> str:
    """The override's key if it exists in ``schema``."""
    key = override.key_or_group
    if override.is_add() or override.is_delete():
        return key
    known = _known(schema)
    require(key in known, unknown_key(key, known))
    return key


def check_keys(cfg: DictConfig, schema: DictConfig, exchanged: Sequence[str]) -> None:
    """Keys that an experiment file sets must exist in the groups it chooses, or in those that overrides put in their place."""
    known = _known(schema)
    for key in _keys(cfg):
        if not key.startswith(("hydra", "callbacks.")) and key not in known:
            group = next((group for group in exchanged if key.startswith(f"{group}.")), None)
            require(group is not None, unknown_key(key, known))
            raise ConfigError(
                f"{key}: set by the experiment, unknown to the {group} chosen instead; start from another one"
            )


def check_types(cfg: DictConfig, schema: DictConfig) -> None:
    """Every value has the type of the default; whole floats become the int that is asked for."""
    for key in list(_keys(cfg)):
        looked_up = key.split(".", 1)[1] if in_part_network(key) else key
        default, value = OmegaConf.select(schema, looked_up), OmegaConf.select(cfg, key)
        if isinstance(default, DictConfig) or isinstance(value, DictConfig):
            require(
                default is None or isinstance(value, DictConfig),
                f"{key}={value}: has keys of its own; choose a file of its group on the command line, or under 'defaults' in a file",
            )
            continue
        if default is None:
            taken = _annotation(schema, looked_up)
            fits = not isinstance(value, str) or taken is None or "str" in taken
            require(fits, f"{key}={value}: a number is needed, or null")
            continue
        if value is None:
            require(_nullable(schema, looked_up), f"{key}=null: give a value; the default is {default}")
        elif isinstance(default, bool):
            require(isinstance(value, bool), f"{key}={value}: true or false is needed")
        elif isinstance(default, int):
            whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
            require(whole, f"{key}={value}: a whole number is needed, such as {default}")
            if isinstance(value, float):
                OmegaConf.update(cfg, key, int(value))
        elif isinstance(default, float):
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
            require(number, f"{key}={value}: a number is needed, such as {default}")


def in_part_network(key: str) -> bool:
    """Whether ``key`` changes the network of the actor or of the critics alone."""
    return key.startswith(PART_NETWORKS)


def _known(schema: DictConfig) -> list[str]:
    keys = list(_keys(schema))
    return keys + [f"{part}.{key}" for part in ("actor", "critic") for key in keys if key.startswith("network.")]


def _keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in cfg:
        yield f"{prefix}{key}"
        node = None if OmegaConf.is_missing(cfg, key) else OmegaConf.to_container(cfg, resolve=False)[key]  # pyright: ignore
        if isinstance(node, dict):
            yield from _keys(cfg[key], f"{prefix}{key}.")


def _nullable(schema: DictConfig, key: str) -> bool:
    """Whether the constructor that takes ``key`` allows None."""
    return "None" in (_annotation(schema, key) or "")


def _annotation(schema: DictConfig, key: str) -> str | None:
    """The type that the constructor which takes ``key`` declares for it, None if none does."""
    parent, _, leaf = key.rpartition(".")
    target = OmegaConf.select(schema, f"{parent}._target_") if parent else None
    parameter = inspect.signature(get_object(target)).parameters.get(leaf) if target else None
    return None if parameter is None else str(parameter.annotation)
