"""Saved configurations, which a run left in its ``config.yaml``, with overrides of their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.config.check import check_values, known_key
from lit_mtrl.config.overrides import parse_single
from lit_mtrl.config.resolve import as_written, raw_value, raw_values, resolved
from lit_mtrl.config.trust import require_trusted
from lit_mtrl.config.upgrade import SAVED, upgraded
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.tables import flat
from lit_mtrl.core.text import first_line, shown

ROOT_KEYS = {"seed", "frames", "epoch_frames", "experiment_name", "run_name", "output_dir", "algo", "network", "env"}
LOOKS_UP = re.compile(r"\$\{[^}]*(:|\$\{)")
"""A resolver; its name may itself be looked up."""


def is_saved(content: Mapping[str, Any]) -> bool:
    """Whether it is the whole configuration of a run, which may be somebody else's, and no experiment."""
    return content.keys() >= ROOT_KEYS


def override_saved(saved: Mapping[Any, Any], overrides: Sequence[str], where: str = SAVED) -> DictConfig:
    """A saved configuration with value overrides; it is resolved, so its groups cannot be exchanged any more.

    It may be somebody else's. So it names no classes but ours and those of trusted packages (`lit_mtrl.config.trust`),
    and looks nothing up outside itself; overrides may.
    """
    parsed = parse_single(overrides)
    base = DictConfig(upgraded(as_written(saved) if isinstance(saved, DictConfig) else saved, where))
    cfg = base.copy()
    try:
        for override in parsed:
            key = override.key_or_group
            require(
                not (isinstance(override.value(), str) and isinstance(raw_value(base, key), dict)),
                f"{key}: a saved config.yaml is resolved, its groups cannot be exchanged; override values, or start"
                f" from an experiment",
            )
            OmegaConf.update(cfg, known_key(override, base), override.value(), merge=True, force_add=True)
        given = [key for override in parsed for key in flat(override.value(), f"{override.key_or_group}.")]
        own = {key for key, _ in raw_values(cfg) if any(f"{key}.".startswith(f"{mine}.") for mine in given)}
        for key, raw in raw_values(cfg):
            looked_up = None if key in own or isinstance(raw, dict) else LOOKS_UP.search(str(raw))
            require(
                looked_up is None,
                f"{key}={shown(raw)}: a saved configuration looks nothing up outside itself; give the value: {key}=...",
            )
        cfg = resolved(cfg)
        require_trusted(as_written(cfg), own)
        check_values(cfg, base)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from error
    names = (base.experiment_name, base.run_name), (cfg.experiment_name, cfg.run_name)
    if names[0] != names[1] and cfg.output_dir == base.output_dir:
        cfg.output_dir = str(cfg.output_dir).replace("/".join(names[0]), "/".join(names[1]))
    return cfg
