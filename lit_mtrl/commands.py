"""What the commands do; see `lit_mtrl.cli` for how they are called."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.compose import compose, conf_dir, groups, override_saved, upgraded
from lit_mtrl.spec import require

RESUMABLE = ("frames", "output_dir", "run_name", "experiment_name", "trainer.", "logger.", "eval.workers")
"""Keys that may differ between a run and its continuation."""


def fit(args: argparse.Namespace) -> int:
    """Train, continue a run, or launch one run per combination."""
    if args.multirun:
        require(args.resume is None, "--resume: continues one run; it cannot be combined with --multirun")
        from lit_mtrl.multirun import launch

        return launch(args.config, args.overrides)
    configs = args.config
    if args.resume:
        require(not configs, f"--resume {args.resume}: uses the folder's own config.yaml; leave --config away")
        configs = [str(Path(args.resume) / "config.yaml")]
        require(Path(configs[0]).is_file(), f"--resume {args.resume}: holds no config.yaml; name a run's output folder")
    cfg = _compose(configs, args.overrides)
    if args.resume:
        cfg.output_dir = args.resume
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    from lit_mtrl.build import build_suite, default_workers

    cfg.collector.workers = cfg.collector.workers or default_workers(build_suite(cfg))
    checkpoint = _resumed(cfg) if args.resume is not None else None
    if checkpoint is None:
        _require_free(Path(cfg.output_dir))
    return _train(cfg, checkpoint)


def params(args: argparse.Namespace) -> int:
    """Count parameters."""
    cfg = _compose(args.config, args.overrides)
    if args.print_config:
        print(OmegaConf.to_yaml(cfg), end="")
        return 0
    from lit_mtrl.build import build_algorithm, build_suite
    from lit_mtrl.engine import param_count

    algorithm = build_algorithm(cfg, build_suite(cfg))
    counts = {name: param_count(getattr(algorithm, name)) for name in ("actor", "critic")}
    if args.json:
        print(json.dumps(counts))
    else:
        print(f"actor    {counts['actor']:>14,}\ncritics  {counts['critic']:>14,}")
    return 0


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint with the configuration it carries."""
    from lit_mtrl.build import build_algorithm, build_suite, make
    from lit_mtrl.checkpoint import load

    checkpoint = load(Path(args.ckpt), "--ckpt")
    cfg = override_saved(DictConfig(checkpoint["lit_mtrl"]["config"]), args.overrides)
    suite = build_suite(cfg)
    algorithm = build_algorithm(cfg, suite)
    prefix = "algorithm."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    algorithm.load_state_dict(weights)
    evaluation = make(cfg.eval)
    try:
        rows = evaluation.evaluate(suite, algorithm.actor)
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


def list(args: argparse.Namespace) -> int:
    """Experiments and groups with the first comment of each file."""
    for group, names in sorted(groups().items(), key=lambda item: item[0] != "experiment"):
        print(f"{group}:")
        for name in names:
            print(f"  {name:<24} {_describe(conf_dir() / group / f'{name}.yaml')}")
    return 0


def _compose(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """`compose`, with ``network.match`` replaced by the width it asks for, also where other keys refer to the width."""
    cfg = compose(configs, overrides)
    if all(cfg[part].network.get("match") is None for part in ("actor", "critic")) and cfg.network.get("match") is None:
        return cfg
    from lit_mtrl.match import match_width

    found = match_width(cfg)
    assert found is not None
    width, text = found
    print(text, file=sys.stderr)
    return compose(configs, [*overrides, f"network.width={width}", "network.match=null"])


def _describe(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _require_free(folder: Path) -> None:
    require(
        not (folder / "checkpoints" / "last.ckpt").exists(),
        f"output_dir={folder}: already holds a run; continue it with --resume, or choose another run_name or output_dir",
    )
    place = folder
    while not place.exists():
        place = place.parent
    require(place.is_dir() and os.access(place, os.W_OK), f"output_dir={folder}: {place} cannot be written to")


def _resumed(cfg: DictConfig) -> dict[str, Any]:
    """The last checkpoint of the run in ``output_dir``, if it belongs to this configuration."""
    from lit_mtrl.build import plain
    from lit_mtrl.checkpoint import load

    folder = Path(cfg.output_dir)
    path = folder / "checkpoints" / "last.ckpt"
    require(path.is_file(), f"--resume {folder}: holds no checkpoints/last.ckpt; start the run without --resume")
    require(os.access(folder, os.W_OK), f"output_dir={folder}: cannot be written to")
    checkpoint = load(path, "--resume")
    old, new = _flat(upgraded(checkpoint["lit_mtrl"]["config"])), _flat(plain(cfg))
    differ = sorted(k for k in {*old, *new} if old.get(k) != new.get(k) and not k.startswith(RESUMABLE))
    shown = ", ".join(f"{k} ({old.get(k)} there, {new.get(k)} here)" for k in differ)
    require(not differ, f"--resume {folder}: the run has another configuration: {shown}")
    done = checkpoint["lit_mtrl"]["frames"]
    require(
        done < cfg.frames,
        f"--resume {folder}: finished at {done} frames; give a larger budget, such as frames={2 * done}",
    )
    return checkpoint


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix[:-1]: tree}
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out.update(_flat(value, f"{prefix}{key}."))
    return out


def _train(cfg: DictConfig, checkpoint: dict[str, Any] | None) -> int:
    from lit_mtrl.agent import DivergedError
    from lit_mtrl.build import Run
    from lit_mtrl.data.collect import WorkerError

    try:
        Run(cfg, checkpoint).fit()
    except (DivergedError, WorkerError):
        return 1  # the message has been logged
    return 0
