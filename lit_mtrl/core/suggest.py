"""One-line messages for names that do not exist, with the nearest one that does."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(value: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``value``, None if none does."""
    near = get_close_matches(str(value), list(known), 1, 0.6)
    return near[0] if near else None


def unknown(key: str, value: object, known: Iterable[str]) -> str:
    """``key=value: unknown; did you mean X?``, or the list of what exists when nothing is near."""
    known = list(known)
    near = nearest(str(value), known)
    remedy = f"did you mean '{near}'?" if near else f"choose one of {', '.join(known)}"
    return f"{key}={value}: unknown; {remedy}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Message for a dotted key that does not exist: the nearest whole key, or the nearest last part."""
    known = list(known)
    leaves = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
    leaf = nearest(key.rsplit(".", 1)[-1], leaves)
    near = nearest(key, known) or (leaves[leaf] if leaf else None)
    return f"{key}: unknown key; " + (f"did you mean '{near}'?" if near else "--print-config shows what exists")


def unknown_option(option: str, known: Iterable[str]) -> str:
    """Message for a command line option that does not exist."""
    near = nearest(option, known)
    return f"{option}: unknown option; " + (f"did you mean '{near}'?" if near else "see --help")
