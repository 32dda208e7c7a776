"""The command ``test``: a checkpoint's agent in its environments, or in such as overrides ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.saved import override_saved
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.signals import ended_by_signals
from lit_mtrl.core.suggest import unknown
from lit_mtrl.core.tables import flat, to_json
from lit_mtrl.envs.benchmarks import BENCHMARKS, task_names

FREE = ("eval.", "env.", "benchmark.", "seed")
"""Keys that change an evaluation and not the weights; ``seed`` picks the goals."""
SUITE = "env._target_"
"""Which environments they are, whose observations the weights know."""
ENDING = "-v3"
"""Of Meta-World's own names of tasks."""
WIDTHS, DIGITS = {"success": 7, "return": 8, "length": 6}, {"success": 2, "return": 1, "length": 1}
"""Of the table's columns."""


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint with the configuration it carries, but for overrides of `FREE`; 1 if a process that plays
    has died.
    """
    from lit_mtrl.evaluation.players import EvaluationError
    from lit_mtrl.training.checkpoint import load
    from lit_mtrl.training.weights import saved_part

    where = f"--ckpt {args.ckpt}"
    checkpoint = load(Path(args.ckpt), "--ckpt")
    part = saved_part(checkpoint, where)
    saved, cfg = (override_saved(part["config"], overrides, where) for overrides in ([], args.overrides))
    _require_free(saved, cfg)
    chosen = _chosen(cfg, saved, part["tasks"])
    suite, algorithm, evaluation, tags = _built(saved, cfg, part["tasks"], chosen, where)
    from lit_mtrl.training.weights import load_algorithm

    load_algorithm(algorithm, checkpoint, where)
    with ended_by_signals():
        try:
            rows = evaluation.evaluate(suite, algorithm.policy, [part["tasks"].index(name) for name in chosen])
        except EvaluationError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            evaluation.close()
    columns = ["success", "return", "length"] if suite.score == "success" else ["return", "length"]
    rows = [{key: row[key] for key in ("task", *columns)} for row in rows]
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in columns}
    about = {"frames": part["frames"], **tags, "score": suite.score, "episodes": cfg.eval.episodes}
    report = {**about, **mean, "tasks": rows}
    print(to_json(report) if args.json else _table([*rows, {"task": "mean", **mean}]))
    return 0


def _require_free(saved: DictConfig, cfg: DictConfig) -> None:
    """`ConfigError` for overrides that would make it another agent, or that have no effect on an evaluation."""
    there, here = (flat(as_written(each)) for each in (saved, cfg))
    differ = sorted(
        k for k in {*there, *here} if there.get(k) != here.get(k) and (k == SUITE or not k.startswith(FREE))
    )
    shown = ", ".join(f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in differ)
    require(
        not differ,
        f"--ckpt: the agent has another configuration: {shown}; test takes eval.*, env.*, benchmark.tasks and seed",
    )


def _chosen(cfg: DictConfig, saved: DictConfig, trained: Sequence[str]) -> list[str]:
    """Names of the tasks to be evaluated, in order; `ConfigError` for one that the agent was not trained on."""
    tasks = OmegaConf.select(cfg, "benchmark.tasks")
    if tasks == OmegaConf.select(saved, "benchmark.tasks"):
        return list(trained)
    require(
        isinstance(tasks, str) or (isinstance(tasks, ListConfig) and len(tasks) > 0),
        f"benchmark.tasks={tasks}: name some of the agent's tasks, as [{','.join(trained[:2])}]",
    )
    require(not isinstance(tasks, str) or tasks in BENCHMARKS, unknown("benchmark.tasks", tasks, BENCHMARKS))
    names = [str(name) for name in task_names(tasks)]
    names = [name if name in trained else name.removesuffix(ENDING) for name in names]
    for name in names:
        message = unknown("benchmark.tasks", name, trained).replace(": unknown;", ": no task of this agent;")
        require(name in trained, message)
    require(len(set(names)) == len(names), "benchmark.tasks: a task is named twice")
    return names


def _built(
    saved: DictConfig, cfg: DictConfig, trained: Sequence[str], chosen: Sequence[str], where: str
) -> tuple[Any, ...]:
    """The suite of all tasks of the agent, in the environments of ``cfg``; its algorithm; the evaluation; and tags of
    what is evaluated.
    """
    from lightning import Callback

    from lit_mtrl.config.instantiate import make
    from lit_mtrl.runs.build import build_algorithm, build_suite

    def suite_of(names: Sequence[str]) -> Any:
        changed: Any = OmegaConf.merge(cfg, {"benchmark": {"tasks": list(names)}})
        return build_suite(changed)

    try:
        before = build_suite(saved)
        require(list(before.tasks) == list(trained), f"{where}: its 'tasks' are not those of its configuration")
        algorithm = build_algorithm(saved, before)
        suite, evaluation = suite_of(trained), make(cfg.eval, Callback, "eval")
        return suite, algorithm, evaluation, suite_of(chosen).tags()
    except ConfigError:
        raise
    except (OmegaConfBaseException, AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(_unusable(where, error)) from error


def _unusable(where: str, error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{where}: its configuration cannot be used ({reason}); use a checkpoint that fit has written"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Text, a line per row; n/a for what a protocol does not tell."""
    width = max(len(row["task"]) for row in rows)
    columns = [key for key in ("success", "return", "length") if key in rows[0]]
    lines = ["  ".join([f"{'task':<{width}}", *(f"{key:>{WIDTHS[key]}}" for key in columns)])]
    for row in rows:
        cells = [f"{row[key]:{WIDTHS[key]}.{DIGITS[key]}f}".replace("nan", "n/a") for key in columns]
        lines.append("  ".join([f"{row['task']:<{width}}", *cells]))
    return "\n".join(lines)
