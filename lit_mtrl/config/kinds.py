"""Kinds of values: each checks one, and says in words what it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_mtrl.core.addresses import require_no_credentials
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.text import require_short, shown

LARGEST = 2**53
"""The largest whole number that a double holds exactly, as YAML, JSON and MLflow have numbers."""


@dataclass(frozen=True)
class Kind:
    """A value of any kind. ``null``: what null means; without a text null is no value."""

    null: str = ""

    def __str__(self) -> str:
        return "a value"

    def check(self, key: str, value: Any, default: Any = None) -> Any:
        """The value in the form that is used, such as 5 for 5.0; `ConfigError` names ``key`` and what would fit, such
        as ``default``.
        """
        if value is None and self.null:
            return None
        example = "" if default is None or value == default else f", such as {shown(default)}"
        null = f", or null ({self.null})" if self.null else ""
        fits, value = self.fit(value)
        require(fits, f"{key}={shown(value)}: {self}{null} is needed{example}")
        return value

    def fit(self, value: Any) -> tuple[bool, Any]:
        """Whether it is of this kind, and the value in the form that is used."""
        return value is not None and _finite(value), value


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number in [low, high]; 5.0 and 5e3 are whole."""

    low: int = -LARGEST
    high: int = LARGEST

    def __str__(self) -> str:
        return f"a whole number{_bounds(self.low, self.high)}"

    def fit(self, value: Any) -> tuple[bool, Any]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            return False, value
        fits = value == int(value) and self.low <= value <= self.high
        return fits, int(value) if fits else value


@dataclass(frozen=True)
class Number(Kind):
    """A finite number in [low, high], or above ``low`` and below ``high`` where these are ``open``."""

    low: float = -math.inf
    high: float = math.inf
    open: str = ""
    """Which ends do not belong to it: ``low``, ``high``, ``low high``."""

    def __str__(self) -> str:
        return f"a number{_bounds(self.low, self.high, self.open)}"

    def fit(self, value: Any) -> tuple[bool, Any]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            return False, value
        inside = self.low <= value <= self.high
        at_end = ("low" in self.open and value == self.low) or ("high" in self.open and value == self.high)
        return inside and not at_end, value


@dataclass(frozen=True)
class Numbers(Number):
    """One or more different numbers in a list."""

    def __str__(self) -> str:
        return f"a list of different numbers{_bounds(self.low, self.high, self.open)}"

    def fit(self, value: Any) -> tuple[bool, Any]:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return False, value
        numbers = all(super(Numbers, self).fit(each)[0] for each in value)
        return numbers and len(set(value)) == len(value), list(value)


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    def __str__(self) -> str:
        return "true or false"

    def fit(self, value: Any) -> tuple[bool, Any]:
        return isinstance(value, bool), value


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words."""

    of: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"one of {', '.join(self.of)}"

    def check(self, key: str, value: Any, default: Any = None) -> Any:
        if value is None and self.null:
            return None
        require(isinstance(value, str) and value in self.of, unknown(key, shown(value), self.of))
        return value


@dataclass(frozen=True)
class Text(Kind):
    """Printable text; a whole number will do, as its digits."""

    def __str__(self) -> str:
        return "a text without control characters"

    def fit(self, value: Any) -> tuple[bool, Any]:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return isinstance(value, str) and bool(value) and value.isprintable() and "${" not in value, value


@dataclass(frozen=True)
class Name(Text):
    """Text that names folders, one below the other if it has slashes; none of them leads out of where they are made."""

    def __str__(self) -> str:
        return "a name of printable characters, relative and without '..'"

    def check(self, key: str, value: Any, default: Any = None) -> Any:
        value = super().check(key, value, default)
        if value is not None:
            require_short(key, value)
        return value

    def fit(self, value: Any) -> tuple[bool, Any]:
        fits, value = super().fit(value)
        return fits and all(part.strip() not in ("", ".", "..") for part in value.split("/")), value


@dataclass(frozen=True)
class Folder(Text):
    """The path of a folder; a leading ``~`` is the user's home."""

    def __str__(self) -> str:
        return "the path of a folder"

    def check(self, key: str, value: Any, default: Any = None) -> Any:
        value = super().check(key, value, default)
        if not isinstance(value, str):
            return value
        require_short(key, value)
        try:
            return str(Path(value).expanduser()) if value.startswith("~") else value
        except RuntimeError as error:
            raise ConfigError(
                f"{key}={shown(value)}: there is no such user; write ./~ for a folder of that name"
            ) from error


@dataclass(frozen=True)
class Address(Text):
    """Where a store is; it is written with the run, so it holds no password."""

    def __str__(self) -> str:
        return "an address without a password"

    def check(self, key: str, value: Any, default: Any = None) -> Any:
        if isinstance(value, str):
            require_no_credentials(key, value)
        return super().check(key, value, default)


@dataclass(frozen=True)
class Tasks(Kind):
    """A benchmark's name, or a list of tasks."""

    def __str__(self) -> str:
        return "mt10, mt25 or mt50, or a list of one or more task names"

    def fit(self, value: Any) -> tuple[bool, Any]:
        one = Text().fit
        if isinstance(value, str):
            return one(value)[0], value
        if not isinstance(value, Sequence) or not value:
            return False, value
        found = [one(each) for each in value]
        return all(fits for fits, _ in found), [each for _, each in found]


@dataclass(frozen=True)
class Size(Kind):
    """A number of parameters, or the name of a network that has as many."""

    def __str__(self) -> str:
        return "a number of parameters, or a network's name"

    def fit(self, value: Any) -> tuple[bool, Any]:
        return Text().fit(value) if isinstance(value, str) else Whole(low=1).fit(value)


def like(default: Any) -> Kind:
    """The kind of a key that only its default tells of."""
    if isinstance(default, bool):
        return Flag()
    if isinstance(default, int):
        return Whole()
    if isinstance(default, float):
        return Number()
    return Text() if isinstance(default, str) else Kind()


def _finite(value: Any) -> bool:
    """Whether all numbers in it are; a whole number too large for a double is not."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(map(_finite, value))
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        return False


def _bounds(low: float, high: float, open_ends: str = "") -> str:
    """Such as `` from 0 to below 1`` or `` above 0, at most 10``; nothing where nothing is bounded."""
    low_text = "" if low in (-math.inf, -LARGEST) else f"{'above' if 'low' in open_ends else 'from'} {_digits(low)}"
    if high in (math.inf, LARGEST):
        return f" {low_text}".rstrip()
    if low_text.startswith("from"):
        return f" {low_text} to {'below ' if 'high' in open_ends else ''}{_digits(high)}"
    high_text = f"{'below' if 'high' in open_ends else 'at most'} {_digits(high)}"
    return f" {low_text}, {high_text}" if low_text else f" {high_text}"


def _digits(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
