"""From recorded runs to a folder with figures, tables and a page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import denied
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.text import one_line
from lit_mtrl.evaluation.stats import STATISTICS
from lit_mtrl.report import figures, returns, summary
from lit_mtrl.report import published as papers
from lit_mtrl.report.groups import Plan, choose, plan, shorten
from lit_mtrl.report.page import GENERATOR, build
from lit_mtrl.report.runs import FINISHED, Recorded
from lit_mtrl.report.sections import all_sections, published_section, runs_section
from lit_mtrl.report.style import RC
from lit_mtrl.report.summary import measure


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
        sections = all_sections(measured, made, statistic, beside, out)
    sections.append(runs_section(summary.run_rows(chosen, counted, made.superseded), chosen, out))
    if len(others):
        sections.append(published_section(others, made, out))
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


def _lead(made: Plan, counted: Mapping[int, str], statistic: str) -> list[str]:
    ends = "; ".join(
        f"{shorten(panel.benchmark)} ({len(panel.tasks)} tasks) compared at {panel.frames:,} frames"
        for panel in made.panels
    )
    groups, scores = len(made.labels), {panel.score for panel in made.panels}
    of_success = (
        f"Success is the {figures.STATISTIC[statistic]}, of evaluation success averaged over tasks."
        if statistic != "median"
        else "Success is the median over tasks of the mean over seeds."
    )
    return [
        f"{len(counted)} run{'s' * (len(counted) > 1)} in {groups} group{'s' * (groups > 1)}, by"
        f" {', '.join(made.keys)}: {ends}.",
        *([of_success] if "success" in scores else []),
        *([returns.EXPLANATION] if "return" in scores else []),
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
