"""The sections of a report: its figures and tables, and what is said about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lit_mtrl.report import figures, inner, returns, scaling, summary, tables
from lit_mtrl.report import published as papers
from lit_mtrl.report.groups import Panel, Plan, shorten
from lit_mtrl.report.page import Section, picture
from lit_mtrl.report.runs import Recorded
from lit_mtrl.report.style import Drawn, save
from lit_mtrl.report.summary import Measured

SUMMARY = (
    "One row per group, with 95 % bootstrap intervals in brackets. The first one is of each seed's mean over tasks"
    " (the median is over tasks), as is the area under its curve; the columns between are over the scores of all seeds"
    " and tasks, resampled task by task, so that their intervals are too narrow where one agent learns all tasks. The"
    " interquartile mean of fewer than four seeds is their mean."
)
SECTIONS = (
    *("summary", "learning_curves", "learning_curves_wall_clock", "final_success", "per_task", "success_by_parameters"),
    *("returns", "dormant_by_width", "plasticity", "norms", "performance_profile"),
    *("improvement", "improvement_of_returns"),
)
"""In the page's order."""
Measures = list[tuple[Panel, list[Measured]]]


def all_sections(measured: Measures, made: Plan, statistic: str, others: pd.DataFrame, out: Path) -> list[Section]:
    """In the page's order; benchmarks that are judged by return have sections of their own."""
    found = {}
    for score, sections in (("success", _success_sections), ("return", _return_sections)):
        if own := [each for each in measured if each[0].score == score]:
            found |= sections(own, made, statistic, others, out)
    drawn = [
        [scaling.dormant_by_width(measured, others)],
        [inner.plasticity(*each, made.labels) for each in measured],
        [inner.norms(*each, made.labels) for each in measured],
    ]
    found |= _figure_sections(drawn, made.panels, out)
    return [found[name] for name in SECTIONS if name in found]


def _success_sections(
    measured: Measures, made: Plan, statistic: str, others: pd.DataFrame, out: Path
) -> dict[str, Section]:
    rows = pd.concat([summary.summary_rows(*each) for each in measured], ignore_index=True)
    of_tasks = [summary.task_rows(*each) for each in measured]
    drawn = [
        [figures.over_frames(measured, made.labels, statistic, others)],
        [figures.over_hours(measured, made.labels, statistic)],
        [figures.final(measured, made.labels, statistic, others)],
        [figures.per_task(*each) for each in measured],
        [scaling.success_by_parameters(measured, statistic, others)],
        [figures.profile(measured, made.labels)],
    ]
    sections = _figure_sections(drawn, [panel for panel, _ in measured], out)
    shown = [tables.shown_tasks(table) for table in of_tasks]
    _add_table(sections["per_task"], "per_task", pd.concat(of_tasks), shown, out)
    first = _table_section("summary", "Summary", SUMMARY, rows, [tables.shown_summary(rows, statistic)], out)
    return {"summary": first, **sections, **_improvement(measured, out)}


def _return_sections(
    measured: Measures, made: Plan, statistic: str, others: pd.DataFrame, out: Path
) -> dict[str, Section]:
    drawn = [[returns.curves(*each, made.labels, statistic) for each in measured]]
    sections = _figure_sections(drawn, [panel for panel, _ in measured], out)
    rows = [returns.rows(*each, statistic) for each in measured]
    _add_table(sections["returns"], "returns", pd.concat(rows), [returns.shown(table) for table in rows], out)
    return sections | _improvement(measured, out)


def _improvement(measured: Measures, out: Path) -> dict[str, Section]:
    of_pairs = [summary.improvement_rows(*each) for each in measured]
    drawn = [figures.improvement(panel, pairs) for (panel, _), pairs in zip(measured, of_pairs, strict=True)]
    sections = _figure_sections([drawn], [panel for panel, _ in measured], out)
    if pairs := [table for table in of_pairs if len(table)]:
        whole, name = pd.concat(pairs, ignore_index=True), drawn[0].name
        _add_table(sections[name], name, whole, [tables.shown_improvement(whole)], out)
    return sections


def _figure_sections(drawn: list[list[Drawn]], panels: Sequence[Panel], out: Path) -> dict[str, Section]:
    return {each[0].name: _figure_section(each, panels, out) for each in drawn}


def _figure_section(drawn: list[Drawn], panels: Sequence[Panel], out: Path) -> Section:
    """One figure, or one per panel."""
    first = drawn[0]
    section = Section(first.name, first.title, first.caption)
    for each, panel in zip(drawn, panels, strict=False):
        several = len(drawn) > 1
        name = f"{each.name}_{_slug(panel.benchmark)}" if several else each.name
        name += f"_{panels.index(panel)}" * (f"figures/{name}.svg" in section.files)
        start = f"{shorten(panel.benchmark)}: " if several else ""
        section.notes += [start + note for note in each.notes]
        if each.figure is None:
            continue
        if several:
            each.figure.suptitle(shorten(panel.benchmark).replace("$", r"\$"), fontsize=10)
        save(each.figure, out / "figures", name)
        section.parts.append(picture(each, name, out / "figures"))
        section.files += [f"figures/{name}.svg", f"figures/{name}.png"]
    if not section.files:
        section.caption = "Left out:"
    return section


def _table_section(
    name: str, title: str, text: str, table: pd.DataFrame, shown: list[pd.DataFrame], out: Path
) -> Section:
    return _add_table(Section(name, title, text), name, table, shown, out)


def _add_table(section: Section, name: str, table: pd.DataFrame, shown: list[pd.DataFrame], out: Path) -> Section:
    tables.write(table, shown, out / "tables", name)
    section.parts += map(tables.to_html, shown)
    section.files += [f"tables/{name}.csv", f"tables/{name}.md"]
    return section


def runs_section(table: pd.DataFrame, runs: Sequence[Recorded], out: Path) -> Section:
    """The table of `summary.run_rows`, with links to the runs' pages."""
    shown = tables.shown_runs(table)
    section = _table_section(
        "runs", "Runs", "Every run that was read; those that do not count are in no number above.", table, [shown], out
    )
    section.parts = [tables.to_html(shown, [run.link for run in runs])]
    return section


def published_section(others: pd.DataFrame, made: Plan, out: Path) -> Section:
    """The published numbers that are beside the runs, and how their protocols differ."""
    shown = tables.shown_published(others)
    section = _table_section(
        "published",
        "Published numbers",
        "As their authors give them. Bounds are their own, too: intervals, standard deviations, or the lowest and"
        " highest seed.",
        others,
        [shown],
        out,
    )
    section.notes = papers.protocol_notes(others, made.panels)
    return section


def _slug(text: str) -> str:
    """A part of a file's name: nothing in it leads to another folder, and it is short."""
    return re.sub(r"[^\w.+-]+", "_", shorten(text), flags=re.ASCII).strip("_")
