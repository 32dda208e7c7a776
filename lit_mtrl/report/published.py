"""Published numbers, to lay beside one's own: ``published/<paper>.csv``, whose README says where each is from."""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.report.groups import Panel
from lit_mtrl.report.runs import positive, text
from lit_mtrl.report.style import compact

FOLDER = Path(__file__).parent / "published"
TEXTS = ("benchmark", "method", "horizon", "rewards", "goals", "metric", "source")
NUMBERS = ("width", "parameters", "frames", "value", "low", "high", "seeds")
PROTOCOL = ("horizon", "rewards", "goals")
DORMANT = "dormant_critic_0"
NEAR = 0.05
"""Relative difference of frames that need not be mentioned."""


def available() -> list[str]:
    """Names of the papers there are."""
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def load(names: Sequence[str]) -> pd.DataFrame:
    """All rows of the papers, or of CSV files of the same columns given by path, with ``paper`` (authors and year)
    beside ``source``.

    Raises `ConfigError` for a paper that does not exist and a file that lacks columns.
    """
    tables = [pd.DataFrame(columns=[*TEXTS, *NUMBERS, "paper"])]
    for name in names:
        path = Path(name) if name.endswith(".csv") else FOLDER / f"{name}.csv"
        require(path.is_file(), unknown("--published", name, available()))
        try:
            table = pd.read_csv(path, dtype={**dict.fromkeys(TEXTS, str), **dict.fromkeys(NUMBERS, np.float64)})
        except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
            raise ConfigError(f"--published {name}: no table ({str(error).splitlines()[0]})") from error
        lacking = [key for key in (*TEXTS, *NUMBERS) if key not in table]
        require(
            not lacking,
            f"--published {name}: lacks the columns {', '.join(lacking)}; lit_mtrl/report/published has examples",
        )
        tables.append(table.assign(paper=table["source"].str.split(",").str[0]))
    whole = pd.concat([table for table in tables if len(table)], ignore_index=True) if len(tables) > 1 else tables[0]
    return whole.astype({key: np.float64 for key in NUMBERS})


def of_panels(table: pd.DataFrame, panels: Sequence[Panel]) -> pd.DataFrame:
    """The rows of the panels' benchmarks."""
    return table[table["benchmark"].isin([panel.benchmark for panel in panels])]


def success_rows(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """The success on the panel's benchmark; of rows with a width only those of widths that were run, if any of them
    was.
    """
    rows = table[(table["metric"] == "success") & (table["benchmark"] == panel.benchmark)]
    widths = (positive(run, "network.width") for group in panel.groups for run in group.runs)
    matching = rows["width"].isin({float(width) for width in widths if width})
    return rows[matching | rows["width"].isna()] if bool(matching.any()) else rows


def difference(row: dict[str, Any], panel: Panel) -> str:
    """In which of `PROTOCOL` the row differs from a run of the panel, as ``horizon 150, goals 1``; empty if in none."""
    out = []
    for key in PROTOCOL:
        own = {text(run.labels[key]) for group in panel.groups for run in group.runs if key in run.labels}
        if isinstance(row[key], str) and own - {row[key]}:
            out.append(f"{key} {row[key]}")
    return ", ".join(out)


def name_of(row: dict[str, Any], panel: Panel, name: str | None = None, curve: bool = False) -> str:
    """``MTMHSAC 1024 [McLean et al. (2025)]``, with protocol and (unless of a ``curve``) frames where they are
    others.
    """
    name = name or row["method"] + ("" if pd.isna(row["width"]) else f" {row['width']:.0f}")
    said = [row["paper"], difference(row, panel)]
    if not curve and abs(row["frames"] / panel.frames - 1) > NEAR:
        said.append(f"at {compact(row['frames'])} frames")
    return f"{name} [{', '.join(filter(None, said))}]"


def nearest_rows(rows: pd.DataFrame, panel: Panel) -> list[dict[str, Any]]:
    """For every method, size and protocol the row whose frames are nearest to the panel's; without frames it is the
    last choice.
    """
    order = (rows["frames"] - panel.frames).abs().sort_values(kind="stable", na_position="last").index
    chosen = rows.loc[order].drop_duplicates(["paper", "method", "width", "parameters", *PROTOCOL])
    return chosen.sort_index().to_dict("records")


def protocol_notes(table: pd.DataFrame, panels: Sequence[Panel]) -> list[str]:
    """A sentence for every paper whose protocol differs from that of the runs."""
    remedy = "what differs may be the protocol, not the method"
    notes = [
        f"{panel.benchmark}: {row['method']} of {row['paper']} was measured with {other}, runs here were not: {remedy}."
        for panel in panels
        for row in table[table["benchmark"] == panel.benchmark].to_dict("records")
        if (other := difference(row, panel))
    ]
    return list(dict.fromkeys(notes))
