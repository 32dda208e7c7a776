"""What the commands do; see `lit_mtrl.cli` for how they are called."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.compose import composed, conf_dir, groups, override_saved
from lit_mtrl.folder import leads, require_free, resumed
from lit_mtrl.signals import ended_by_signals
from lit_mtrl.spec import require
from lit_mtrl.study import split_experiment, study_sweep


def fit(args: argparse.Namespace) -> int:
    """Train, continue a run, or launch one run per combination."""
    if args.multirun:
        require(args.resume is None, "--resume: continues one run; it cannot be combined with --multirun")
        from lit_mtrl.multirun import launch

        return launch(args.config, args.overrides)
    configs, overrides = split_experiment(args.config, args.overrides)
    given = {text.split("=", 1)[0] for text in overrides} | ({"experiment"} if len(configs) > 1 else set())
    swept = ", ".join(key for key in study_sweep(configs) if key not in given)
    require(not swept, f"--config {' '.join(configs)}: sweeps {swept}; add --multirun, or give each one value")
    if args.resume:
        require(not configs, f"--resume {args.resume}: uses the folder's own config.yaml; leave --config away")
        configs = [str(Path(args.resume) / "config.yaml")]
        require(os.path.isfile(configs[0]), f"--resume {args.resume}: holds no config.yaml; name a run's output folder")
    cfg = composed(configs, overrides)
    if args.resume:
        cfg.output_dir = args.resume
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    if args.resume is not None:
        return _train(cfg, resumed(cfg))
    if leads(cfg):
        require_free(Path(cfg.output_dir))
    return _train(cfg, None)


def params(args: argparse.Namespace) -> int:
    """Count parameters."""
    cfg = composed(args.config, args.overrides)
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    from lit_mtrl.build import build_algorithm, build_suite
    from lit_mtrl.labels import counts

    found = counts(build_algorithm(cfg, build_suite(cfg)))
    if args.json:
        print(json.dumps(found))
    else:
        print(f"actor    {found['actor']:>14,}\ncritics  {found['critic']:>14,}")
    return 0


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint with the configuration it carries."""
    from lit_mtrl.build import build_algorithm, build_suite
    from lit_mtrl.checkpoint import load
    from lit_mtrl.make import make
    from lit_mtrl.players import EvaluationError

    checkpoint = load(Path(args.ckpt), "--ckpt")
    cfg = override_saved(DictConfig(checkpoint["lit_mtrl"]["config"]), args.overrides)
    suite = build_suite(cfg)
    algorithm = build_algorithm(cfg, suite)
    prefix = "algorithm."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    algorithm.load_state_dict(weights)
    evaluation = make(cfg.eval)
    with ended_by_signals():
        try:
            rows = evaluation.evaluate(suite, algorithm.actor)
        except EvaluationError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            evaluation.close()
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("success", "return", "length")}
    report = {
        "frames": checkpoint["lit_mtrl"]["frames"],
        **suite.tags(),
        "episodes": cfg.eval.episodes,
        **mean,
        "tasks": rows,
    }
    if args.json:
        print(json.dumps(report))
        return 0
    width = max(len(row["task"]) for row in rows)
    print(f"{'task':<{width}}  success    return  length")
    for row in [*rows, {"task": "mean", **mean}]:
        print(f"{row['task']:<{width}}  {row['success']:7.2f}  {row['return']:8.1f}  {row['length']:6.1f}")
    return 0


def bench(args: argparse.Namespace) -> int:
    """Speed of collection, updates and whole runs, against the machine's limits."""
    # Overrides that follow a list of names were taken for names.
    only, networks = ([name for name in names if "=" not in name] for names in (args.only, args.networks))
    cfg = composed(args.config, [*args.overrides, *(text for text in (*args.only, *args.networks) if "=" in text)])
    file = Path(args.json) if args.json else None
    require(file is None or file.resolve().parent.is_dir(), f"--json {file}: there is no such folder")
    from lit_mtrl.bench.run import Options
    from lit_mtrl.bench.run import bench as measure

    options = Options(only, networks, args.seconds, args.compare, args.peer)
    found = measure(cfg, options, partial(print, flush=True))
    if file:
        file.write_text(json.dumps({"command": shlex.join(["lit_mtrl", *sys.argv[1:]]), **found}, indent=2) + "\n")
    return 0


def list(args: argparse.Namespace) -> int:
    """Experiments and groups with the first comment of each file."""
    for group, names in sorted(groups().items(), key=lambda item: item[0] != "experiment"):
        print(f"{group}:")
        for name in names:
            print(f"  {name:<24} {_describe(conf_dir() / group / f'{name}.yaml')}")
    return 0


def report(args: argparse.Namespace) -> int:
    """Figures, tables and a page from the runs of MLflow experiments, or of folders."""
    from lit_mtrl.report import find_sweeps, log_report, read_folders, read_mlflow, write_report

    require(bool(args.experiment) != bool(args.runs), "report: give --experiment NAME, or folders with --runs DIR")
    where = {}
    for text in args.where:
        key, separator, where[key] = text.partition("=")
        require(bool(separator), f"--where {text}: write KEY=VALUE, such as network.width=400")
    uri = args.tracking_uri or f"sqlite:///{Path('mlflow.db').absolute()}"
    runs = read_mlflow(uri, args.experiment, args.ui) if args.experiment else read_folders(args.runs)
    sweeps = find_sweeps(uri, args.experiment) if args.log and args.experiment else []
    require(
        bool(sweeps) or not args.log, "--log: needs --experiment NAME with a sweep in it, whose run keeps the report"
    )
    title = ", ".join(args.experiment or [Path(path).resolve().name for path in args.runs])
    page = write_report(
        runs,
        Path(args.out or Path("reports", "_".join(args.experiment or [Path(args.runs[0]).resolve().name]))),
        title=title,
        group=[key for text in args.group or () for key in text.split(",") if key],
        where=where,
        statistic=args.statistic,
        published=args.published,
        unfinished=args.unfinished,
        mixed_protocols=args.mixed_protocols,
        parameters=_count,
    )
    log_report(uri, sweeps, page.parent)
    print(page)
    return 0


def ui(args: argparse.Namespace) -> int:
    """MLflow's pages."""
    from lit_mtrl.ui import serve

    return serve(args.tracking_uri, args.port)


def _count(config: dict[str, Any]) -> dict[str, int]:
    """Parameters of the run with this saved configuration."""
    import torch

    from lit_mtrl.build import build_algorithm, build_suite
    from lit_mtrl.labels import counts

    cfg = override_saved(DictConfig(config), [])
    with torch.device("meta"):
        return counts(build_algorithm(cfg, build_suite(cfg)))


def _describe(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _train(cfg: DictConfig, checkpoint: dict[str, Any] | None) -> int:
    from lit_mtrl.agent import DivergedError
    from lit_mtrl.data.collect import WorkerError
    from lit_mtrl.players import EvaluationError
    from lit_mtrl.ranks import RankError
    from lit_mtrl.run import Run

    try:
        with ended_by_signals():
            Run(cfg, checkpoint).fit()
    except (DivergedError, EvaluationError, RankError, WorkerError):
        return 1  # the message has been logged
    return 0
