"""Tables that a run writes row by row, ``frames`` first; nested mappings as one level; and JSON that every parser
reads.
"""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_mtrl.core.errors import require
from lit_mtrl.core.files import replacing

OURS = ("metrics.csv", "eval.csv", "gradients.csv", "plasticity.csv", "mixture.csv")
"""Tables that a run writes; any other in its folder is the user's."""


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key; an empty mapping is a leaf."""
    if not isinstance(tree, dict) or not tree:
        return {prefix[:-1]: tree}
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out.update(flat(value, f"{prefix}{key}."))
    return out


def to_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON, with null for numbers that JSON lacks: NaN and the infinities."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def safe_cell(value: Any) -> Any:
    """The value for a CSV file that others open: an apostrophe before text that a spreadsheet would take for a formula.
    Numbers stay as they are.
    """
    if not isinstance(value, str) or not value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add ``rows``, all of the same keys, to a CSV file; their keys are its header if it is new."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


def keep_rows_until(path: Path, frames: int) -> str | None:
    """Drop what a CSV file holds beyond ``frames``: rows of a run that was killed after its last checkpoint.

    Rows that cannot be read go too, as the last one if it was cut short, and a header that was. Returns what was
    dropped, in one line, None if nothing was. Does nothing if there is no such file, or none with frames.
    """
    if not path.exists():
        return None
    lines, rest = _lines(path)
    if not lines and rest[:6] == b"frames"[: len(rest)] and rest:
        path.unlink()
        return f"{path.name}: removed, for its header was cut short and it had no rows"
    columns = _columns(path, lines[0]) if lines else []
    if "frames" not in columns:
        return None
    at, rows = columns.index("frames"), [_row(line) for line in lines[1:]]
    read = _readable(rows, columns)
    kept = [row for row in read if int(row[at]) <= frames]
    beyond, unreadable = len(read) - len(kept), len(rows) - len(read) + bool(rest)
    if not beyond and not unreadable:
        return None
    with replacing(path) as new, new.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *kept])
    dropped = [f"{beyond} beyond the checkpoint at {frames} frames"] if beyond else []
    dropped += [f"{unreadable} cut short or unreadable"] if unreadable else []
    return f"{path.name}: rows dropped: {', '.join(dropped)}"


def frames_of(path: Path) -> set[int]:
    """The frames for which a CSV file has readable rows; none if there is no such file."""
    lines = _lines(path)[0] if path.exists() else []
    columns = _row(lines[0]) if lines else []
    rows = _readable([_row(line) for line in lines[1:]], columns) if "frames" in columns else []
    return {int(row[columns.index("frames")]) for row in rows}


def summary(path: Path) -> dict[str, Any] | None:
    """What a CSV file with frames holds now, for `check`: its columns, the number of rows and their checksum; None for
    any other file.
    """
    lines = _lines(path)[0]
    if not lines or "frames" not in (columns := _columns(path, lines[0])):
        return None
    return {"columns": columns, "rows": len(lines) - 1, "sum": _sum(lines[1:])}


def check(path: Path, before: Mapping[str, Any] | None) -> str | None:
    """One line about what ``path`` lacks of what it held ``before``, by `summary`; None if nothing.

    Raises `ConfigError` if the header or the rows that are there are others than before, or no table can be written to
    ``path``.
    """
    require(not path.is_dir(), f"{path}: a folder where the run's table should be; move it away")
    remedy = "restore it from a copy, or move it away to continue without its rows"
    if before is None:
        ours = path.name in OURS and path.exists() and _lines(path)[0]
        require(not ours or "frames" in _columns(path, ours[0]), f"{path}: its header lacks frames; {remedy}")
        return None
    if not path.exists():
        return f"{path.name}: is missing, with {before['rows']} rows" if before["rows"] else None
    whole = _lines(path)[0]
    count = max(0, min(before["rows"], len(whole) - 1))
    if whole:
        same = _columns(path, whole[0])[: len(before["columns"])] == before["columns"]
        require(same, f"{path}: its header is not what the run has written; {remedy}")
        same = count < before["rows"] or _sum(whole[1 : count + 1]) == before["sum"]
        require(same, f"{path}: holds other rows than the run has written; {remedy}")
    lacking = before["rows"] - count
    return (
        f"{path.name}: lacks {lacking} of the {before['rows']} rows that it had at the checkpoint" if lacking else None
    )


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """Whole lines of a file, and what follows the last of them."""
    *lines, rest = path.read_bytes().split(b"\n")
    return [line.rstrip(b"\r") for line in lines], rest


def _readable(rows: Sequence[list[str]], columns: Sequence[str]) -> list[list[str]]:
    at = columns.index("frames")
    return [row for row in rows if len(row) == len(columns) and row[at].isascii() and row[at].isdigit()]


def _columns(path: Path, header: bytes) -> list[str]:
    columns = _row(header)
    require(bool(columns), f"{path}: its header cannot be read; restore it from a copy, or move it away")
    return columns


def _row(line: bytes) -> list[str]:
    """Empty if it cannot be read."""
    try:
        return next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _sum(lines: Sequence[bytes]) -> int:
    """The same when columns have been added, which are empty in the rows above."""
    return zlib.crc32(b"\n".join(line.rstrip(b",") for line in lines))
