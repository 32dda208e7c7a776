"""Tables that a run writes row by row, ``frames`` first; and nested mappings as one level."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key; an empty mapping is a leaf."""
    if not isinstance(tree, dict) or not tree:
        return {prefix[:-1]: tree}
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out.update(flat(value, f"{prefix}{key}."))
    return out


def safe_cell(value: Any) -> Any:
    """The value for a CSV file that others open: an apostrophe before text that a spreadsheet would take for a formula. Numbers stay as they are."""
    if not isinstance(value, str) or not value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add ``rows``, all of the same keys, to a CSV file; their keys are its header if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


def keep_rows_until(path: Path, frames: int) -> None:
    """Drop what a CSV file holds beyond ``frames``: rows of a run that was killed after its last checkpoint.

    A last row that was cut short goes too. Does nothing if there is no such file, or none with frames.
    """
    if not path.exists():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        if "frames" not in columns:
            return
        rows = [row for row in reader if row["frames"] and None not in row.values()]
    temporary = path.with_suffix(".new")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["frames"]) <= frames)
    temporary.replace(path)
