"""Tables of a report as CSV (all digits), Markdown and HTML (rounded, intervals in brackets)."""

# pandas annotates whatever is selected from a table as table, column or array at once.
# pyright: reportArgumentType=false, reportReturnType=false

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lit_mtrl.core.tables import safe_cell
from lit_mtrl.report.style import compact

NOT_AVAILABLE = "n/a"
TALL = 25
"""Rows that a table on the page has before it scrolls in its own box."""
HEADLINE = {
    "iqm": "success (IQM over seeds)",
    "mean": "success (mean over seeds)",
    "median": "success (median over tasks)",
    "optimality_gap": "optimality gap (over seeds)",
}
LONG = 36
"""Characters of a cell on the page before it is broken into lines."""


def write(table: pd.DataFrame, shown: Sequence[pd.DataFrame], folder: Path, name: str) -> None:
    """``<name>.csv`` of the table, ``<name>.md`` of what is shown of it. No cell of either is a formula or markup."""
    table.map(safe_cell).rename(columns=safe_cell).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / f"{name}.md").write_text("\n".join(map(to_markdown, shown)))


def of_one(table: pd.DataFrame) -> pd.DataFrame:
    """The table without a column that says the same benchmark everywhere."""
    return table.drop(columns="benchmark") if table["benchmark"].nunique() == 1 else table


def shown_summary(table: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """The summary with its intervals in brackets."""
    out = table[["benchmark", "group", "seeds"]].copy()
    out["frames"] = [f"{frames:,}" for frames in table["frames"]]
    names = {
        "success": HEADLINE[statistic],
        "iqm": "IQM, seeds and tasks",
        "mean": "mean",
        "median": "median over tasks",
    }
    for key, name in (names | {"optimality_gap": "optimality gap", "auc": "area under curve"}).items():
        out[name] = [interval(*row) for row in table[[key, f"{key}_low", f"{key}_high"]].itertuples(index=False)]
    for net in ("actor", "critic"):
        out[f"{net} parameters"] = [number(value, compact) for value in table[f"{net}_parameters"]]
    out["hours"] = [number(value, lambda hours: f"{hours:.2f}") for value in table["hours"]]
    return of_one(out)


def shown_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """A row per group, a column per task; of one benchmark."""
    wide = table.pivot(index="group", columns="task", values="success")
    wide = wide.loc[list(dict.fromkeys(table["group"])), list(dict.fromkeys(table["task"]))]
    return wide.map(lambda value: f"{value:.2f}").reset_index().rename_axis(columns=None)


def shown_improvement(table: pd.DataFrame) -> pd.DataFrame:
    """The probability with its interval."""
    out = table[["benchmark", "group", "against"]].copy()
    out["P(group > against)"] = [
        interval(*row) for row in table[["probability", "low", "high"]].itertuples(index=False)
    ]
    return of_one(out)


def shown_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Frames of the budget in one column."""
    out = table[["run", "benchmark", "group", "seed", "status", "counted"]].copy()
    out["frames"] = [
        f"{frames:,} / {budget:,}" for frames, budget in zip(table["frames"], table["budget"], strict=True)
    ]
    out["last success"] = [number(value, lambda success: f"{success:.3f}") for value in table["success"]]
    return of_one(out.assign(source=table["source"]))


def shown_published(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers without trailing zeros."""
    keys = [
        "benchmark",
        "method",
        "width",
        "parameters",
        "horizon",
        "rewards",
        "goals",
        "frames",
        "metric",
        "value",
        "low",
        "high",
        "seeds",
    ]
    return table[[*keys, "source"]].map(
        lambda value: "" if pd.isna(value) else f"{value:,.7g}" if isinstance(value, float) else value
    )


def interval(value: float, low: float, high: float) -> str:
    """``0.512 [0.401, 0.602]``; the interval is n/a of a single seed."""
    return f"{value:.3f} [{NOT_AVAILABLE if pd.isna(low) or pd.isna(high) else f'{low:.3f}, {high:.3f}'}]"


def number(value: Any, form: Any) -> str:
    """The value in its form, n/a if there is none."""
    return NOT_AVAILABLE if pd.isna(value) else form(value)


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table; numbers to the right."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(value: Any) -> str:
        return re.sub(r"\s+", " ", html.escape(str(value), quote=False).replace("\\", "\\\\").replace("|", r"\|"))

    rule = line(["---:" if _numeric(table[name]) else "---" for name in table])
    rows = [line([cell(value) for value in row]) for row in table.itertuples(index=False)]
    return "\n".join([line([cell(name) for name in table]), rule, *rows]) + "\n"


def to_html(table: pd.DataFrame, links: list[str | None] | None = None) -> str:
    """A table that scrolls in its own box; ``links``: where the first cell of each row leads."""
    numeric = [_numeric(table[name]) for name in table]
    head = "".join(
        f"<th{_kind(right)}>{html.escape(str(name))}</th>" for name, right in zip(table, numeric, strict=True)
    )
    body = []
    for i, row in enumerate(table.itertuples(index=False)):
        cells = [html.escape(str(value)) for value in row]
        if links and (link := links[i]):
            cells[0] = f'<a href="{html.escape(link)}">{cells[0]}</a>'
        body.append(
            "<tr>"
            + "".join(
                f"<td{_kind(right, str(value))}>{cell}</td>"
                for cell, right, value in zip(cells, numeric, row, strict=True)
            )
            + "</tr>"
        )
    box = "scroll tall" if len(table) > TALL else "scroll"
    return f'<div class="{box}"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _kind(number: bool, value: str = "") -> str:
    return ' class="number"' if number else ' class="long"' if len(value) > LONG else ""


def _numeric(column: pd.Series) -> bool:
    """Whether every cell begins like a number, or is empty."""
    return all(re.match(r"-?[\d.]+|n/a$|$", str(value)) for value in column) and len(column) > 0
