"""Which runs count, which belong together, and what must be said about that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown_key
from lit_mtrl.report.runs import FINISHED, WATCHING, Recorded, text

PANEL = ("benchmark", "tasks", "score")
"""What a panel has one of; group labels leave it out."""
PROTOCOL = (*PANEL, "rewards", "horizon", "goals", "eval.protocol")
"""Runs that differ in one of these are not repetitions of each other."""
FIRST = ("method", "weighting", "callbacks", *PROTOCOL, "backend")
_WATCHING = rf"callbacks\.({'|'.join(WATCHING)})"
CIRCUMSTANCES = re.compile(
    rf"(trainer|logger|eval|{_WATCHING}|hydra|benchmark|parameters)\.|(.*\.)?name$|collector\.workers$|replay\.device$"
)
"""Dotted keys that make no group of their own."""
WITHOUT_EFFECT = re.compile(rf"(trainer|logger|{_WATCHING}|hydra|parameters)\.")
NAMES = ("run_name", "output_dir", "experiment_name", "git_commit", "lit_mtrl", "group")


@dataclass(eq=False)
class Group:
    """Runs that differ in their seeds, of one benchmark; ``values``: the keys that they were grouped by."""

    label: str
    values: dict[str, str]
    runs: list[Recorded]


@dataclass(eq=False)
class Panel:
    """The groups of one benchmark, compared at ``frames`` by ``score``, success or return."""

    benchmark: str
    tasks: tuple[str, ...]
    frames: int
    groups: list[Group]
    score: str = "success"


@dataclass
class Plan:
    """What is compared with what. ``labels``: of all groups, in order. ``warnings`` question a comparison, ``notes``
    explain it.
    """

    panels: list[Panel]
    keys: list[str]
    labels: list[str]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    superseded: list[Recorded] = field(default_factory=list)


def plan(
    runs: Sequence[Recorded],
    group: Sequence[str] | None = None,
    unfinished: bool = False,
    mixed_protocols: bool = False,
) -> Plan:
    """Group the runs that count: finished ones, or all with evaluations if ``unfinished``; of repetitions the latest.

    Raises `ConfigError` if no run counts, for an unknown key, and for a group of several protocols unless
    ``mixed_protocols``.
    """
    eligible = [run for run in runs if len(run.frames) and (unfinished or run.status == FINISHED)]
    reached = ", ".join(f"{run.name} {run.status} at {run.last:,} of {run.budget:,} frames" for run in runs[:3])
    few = f"{len(runs)} ({reached}{', ...' if len(runs) > 3 else ''})"
    require(bool(eligible), f"no finished run with evaluations among {few}; --unfinished takes them as they are")
    counted, superseded = _latest(eligible)
    known = {key for run in counted for key in run.labels}
    for key in group or ():
        require(key in known, "--group " + unknown_key(key, sorted(known)))
    keys = list(group) if group else automatic_keys(counted)
    label = labeller(counted, keys)
    panels: dict[tuple[str, tuple[str, ...], str], dict[tuple, Group]] = {}
    order = sorted(
        counted, key=lambda run: ([natural(run.labels.get(key)) for key in keys], natural(run.seed), run.name)
    )
    for run in order:
        values = {key: text(run.labels.get(key)) for key in keys}
        groups = panels.setdefault((str(run.labels["benchmark"]), run.tasks, run.score), {})
        groups.setdefault(tuple(values.values()), Group(label(run), values, [])).runs.append(run)
    made = Plan([], keys, list(dict.fromkeys(map(label, order))), superseded=superseded)
    _check_protocols(order, label, made, mixed_protocols)
    for benchmark, tasks, score in sorted(panels, key=lambda panel: natural(panel[0])):
        shared = sum(name == benchmark for name, *_ in panels) > 1
        title = f"{benchmark} ({', '.join(tasks)})" if shared else benchmark
        found = list(panels[benchmark, tasks, score].values())
        made.panels.append(Panel(title, tasks, _common_frames(found), found, score))
        _describe(made.panels[-1], made)
    return made


def choose(runs: Sequence[Recorded], where: Mapping[str, str] | None) -> list[Recorded]:
    """The runs whose labels are as ``where`` says; `ConfigError` for an unknown key and if none is left."""
    known = {key for run in runs for key in run.labels}
    for key in where or {}:
        require(key in known, "--where " + unknown_key(key, sorted(known)))
    for key, value in (where or {}).items():
        left = [run for run in runs if key in run.labels and value in (text(run.labels[key]), str(run.labels[key]))]
        there = ", ".join(sorted({text(run.labels[key]) for run in runs if key in run.labels}, key=natural)[:8])
        require(bool(left), f"--where {key}={value}: no such run; there are {there}")
        runs = left
    return list(runs)


def automatic_keys(runs: Sequence[Recorded]) -> list[str]:
    """``method``, then every key that splits the groups further, other than seed, budget, names and circumstances.

    Only keys that all runs of a method have, or none: a key that is newer than some runs says nothing about them.
    """
    found = dict.fromkeys(key for run in runs for key in run.labels)
    more = [key for key in found if "." in key and not CIRCUMSTANCES.match(key) and key not in FIRST]
    keys = ["method"]
    for key in (*FIRST[1:], *more):
        having = {(text(run.labels.get("method")), key in run.labels) for run in runs}
        usable = len({method for method, _ in having}) == len(having)
        if usable and len(_values(runs, [*keys, key])) > len(_values(runs, keys)):
            keys.append(key)
    return keys


def labeller(runs: Sequence[Recorded], keys: Sequence[str]) -> Callable[[Recorded], str]:
    """A function that names a run's group by what differs between groups of a benchmark; the method if nothing does."""
    differing = [key for key in keys if key not in PANEL and len(_values(runs, [key])) > 1] or ["method"]

    def label(run: Recorded) -> str:
        values = {key: text(run.labels[key]) for key in differing if key in run.labels}
        return ", ".join(value if key == "method" else named(key, value) for key, value in values.items())

    return label


def named(key: str, value: str) -> str:
    """``network.width=64``, or ``weighting: critic=famo actor=mean``."""
    return f"{key}: {value}" if "=" in value else f"{key}={value}"


def natural(value: Any) -> tuple[int, float, tuple[Any, ...]]:
    """A key to sort by: numbers first, by size; then texts, with the numbers in them by size."""
    try:
        return 0, float(value), ()
    except (OverflowError, TypeError, ValueError):
        parts = re.split(r"(\d+)", text(value))
        return 1, 0.0, tuple(int(part) if i % 2 else part for i, part in enumerate(parts))


def shorten(value: str, length: int = 60) -> str:
    """The text, with its middle left out if it is longer."""
    half = (length - 3) // 2
    return value if len(value) <= length else f"{value[:half]}...{value[-half:]}"


def listing(names: Sequence[str], most: int = 5) -> str:
    """The names with commas; of many the first."""
    few = [*names[:most], f"{len(names) - most} more"] if len(names) > most + 1 else names
    return ", ".join(few)


def _values(runs: Iterable[Recorded], keys: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(text(run.labels.get(key)) for key in keys) for run in runs}


def _differing(runs: Sequence[Recorded]) -> list[str]:
    """Keys of the method, not of the protocol, in which runs that have them differ."""
    values: dict[str, set[str]] = {}
    for key, value in ((key, value) for run in runs for key, value in run.labels.items()):
        setting = "." in key and not CIRCUMSTANCES.match(key) and key.removeprefix("env.") not in PROTOCOL
        if setting or key in ("method", "weighting"):
            values.setdefault(key, set()).add(text(value))
    return [key for key, found in values.items() if len(found) > 1]


def _latest(runs: Sequence[Recorded]) -> tuple[list[Recorded], list[Recorded]]:
    """Of runs with equal configuration and seed the finished one that is latest, and the others."""
    best: dict[Any, Recorded] = {}
    for run in runs:
        what = {k: text(v) for k, v in run.labels.items() if k not in NAMES and not WITHOUT_EFFECT.match(k)}
        key = tuple(sorted(what.items())) if run.seed else id(run)
        rank = (run.status == FINISHED, run.time)
        if key not in best or rank > (best[key].status == FINISHED, best[key].time):
            best[key] = run
    kept = set(map(id, best.values()))
    return [run for run in runs if id(run) in kept], [run for run in runs if id(run) not in kept]


def _common_frames(groups: list[Group]) -> int:
    """The last frames that all runs have reached, but not before the first evaluation of any."""
    runs = [run for group in groups for run in group.runs]
    return max(min(run.last for run in runs), max(int(run.frames[0]) for run in runs))


def _check_protocols(runs: Sequence[Recorded], label: Callable[[Recorded], str], made: Plan, mixed: bool) -> None:
    """Refuse, or warn of, groups as the user sees them that mix protocols."""
    groups: dict[tuple, list[Recorded]] = {}
    for run in runs:
        groups.setdefault(tuple(text(run.labels.get(key)) for key in made.keys), []).append(run)
    for own in groups.values():
        for key in PROTOCOL:
            values = sorted({text(run.labels[key]) for run in own if key in run.labels}, key=natural)
            if len(values) > 1:
                differ = f"group {label(own[0])}: its runs differ in {key} ({'; '.join(map(shorten, values))})"
                keys = ",".join([*made.keys, key])
                remedy = f"group by it (--group {keys}), choose by --where {key}=..., or give --mixed-protocols"
                require(mixed, f"{differ}; {remedy}")
                made.warnings.append(f"Mixed protocols: {differ}. What is drawn for it is no mean over repetitions.")


def _describe(panel: Panel, made: Plan) -> None:
    """Warnings and notes about the groups of one benchmark."""
    where = f"{shorten(panel.benchmark)}: "
    runs = [run for group in panel.groups for run in group.runs]
    for key in (*PROTOCOL[len(PANEL) :], "backend", "eval.episodes"):
        sides: dict[str, list[str]] = {}
        for group in panel.groups:
            for value in {text(run.labels[key]): None for run in group.runs if key in run.labels}:
                sides.setdefault(value, []).append(group.label)
        if len(sides) > 1:
            shown = "; ".join(f"{value}: {listing(sides[value])}" for value in sorted(sides, key=natural))
            differ = f"{where}groups differ in {key} ({shown})."
            made.warnings.append(f"{differ} Their {panel.score} was measured under different conditions.")
    longest = max(run.last for run in runs)
    if longest > panel.frames:
        ends = f"up to {longest:,}; ends are compared at {panel.frames:,}, what all have reached"
        made.notes.append(f"{where}runs end at different frames, {ends}.")
    if single := [group.label for group in panel.groups if len(group.runs) == 1]:
        made.warnings.append(f"{where}one seed, so no interval can be given, for {listing(single)}.")
    seeds = {run.seed for run in runs}
    lacking = {group.label: sorted(seeds - {run.seed for run in group.runs}, key=natural) for group in panel.groups}
    if shown := listing([f"{label} lacks {' '.join(those)}" for label, those in lacking.items() if those]):
        made.notes.append(f"{where}groups have different seeds: {shown}.")
    for group in panel.groups:
        if pooled := _differing(group.runs):
            made.warnings.append(f"{where}{group.label} pools runs that differ in {listing(pooled)}.")
        if not pooled and len({run.seed for run in group.runs}) < len(group.runs):
            several = "has several runs of a seed, of different budgets or the like; all count"
            made.warnings.append(f"{where}{group.label} {several}.")
        if len({tuple(run.frames) for run in group.runs}) > 1:
            when = "were evaluated at different frames; its curves have those in common"
            made.notes.append(f"{where}the seeds of {group.label} {when}.")
