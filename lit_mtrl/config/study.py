"""Studies: experiment files that say what they sweep, under ``hydra.sweeper.params``."""

from __future__ import annotations

from collections.abc import Sequence

from lit_mtrl.config.files import read_config
from lit_mtrl.config.overrides import parse_overrides
from lit_mtrl.config.saved import is_saved


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Keys that have several values, such as ``seed`` in ``seed=0,1,2``."""
    return [o.get_key_element().lstrip("+") for o in parse_overrides(overrides) if o.is_sweep_override()]


def study_sweep(configs: Sequence[str]) -> dict[str, str]:
    """What experiment files sweep themselves, under ``hydra.sweeper.params``: key to comma-separated values; a saved
    configuration nothing.
    """
    found: dict[str, str] = {}
    for config in configs:
        content = read_config(config).content
        if is_saved(content):  # it may be somebody else's, and what is swept counts as the user's own
            continue
        sweeper = (content.get("hydra") or {}).get("sweeper") or {}
        found |= {str(key): str(values) for key, values in (sweeper.get("params") or {}).items()}
    return found


def split_experiment(configs: Sequence[str], overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """``experiment=X`` beside a study is one more ``--config``, after it; Hydra would put it in the study's place."""
    if not study_sweep(configs):
        return [*configs], [*overrides]
    more = [text.split("=", 1)[1] for text in overrides if text.startswith("experiment=")]
    return [*configs, *more], [text for text in overrides if not text.startswith("experiment=")]
