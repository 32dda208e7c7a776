"""Overrides, ``key=value`` in Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from lit_mtrl.config.keys import kind_of
from lit_mtrl.config.kinds import Text
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.text import first_line


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's understanding of each; `ConfigError` for what is none."""
    for text in overrides:
        written = ("=" in text and not text.startswith("=")) or text.startswith("~")
        require(written, f"{text}: not understood; overrides are written key=value")
    try:
        return [_parse(text) for text in overrides]
    except HydraException as error:
        raise ConfigError(f"override: {first_line(error)}") from error


def parse_single(overrides: Sequence[str]) -> list[Override]:
    """`parse_overrides` where each key has one value; `ConfigError` for several, which only a sweep takes."""
    parsed = parse_overrides(overrides)
    for override, text in zip(parsed, overrides, strict=True):
        require(not override.is_sweep_override(), f"{text}: several values; add --multirun, or write a list as [a,b]")
    return parsed


def quote_texts(overrides: Sequence[str]) -> list[str]:
    """The overrides with quotes around what Hydra's grammar does not take where text is meant, such as
    ``output_dir=~/runs``.
    """
    out = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if separator and isinstance(kind_of(key.lstrip("+")), Text) and value[:1] not in ("'", '"'):
            try:
                _parse(text)
            except HydraException:
                text = f"{key}={quoted(value)}"
        out.append(text)
    return out


def quoted(text: str) -> str:
    """The text as Hydra's grammar has it in quotes."""
    return QuotedString(text, Quote.single).with_quotes()


@lru_cache(maxsize=1024)
def _parse(text: str) -> Override:
    return OverridesParser.create().parse_overrides([text])[0]
