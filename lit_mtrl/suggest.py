"""One-line messages for names that do not exist, with the nearest one that does."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(key: str, value: str, known: Iterable[str]) -> str:
    """``key=value: unknown; did you mean X?``, or the list of what exists when nothing is near."""
    known = list(known)
    near = get_close_matches(str(value), known, 1, 0.6)
    remedy = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known)}"
    return f"{key}={value}: unknown; {remedy}"
