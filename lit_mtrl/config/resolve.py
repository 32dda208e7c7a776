"""Looking up what a configuration refers to, but for what lies in the environment: that is looked up when it is used,
and never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers.oc import env


def resolved(cfg: DictConfig) -> DictConfig:
    """``cfg`` itself, without references but for ``${oc.env:...}`` and what depends on it: files, checkpoints and
    stores hold no secret then.
    """
    asked: list[str] = []
    found: dict[str, Any] = {}

    def lookup(*args: Any) -> Any:
        asked.append(args[0])
        return env(*args)

    OmegaConf.register_new_resolver("oc.env", lookup, replace=True)
    try:
        for key, raw in raw_values(cfg):
            if isinstance(raw, dict) or "${" not in str(raw):
                continue
            asked.clear()
            value = OmegaConf.select(cfg, key)
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            if not asked:
                found[key] = value
    finally:
        OmegaConf.register_new_resolver("oc.env", env, replace=True)
    for key, value in found.items():
        OmegaConf.update(cfg, key, value)
    return cfg


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as dicts, lists and scalars, references as such."""
    out = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(out, dict)
    return {str(key): value for key, value in out.items()}


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of the configuration with other values for dotted keys."""
    out = cfg.copy()
    for key, value in values.items():
        OmegaConf.update(out, key, value)
    return out


def raw_value(cfg: DictConfig, key: str) -> Any:
    """The value of a dotted key as it is written, None if there is none."""
    parent, _, leaf = key.rpartition(".")
    holder = OmegaConf.select(cfg, parent) if parent else cfg
    node = holder._get_node(leaf) if isinstance(holder, DictConfig) else None
    if node is None:
        return None
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node._value()


def raw_values(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """The dotted keys of all values with these as they are written, each group before what it holds."""
    return _raw_values(as_written(cfg))


def _raw_values(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _raw_values(value, f"{prefix}{key}.")
