"""Rows as an aligned table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Header and one line per row; the rows have the same keys. Text stands left, numbers right, shares are per cent,
    None is a dash.
    """
    keys = list(rows[0])
    cells = [[_cell(key, row[key]) for key in keys] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(keys, *cells, strict=True)]
    left = [isinstance(rows[0][key], str) for key in keys]
    lines = []
    for line in [keys, *cells]:
        texts = (t.ljust(w) if side else t.rjust(w) for t, w, side in zip(line, widths, left, strict=True))
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if key == "of_bare" or key.endswith("_share"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
