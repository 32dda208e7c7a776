"""The sections of the ``bench`` command, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from lit_mtrl.algos.base import Algorithm
from lit_mtrl.bench.collection import collection
from lit_mtrl.bench.end_to_end import end_to_end
from lit_mtrl.bench.limits import limits
from lit_mtrl.bench.machine import machine
from lit_mtrl.bench.peer import PEER, peer, require_peer
from lit_mtrl.bench.table import table
from lit_mtrl.bench.update import update
from lit_mtrl.bench.variants import learner_device
from lit_mtrl.config.folders import groups
from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.runs.build import algorithm_class, build_suite

SECTIONS = ("limits", "collection", "update", "end_to_end", "peer")
WITH_REPLAY = ("update", "end_to_end", "peer")
"""Sections that learn from transitions of random numbers."""
LONGEST = 3600
TITLES = {
    "limits": "limits: what this machine can do at best",
    "collection": "collection: frames per second, the policy acting",
    "update": "update: milliseconds per gradient update of all objectives",
    "end_to_end": "end to end: a short run, and where an iteration's time goes",
    "peer": f"peer: {PEER}, in turns with ours",
}


@dataclass(frozen=True)
class Options:
    """``only``: sections, all if empty. ``networks``: those to update in every mode; if empty, all, but in ``eager``,
    except for the configured one.

    ``seconds``: how long each figure is measured. ``compare``: with gymnasium's AsyncVectorEnv. ``peer``: a Python that
    has `PEER`, to compare with it, too.
    """

    only: Sequence[str] = ()
    networks: Sequence[str] = ()
    seconds: float = 2.0
    compare: bool = False
    peer: str | None = None


def bench(cfg: DictConfig, options: Options, say: Callable[[str], object]) -> dict[str, Any]:
    """Measure, `say` every table as it is ready, and return all of it as plain types."""
    known = groups()["network"]
    for name in options.only:
        require(name in SECTIONS, unknown("--only", name, SECTIONS))
    for name in options.networks:
        require(name in known, unknown("--networks", name, known))
    fits = 0 < options.seconds <= LONGEST  # not so of NaN
    require(fits, f"--seconds={options.seconds:g}: measure each figure for more than 0 and at most {LONGEST} seconds")
    require(options.peer != "", f"--peer: is empty; name a Python that has {PEER}")
    wanted = [name for name in options.only or SECTIONS if name != "peer" or options.peer]
    require(bool(options.peer) or "peer" not in options.only, f"--only peer: name a Python that has {PEER} with --peer")
    foreign = set(algorithm_class(cfg).stored) - set(Algorithm.stored)
    replays = not foreign and "per_task" in cfg.replay
    require(
        replays or not set(wanted) & set(WITH_REPLAY),
        f"algo={cfg.algo.name}: bench makes up batches of what environments write, in a replay, and this learns from"
        " other ones; use --only limits collection",
    )
    suite = build_suite(cfg)
    if options.peer:
        require_peer(cfg, options.peer)
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    report: dict[str, Any] = {"machine": machine(learner_device(cfg))}
    report["config"] = {**suite.tags(), "network": cfg.network.name}
    report["config"] |= {"per_task": cfg.replay.per_task} if replays else {}
    report |= {"seconds": options.seconds, "notes": _notes(options)}
    for title in ("machine", "config"):
        say(", ".join(f"{key} {value}" for key, value in report[title].items()))
    for note in report["notes"]:
        say(note)
    calls: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "limits": lambda: limits(cfg, options.seconds),
        "collection": lambda: collection(cfg, options.seconds, options.compare),
        "update": lambda: update(cfg, options.seconds, options.networks or known, bool(options.networks)),
        "end_to_end": lambda: end_to_end(cfg, options.seconds),
        "peer": lambda: peer(cfg, options.seconds, options.peer or ""),
    }
    for section in SECTIONS:
        if section in wanted:
            report[section] = calls[section]()
            say(f"\n{TITLES[section]}\n{table(report[section])}")
    return report


def _notes(options: Options) -> list[str]:
    """What is left out, and why."""
    left = options.compare and not options.peer
    return [f"the peer ({PEER}) is not timed: name a Python that has it with --peer"] if left else []
