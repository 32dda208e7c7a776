"""Checks of a composed configuration against the groups it chose: which keys exist, and of which kind their values
are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from lit_mtrl.config.contract import kind_of_parameter, parameters
from lit_mtrl.config.instantiate import find_class
from lit_mtrl.config.keys import kind_of
from lit_mtrl.config.kinds import Kind, like
from lit_mtrl.config.resolve import raw_values
from lit_mtrl.config.trust import OURS
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown_key
from lit_mtrl.core.text import shown

PART_NETWORK = re.compile(r"[^.]+\.network\.")


def known_key(override: Override, schema: DictConfig) -> str:
    """The override's key if it exists in ``schema``."""
    key = override.key_or_group
    if override.is_add() or override.is_delete():
        return key
    known = _known(schema)
    require(key in known, unknown_key(key, known))
    return key


def check_keys(cfg: DictConfig, schema: DictConfig, exchanged: Sequence[str], deleted: Collection[str] = ()) -> None:
    """Keys that an experiment file sets must exist in the groups it chooses, or in those that overrides put in their
    place, unless overrides delete them.
    """
    known = {*_known(schema), *deleted}
    for key, _ in raw_values(cfg):
        if not key.startswith("hydra") and key not in known:
            group = next((group for group in exchanged if key.startswith(f"{group}.")), key.split(".")[0])
            others_have_it = group in exchanged or kind_of(key) is not None
            require(others_have_it, unknown_key(shown(key), known))
            leaf = key.rpartition(".")[2]
            raise ConfigError(
                f"{key}: set by the experiment, unknown to the {group} chosen there or instead; give its class an"
                f" argument '{leaf}', or delete the key: ~{key}"
            )


def check_values(cfg: DictConfig, schema: DictConfig) -> None:
    """Every value is of its key's kind, in place in the form that is used.

    Keys of our own classes have the kinds of `lit_mtrl.config.keys`; those of others that of the constructor's
    argument, or the type of the default.
    """
    for key, raw in raw_values(cfg):
        require(raw != "???", f"{key}=???: stands for a value that is missing; give one")
        looked_up = key.split(".", 1)[1] if in_part_network(key) else key
        default, value = OmegaConf.select(schema, looked_up), OmegaConf.select(cfg, key)
        value = OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value
        if isinstance(default, DictConfig):
            require(
                isinstance(value, DictConfig),
                f"{key}={shown(value)}: has keys of its own; choose a file of its group on the command line, or under"
                f" 'defaults' in a file",
            )
        elif isinstance(value, DictConfig) and default is None and kind_of(looked_up) is None:
            continue  # of a part that an experiment added
        elif not key.endswith("_target_"):
            target = OmegaConf.select(cfg, f"{key.rpartition('.')[0]}._target_") if "." in key else None
            fitting = _kind(target or _part_target(cfg, key), looked_up, default).check(key, value, default)
            if type(fitting) is not type(value) or fitting != value:
                asked = f"{key}={shown(raw)}: what it refers to is not in the form that is used (text for a name, no ~)"
                require("${" not in str(raw), f"{asked}; change that, or give the value")  # it would be written
                OmegaConf.update(cfg, key, fitting)


def in_part_network(key: str) -> bool:
    """Whether ``key`` changes the network of one of the algorithm's parts alone, such as ``actor.network.width``."""
    return PART_NETWORK.match(key) is not None


def _part_target(cfg: DictConfig, key: str) -> str | None:
    """The class of the network that a key such as ``actor.network.width`` changes."""
    return OmegaConf.select(cfg, "network._target_") if in_part_network(key) else None


def _known(schema: DictConfig) -> list[str]:
    keys = [key for key, _ in raw_values(schema)]
    return keys + [f"{part}.{key}" for part in parts_in(schema) for key in keys if key.startswith("network.")]


def parts_in(cfg: DictConfig) -> list[str]:
    """The groups in ``cfg`` that have a network of their own, such as ``actor`` and ``critic``."""
    parts = cfg.items_ex(resolve=False)  # another value may be missing, or refer to one that is
    return [str(name) for name, part in parts if isinstance(part, DictConfig) and part and "network" in part]


def _kind(target: str | None, key: str, default: object) -> Kind:
    """The kind of a key that the class ``target`` takes, if there is one."""
    leaf = key.rpartition(".")[2]
    known = kind_of(key) if target is None or target.split(".")[0] == OURS else None
    if known is not None:
        return known
    takes = parameters(find_class(target, object, f"{key.rpartition('.')[0]}._target_={target}")) if target else {}
    if leaf in takes:
        return kind_of_parameter(takes[leaf], default)
    return like(default) if default is not None else Kind(null="as it is")
