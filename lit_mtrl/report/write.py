"""From recorded runs to a folder with figures, tables and a page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import denied
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.text import one_line
from lit_mtrl.evaluation.stats import STATISTICS
from lit_mtrl.report import figures, inner, scaling, summary, tables
from lit_mtrl.report import published as papers
from lit_mtrl.report.groups import Panel, Plan, choose, plan, shorten
from lit_mtrl.report.page import GENERATOR, Section, build, picture
from lit_mtrl.report.runs import FINISHED, Recorded
from lit_mtrl.report.style import RC, Drawn, save
from lit_mtrl.report.summary import Measured, measure

SUMMARY = (
    "One row per group, with 95 % bootstrap intervals in brackets. The first one is of each seed's mean over tasks (the"
    " median is over tasks), as is the area under its"
    " curve; the columns between are over the scores of all seeds and tasks, resampled task by task, so that their"
    " intervals are too narrow where"
    " one agent learns all tasks. The interquartile mean of fewer than four seeds is their mean."
)
Measures = list[tuple[Panel, list[Measured]]]


def write_report(
    runs: Sequence[Recorded],
    out: Path,
    *,
    title: str,
    group: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
    statistic: str = "iqm",
    published: Sequence[str] = (),
    unfinished: bool = False,
    mixed_protocols: bool = False,
) -> Path:
    """Write ``figures/``, ``tables/`` and ``index.html`` into ``out``; returns the path of the page.

    ``group``: keys to group by, None to find them; ``where``: labels that runs must have; ``statistic``: one of
    `STATISTICS`; ``published``: names of papers to lay beside the runs. The same runs give the same bytes. Nothing is
    built from a run's configuration: parameter counts are those that it has recorded. Raises `ConfigError` for what
    cannot be compared.
    """
    require(statistic in STATISTICS, unknown("--statistic", statistic, STATISTICS))
    require(bool(runs), "no runs to report on; give folders of runs, or an experiment that has some")
    others = papers.load(published)
    _require_own(out)
    chosen = choose(runs, where)
    made = plan(chosen, group, unfinished, mixed_protocols)
    counted = {id(run): each.label for panel in made.panels for each in panel.groups for run in each.runs}
    measured = [(panel, measure(panel, statistic)) for panel in made.panels]
    others = papers.of_panels(others, made.panels)
    for name in ("figures", "tables"):
        try:
            (out / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); give another folder") from error
        for old in (out / name).iterdir():
            if old.suffix in (".png", ".svg", ".csv", ".md"):
                old.unlink()
    beside = others.query("metric != 'success'") if statistic == figures.GAP else others  # papers give no gaps
    with matplotlib.rc_context(RC):
        sections = _sections(measured, made, statistic, beside, out)
    sections.append(_runs_section(summary.run_rows(chosen, counted, made.superseded), chosen, out))
    if len(others):
        sections.append(_published_section(others, made, out))
    page = build(
        one_line(title), _lead(made, counted, statistic), made.warnings, _notes(chosen, counted, made), sections
    )
    path = out / "index.html"
    path.write_text(page)
    return path


def default_folder(names: Sequence[str]) -> Path:
    """Where the report on experiments or folders of these names goes: below ``reports``, whatever the names are."""
    return Path("reports", re.sub(r"[^\w.+-]+", "_", shorten("_".join(names))).strip("._") or "report")


def _require_own(out: Path) -> None:
    """`ConfigError` unless ``out`` is new, empty or an earlier report, whose figures and tables may be replaced."""
    page = out / "index.html"
    reason = denied(out)
    require(reason is None, f"--out {out}: {reason}, or give another folder")
    free = not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir()))
    earlier = page.is_file() and GENERATOR in page.read_text(errors="replace")[:1000]
    require(free or earlier, f"--out {out}: exists and is no report; give another folder")


def _sections(measured: Measures, made: Plan, statistic: str, others: pd.DataFrame, out: Path) -> list[Section]:
    rows = pd.concat([summary.summary_rows(*each) for each in measured], ignore_index=True)
    of_tasks = [summary.task_rows(*each) for each in measured]
    of_pairs = [summary.improvement_rows(*each) for each in measured]
    first = _table_section("summary", "Summary", SUMMARY, rows, [tables.shown_summary(rows, statistic)], out)
    drawn = [
        [figures.over_frames(measured, made.labels, statistic, others)],
        [figures.over_hours(measured, made.labels, statistic)],
        [figures.final(measured, made.labels, statistic, others)],
        [figures.per_task(*each) for each in measured],
        [scaling.success_by_parameters(measured, statistic, others)],
        [scaling.dormant_by_width(measured, others)],
        [inner.plasticity(*each, made.labels) for each in measured],
        [inner.norms(*each, made.labels) for each in measured],
        [figures.profile(measured, made.labels)],
        [figures.improvement(panel, pairs) for (panel, _), pairs in zip(measured, of_pairs, strict=True)],
    ]
    sections = {each[0].name: _figure_section(each, made.panels, out) for each in drawn}
    _add_table(
        sections["per_task"], "per_task", pd.concat(of_tasks), [tables.shown_tasks(table) for table in of_tasks], out
    )
    pairs = [table for table in of_pairs if len(table)]
    if pairs:
        whole = pd.concat(pairs, ignore_index=True)
        _add_table(sections["improvement"], "improvement", whole, [tables.shown_improvement(whole)], out)
    return [first, *sections.values()]


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


def _runs_section(table: pd.DataFrame, runs: Sequence[Recorded], out: Path) -> Section:
    shown = tables.shown_runs(table)
    section = _table_section(
        "runs", "Runs", "Every run that was read; those that do not count are in no number above.", table, [shown], out
    )
    section.parts = [tables.to_html(shown, [run.link for run in runs])]
    return section


def _published_section(others: pd.DataFrame, made: Plan, out: Path) -> Section:
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


def _lead(made: Plan, counted: Mapping[int, str], statistic: str) -> list[str]:
    ends = "; ".join(
        f"{shorten(panel.benchmark)} ({len(panel.tasks)} tasks) compared at {panel.frames:,} frames"
        for panel in made.panels
    )
    groups = len(made.labels)
    return [
        f"{len(counted)} run{'s' * (len(counted) > 1)} in {groups} group{'s' * (groups > 1)}, by"
        f" {', '.join(made.keys)}: {ends}.",
        f"Success is the {figures.STATISTIC[statistic]}, of evaluation success averaged over tasks."
        if statistic != "median"
        else "Success is the median over tasks of the mean over seeds.",
    ]


def _notes(runs: Sequence[Recorded], counted: Mapping[int, str], made: Plan) -> list[str]:
    notes = list(made.notes)
    ended = [run for run in runs if id(run) in counted and run.status != FINISHED]
    if ended:
        notes.insert(
            0, f"{len(ended)} runs count although they did not finish: {', '.join(run.name for run in ended)}."
        )
    left = [run for run in runs if id(run) not in counted and run not in made.superseded]
    if left:
        notes.insert(0, f"{len(left)} runs do not count: {', '.join(f'{run.name} ({run.status})' for run in left)}.")
    if made.superseded:
        names = ", ".join(run.name for run in made.superseded)
        notes.append(
            f"Of repetitions with equal configuration and seed the latest finished one counts; superseded: {names}."
        )
    return notes


def _slug(text: str) -> str:
    """A part of a file's name: nothing in it leads to another folder, and it is short."""
    return re.sub(r"[^\w.+-]+", "_", shorten(text), flags=re.ASCII).strip("_")
