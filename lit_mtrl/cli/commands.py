"""What the commands do; see `lit_mtrl.cli.main` for how they are called."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.cli.new import new as new  # pyright: ignore[reportUnusedImport]
from lit_mtrl.cli.test import test as test  # pyright: ignore[reportUnusedImport]
from lit_mtrl.config.files import read_config
from lit_mtrl.config.folders import conf_dir, file_of, groups
from lit_mtrl.config.saved import is_saved
from lit_mtrl.config.study import split_experiment, study_sweep
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.signals import ended_by_signals, raise_if_told
from lit_mtrl.core.tables import to_json
from lit_mtrl.runs.folder import require_free
from lit_mtrl.runs.lock import locked
from lit_mtrl.runs.match import composed

LOOKED_AT = 10_000
"""Characters of a configuration in which `list` looks for its first comment."""

if TYPE_CHECKING:
    from lit_mtrl.training.checkpoint import Saved


def fit(args: argparse.Namespace) -> int:
    """Train, continue a run, or launch one run per combination."""
    if args.multirun:
        require(args.resume is None, "--resume: continues one run; it cannot be combined with --multirun")
        from lit_mtrl.runs.sweep import launch, print_configs

        return (print_configs if args.print_config else launch)(args.config, args.overrides)
    configs, overrides = split_experiment(args.config, args.overrides)
    given = {text.split("=", 1)[0] for text in overrides} | ({"experiment"} if len(configs) > 1 else set())
    swept = ", ".join(key for key in study_sweep(configs) if key not in given)
    require(not swept, f"--config {' '.join(configs)}: sweeps {swept}; add --multirun, or give each one value")
    if args.resume:
        require(not configs, f"--resume {args.resume}: uses the folder's own config.yaml; leave --config away")
        configs = [str(Path(args.resume) / "config.yaml")]
        require(os.path.isfile(configs[0]), f"--resume {args.resume}: holds no config.yaml; name a run's output folder")
        # Else it would be taken for an experiment, which may name and look up more.
        whole = is_saved(read_config(configs[0]).content)
        require(whole, f"--resume {args.resume}: config.yaml lacks keys that every run's has; restore it from a copy")
    cfg = composed(configs, overrides)
    if args.resume:
        cfg.output_dir = args.resume
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    with ended_by_signals():
        return _start(cfg) if args.resume is None else _continue(cfg)


def params(args: argparse.Namespace) -> int:
    """Count parameters."""
    cfg = composed(args.config, args.overrides)
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    from lit_mtrl.runs.build import build_algorithm, build_sizes, build_suite
    from lit_mtrl.runs.tags import counts

    suite = build_suite(cfg)
    found = counts(build_sizes(cfg, suite) or build_algorithm(cfg, suite))
    if args.json:
        print(to_json(found))
    else:
        print("\n".join(f"{part:<8} {count:>14,}" for part, count in found.items()))
    return 0


def bench(args: argparse.Namespace) -> int:
    """Speed of collection, updates and whole runs, against the machine's limits."""
    # Overrides that follow a list of names were taken for names.
    only, networks = ([name for name in names if "=" not in name] for names in (args.only, args.networks))
    cfg = composed(args.config, [*args.overrides, *(text for text in (*args.only, *args.networks) if "=" in text)])
    file = None if args.json is None else Path(args.json)
    if file is not None:
        require(file.absolute().parent.is_dir(), f"--json {args.json}: there is no such folder")
        require(bool(args.json) and not file.is_dir(), f"--json {args.json}: give the name of a file, not of a folder")
        _require_writable(file)
    from lit_mtrl.bench.measure import Options
    from lit_mtrl.bench.measure import bench as measure

    options = Options(only, networks, args.seconds, args.compare, args.peer)
    found = measure(cfg, options, partial(print, flush=True))
    if file:
        file.write_text(to_json({"command": shlex.join(["lit_mtrl", *sys.argv[1:]]), **found}, indent=2) + "\n")
    return 0


def list(args: argparse.Namespace) -> int:
    """Experiments and groups with the first comment of each file; of a file that ``--config-dir`` adds also its
    folder.
    """
    for group, names in sorted(groups().items(), key=lambda item: item[0] != "experiment"):
        print(f"{group}:")
        for name in names:
            path = file_of(group, name)
            added = "" if path.is_relative_to(conf_dir()) else f" [{path.parents[1 + name.count('/')]}]"
            line = f"  {name:<24} {_describe(path)}{added}"
            print("".join(c if c.isprintable() else "?" for c in line))
    return 0


def report(args: argparse.Namespace) -> int:
    """Figures, tables and a page from the runs of MLflow experiments, or of folders."""
    from lit_mtrl.report import default_folder, find_sweeps, log_report, read_folders, read_mlflow, write_report

    require(bool(args.experiment) != bool(args.runs), "report: give --experiment NAME, or folders with --runs DIR")
    where = {}
    for text in args.where:
        key, separator, where[key] = text.partition("=")
        require(bool(separator), f"--where {text}: write KEY=VALUE, such as network.width=400")
    require(
        _is_address(args.ui), f"--ui {args.ui}: no address; give that of MLflow's pages, such as http://127.0.0.1:5000"
    )
    require(args.out != "", "--out: is empty; give a folder")
    uri = args.tracking_uri or f"sqlite:///{Path('mlflow.db').absolute()}"
    runs = read_mlflow(uri, args.experiment, args.ui) if args.experiment else read_folders(args.runs)
    sweeps = find_sweeps(uri, args.experiment) if args.log and args.experiment else []
    require(
        bool(sweeps) or not args.log, "--log: needs --experiment NAME with a sweep in it, whose run keeps the report"
    )
    names = args.experiment or [Path(path).resolve().name for path in args.runs]
    page = write_report(
        runs,
        Path(args.out or default_folder(args.experiment or names[:1])),
        title=", ".join(names),
        group=[key for text in args.group or () for key in text.split(",") if key],
        where=where,
        statistic=args.statistic,
        published=args.published,
        unfinished=args.unfinished,
        mixed_protocols=args.mixed_protocols,
    )
    log_report(uri, sweeps, page.parent)
    print(page)
    return 0


def ui(args: argparse.Namespace) -> int:
    """MLflow's pages."""
    from lit_mtrl.tracking.ui import serve

    return serve(args.tracking_uri, args.port)


def _require_writable(file: Path) -> None:
    """`ConfigError` if nothing can be written to it; tried, since permissions alone do not tell of every file
    system.
    """
    new = not os.path.lexists(file)
    try:
        file.open("a").close()
    except OSError as error:
        raise ConfigError(f"--json {file}: cannot be written ({error.strerror}); give another file") from error
    if new:
        file.unlink()


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname) and url.isprintable()
    except ValueError:
        return False


def _describe(path: Path) -> str:
    """The first comment of a file, whatever else is in it."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = file.read(LOOKED_AT).splitlines()
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line), "")


def _start(cfg: DictConfig) -> int:
    """Train a new run. The first of its ranks locks the folder."""
    from lit_mtrl.runs.ranks import rank_of

    if rank_of(cfg) > 0:
        return _train(cfg, None)
    folder = Path(cfg.output_dir)
    with locked(folder):
        require_free(folder)
        return _train(cfg, None)


def _continue(cfg: DictConfig) -> int:
    """Train a run on from its last checkpoint, or send what MLflow lacks of a finished one."""
    from lit_mtrl.runs.ranks import rank_of
    from lit_mtrl.runs.resume import resumed
    from lit_mtrl.runs.unsent import send_unsent

    if rank_of(cfg) > 0:
        return _train(cfg, resumed(cfg, first=False))
    with locked(Path(cfg.output_dir)):
        code = send_unsent(cfg)
        return _train(cfg, resumed(cfg)) if code is None else code


def _train(cfg: DictConfig, saved: Saved | None) -> int:
    from lit_mtrl.core.ranks import RankError
    from lit_mtrl.data.collect import WorkerError
    from lit_mtrl.evaluation.players import EvaluationError
    from lit_mtrl.runs.records import StoppedError
    from lit_mtrl.runs.run import Run
    from lit_mtrl.training.agent import DivergedError

    try:
        raise_if_told()
        Run(cfg, saved).fit()
    except (DivergedError, EvaluationError, RankError, StoppedError, WorkerError):
        return 1  # the message has been logged
    return 0
