"""Files of runs, read as what anyone may have written: sizes, types and texts are checked, and nothing is built from
them.

Every function raises `ConfigError`, one line that names the file.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lit_mtrl.config.read import BYTES, read_yaml
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.text import one_line

LONGEST = 2000
"""Characters of a text in them."""
MOST = 2**53
"""The largest whole number that arithmetic on floats keeps."""
NOTHING = ("", "nan", "NaN")
"""What a table's missing number looks like."""
REMEDY = "restore it or leave this run out"


def read_mapping(path: Path) -> dict[str, Any]:
    """What a YAML or JSON file holds: mappings, lists and scalars, texts as `one_line`."""
    try:
        require(path.is_file(), f"{path}: no file; {REMEDY}")
        if path.suffix == ".json":
            require(path.stat().st_size <= BYTES, f"{path}: larger than {BYTES // 1024} KiB; {REMEDY}")
            value = _plain(json.loads(path.read_text(encoding="utf-8-sig")))
        else:
            value = _plain(read_yaml(path, str(path), REMEDY)[1])
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); {REMEDY}") from error
    require(isinstance(value, dict), f"{path}: holds no keys and values; {REMEDY}")
    return value


def group(mapping: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The mapping under ``key``, empty if there is none."""
    value = mapping.get(key)
    require(value is None or isinstance(value, dict), f"{path}: {key} has no keys and values; {REMEDY}")
    return value or {}


def whole(mapping: dict[str, Any], key: str, path: Path) -> int:
    """The whole number from 0 to `MOST` under ``key``, 0 if there is none."""
    value = mapping.get(key)
    fits = value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST)
    require(fits, f"{path}: {key}={str(value)[:50]}: a whole number is needed; {REMEDY}")
    return value or 0


def read_table(
    path: Path, texts: Sequence[str], numbers: Sequence[str], more: Sequence[str] = ()
) -> pd.DataFrame | None:
    """Columns of a CSV file without a last line that was cut short; None if there is no file, or no row.

    ``frames``, ``texts`` and ``numbers`` must be there, ``more`` numbers may. Frames are whole numbers from 0 to
    `MOST`.
    """
    types = {"frames": np.float64, **dict.fromkeys(texts, str), **dict.fromkeys((*numbers, *more), np.float64)}
    try:
        if not os.path.lexists(path):
            return None
        require(path.is_file(), f"{path}: no file; {REMEDY}")
        content = path.read_bytes()
        content = content[: content.rfind(b"\n") + 1]
        if content.count(b"\n") < 2:
            return None
        options: Any = dict(usecols=lambda name: name in types, dtype=types, keep_default_na=False, na_values=NOTHING)
        table = pd.read_csv(io.BytesIO(content), **options)
    except ConfigError:
        raise
    except (OSError, ValueError, OverflowError, TypeError) as error:  # pandas' parser errors are ValueErrors
        reason = one_line(str(error).splitlines()[0][:200])
        raise ConfigError(f"{path}: cannot be read ({reason}); {REMEDY}") from error
    lacking = [name for name in ("frames", *texts, *numbers) if name not in table]
    require(not lacking, f"{path}: cannot be read (no column {', '.join(lacking)}); {REMEDY}")
    frames = table["frames"].to_numpy()
    whole_numbers = bool(((frames >= 0) & (frames <= MOST) & (frames == np.floor(frames))).all())
    require(whole_numbers, f"{path}: its frames are not all whole numbers from 0 on; {REMEDY}")
    for name in texts:
        require(bool(table[name].notna().all()), f"{path}: a row has no {name}; {REMEDY}")
        table[name] = [one_line(text) for text in table[name]]
        require(
            bool((table[name].str.len() <= LONGEST).all()),
            f"{path}: a {name} is longer than {LONGEST} characters; {REMEDY}",
        )
    return table.astype({"frames": np.int64})


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"a text of more than {LONGEST} characters")
        return one_line(value)
    if isinstance(value, dict):
        return {_plain(key if isinstance(key, str) else str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise ValueError("a number of more than 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return value.isoformat() if isinstance(value, datetime.date) else one_line(str(value)[:LONGEST])
