"""``fit --multirun``: Hydra's sweepers and launchers, every job a fresh process.

A job whose run is finished is skipped, and one that was stopped is continued, so the same command again does what is
missing. Jobs that run at the same time get different GPUs, or share them evenly where there are fewer.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.compose import conf_dir, groups, parse_overrides, quoted
from lit_mtrl.config.study import split_experiment, study_sweep, swept_keys
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import claim, denied, die_with_parent
from lit_mtrl.core.tables import safe_cell, to_json
from lit_mtrl.core.text import NAME_BYTES
from lit_mtrl.runs.build import score_of
from lit_mtrl.runs.folder import frames_done, require_idle, require_writable
from lit_mtrl.runs.match import composed
from lit_mtrl.runs.tags import PARENTS
from lit_mtrl.tracking.queue import unsent

SWEEP = "LIT_MTRL_SWEEP"
"""Environment variable that tells jobs about their sweep."""
OUTPUTS = "outputs/multirun"
"""Hydra's own folder for sweeps."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


def launch(configs: Sequence[str], overrides: Sequence[str]) -> int:
    """One run per combination of the comma-separated values, and of those that a study sweeps; 0 if all succeeded.

    A run's name gets the swept keys and values appended where names would not differ otherwise, unless ``run_name``
    itself is given.
    """
    overrides = _with_study(configs, overrides)
    swept, own, searched, jobs = _jobs(configs, overrides)
    print(f"checking {len(jobs)} runs", flush=True)  # noqa: T201
    cfgs, slug = _configs(configs, jobs, swept, searched)  # one clear line now instead of one per job
    reason = denied(Path(OUTPUTS))
    require(reason is None, f"--multirun: {reason}, or run it in another folder")
    if not searched:
        done = [frames_done(cfg) for cfg in cfgs]
        for cfg, frames in zip(cfgs, done, strict=True):
            require_idle(Path(cfg.output_dir))
            if frames < cfg.frames:
                require_writable(Path(cfg.output_dir))
        finished = sum(frames >= cfg.frames for frames, cfg in zip(done, cfgs, strict=True))
        stopped = sum(0 < frames < cfg.frames for frames, cfg in zip(done, cfgs, strict=True))
        print(  # noqa: T201
            f"{len(cfgs)} runs: {finished} finished, {stopped} to be continued, {len(cfgs) - finished - stopped} to be started"
        )
    os.environ[SWEEP] = to_json({"configs": list(configs), "overrides": own, "slug": slug})
    parents = _open_parents(cfgs, " ".join([*configs, *overrides]))
    os.environ[PARENTS] = to_json({parent.name: parent.run_id for parent in parents})
    status = "failed"
    try:
        code = _launch([text for text in overrides if text not in own or _key(text) in swept])
        status = "failed" if code else "success"
        return code
    finally:
        for parent in parents:
            if not searched:
                _log_summary(parent, [cfg for cfg in cfgs if cfg.experiment_name == parent.name])
            parent.finalize(status)


def print_configs(configs: Sequence[str], overrides: Sequence[str]) -> int:
    """Print the configuration of every job that `launch` would run, as YAML documents, each after a comment with its
    overrides.

    Of a sweeper that searches, which chooses values as it goes, that of a job without what is swept.
    """
    overrides = _with_study(configs, overrides)
    swept, _, searched, jobs = _jobs(configs, overrides)
    cfgs, _ = _configs(configs, jobs, swept, searched)
    documents = [
        f"# {' '.join(' '.join(job).splitlines())}\n{OmegaConf.to_yaml(cfg)}"
        for job, cfg in zip(jobs, cfgs, strict=True)
    ]
    print("---\n".join(documents), end="")  # noqa: T201
    return 0


def combinations(configs: Sequence[str], overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job, in order: all combinations of what overrides and a study sweep."""
    choices, texts = [], _with_study(configs, overrides)
    for override, text in zip(parse_overrides(texts), texts, strict=True):
        if override.package is None and text.startswith("hydra"):
            continue
        key = text.split("=", 1)[0]
        if not override.is_sweep_override():
            choices.append([text])
            continue
        discrete = override.is_discrete_sweep()
        require(
            discrete, f"{text}: has no list of values; it needs a sweeper that searches, such as hydra/sweeper=optuna"
        )
        choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    return [list(job) for job in itertools.product(*choices)]


def job(_: DictConfig) -> float | None:
    """One combination, in a process of its own; its final evaluation score, which a sweeper that searches maximises."""
    sweep = json.loads(os.environ[SWEEP])
    chosen = {_key(text): str(text).partition("=")[2] for text in HydraConfig.get().overrides.task}
    own: list[str] = sweep["overrides"]  # in their order, which matters
    overrides = [f"{text.partition('=')[0]}={chosen[_key(text)]}" if _key(text) in chosen else text for text in own]
    cfg = _job_config(sweep["configs"], overrides, sweep["slug"])
    done = frames_done(cfg)
    if done >= cfg.frames and not ("_target_" in cfg.logger and unsent(Path(cfg.output_dir))):
        print(f"{cfg.output_dir}: finished, skipped", flush=True)  # noqa: T201
        return final_score(cfg)
    configs, overrides = split_experiment(sweep["configs"], overrides)
    command = [sys.executable, "-m", "lit_mtrl", "fit", *overrides, f"run_name={quoted(cfg.run_name)}"]
    for config in configs:
        command += ["--config", config]
    command += ["--resume"] if done else []
    with placed(cfg) as environment:
        process = subprocess.Popen(command, env=environment, preexec_fn=partial(die_with_parent, gently=True))
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
    return final_score(cfg)


@contextmanager
def placed(cfg: DictConfig) -> Iterator[dict[str, str]]:
    """The environment of the process that trains ``cfg``: it sees ``trainer.devices`` GPUs, those on which the fewest
    jobs of this user run.

    It sees what this process sees where it asks for all GPUs, for certain ones or for none, and in a job of submitit,
    which places its own.
    """
    environment, wanted = dict(os.environ), cfg.trainer.devices
    ours = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and isinstance(wanted, int)
    gpus = visible_gpus() if ours and "SUBMITIT_EXECUTOR" not in environment else []
    if not gpus or not 0 < wanted < len(gpus):
        yield environment
        return
    with claim(Path(tempfile.gettempdir(), f"lit_mtrl-gpus-{os.getuid()}"), gpus, wanted) as chosen:
        print(f"{cfg.output_dir}: on GPU {','.join(chosen)}", flush=True)  # noqa: T201
        yield {**environment, VISIBLE: ",".join(chosen)}


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may hold: numbers, or what it holds here. CUDA is left alone where NVIDIA's driver
    can be asked otherwise.
    """
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE, "").replace(" ", "").split(",")
    return named[:count] if named != [""] else [str(index) for index in range(count)]


def final_score(cfg: DictConfig) -> float | None:
    """Mean over tasks of the suite's score, success or return, at a run's last evaluation; None if it has none, or its
    ``eval.csv`` cannot be read.
    """
    path, score = Path(cfg.output_dir) / "eval.csv", score_of(cfg)
    try:
        with path.open(newline="") as file:
            rows = [(int(row["frames"]), float(row[score])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return None
    last = [value for frames, value in rows if frames == rows[-1][0]]
    return sum(last) / len(last) if last else None


def _jobs(configs: Sequence[str], overrides: Sequence[str]) -> tuple[list[str], list[str], bool, list[list[str]]]:
    """Swept keys, overrides but Hydra's own, whether a sweeper searches, and the overrides of every job (of one, if it
    does).
    """
    swept = swept_keys(overrides)
    require(bool(swept), "--multirun: give at least one key several values, such as seed=0,1,2")
    own = [text for text in overrides if not text.startswith("hydra")]
    _check_hydra([text for text in overrides if text not in own])
    searched = any(text.startswith("hydra/sweeper=") for text in overrides)
    jobs = [[text for text in own if _key(text) not in swept]] if searched else combinations(configs, overrides)
    return swept, own, searched, jobs


def _configs(
    configs: Sequence[str], jobs: Sequence[Sequence[str]], swept: Sequence[str], searched: bool
) -> tuple[list[DictConfig], list[str]]:
    """The configuration of every job, and the keys whose values runs' names get."""
    cfgs = [_job_config(configs, job, slug=[]) for job in jobs]
    slug = [] if len({cfg.output_dir for cfg in cfgs}) == len(cfgs) > 1 else [key for key in swept if key != "seed"]
    if slug and not searched:
        cfgs = [_job_config(configs, job, slug) for job in jobs]
    folders = [str(cfg.output_dir) for cfg in cfgs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    require(twice is None, f"output_dir={twice}: is that of several runs; leave run_name and output_dir to the sweep")
    return cfgs, slug


def _launch(overrides: Sequence[str]) -> int:
    # Hydra gets what is swept and makes the combinations; every job composes for itself.
    chosen = [f"{_prefix(_key(text))}{text.lstrip('+')}" for text in overrides]
    if "hydra/sweeper=optuna" in overrides and not any(
        text.startswith("hydra.sweeper.direction=") for text in overrides
    ):
        chosen.append("hydra.sweeper.direction=maximize")
    sys.argv = [sys.argv[0], "--multirun", *chosen, "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    sys.argv += [f"hydra.sweep.dir={OUTPUTS}/${{now:%Y-%m-%d_%H-%M-%S}}", "hydra/hydra_logging=default"]
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0) and 1
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"a job of the sweep failed with exit code {error.returncode}; its output is above, the other jobs are done"
        ) from error
    return 0


def _check_hydra(overrides: Sequence[str]) -> None:
    """`ConfigError` for what Hydra does not know, before anything is started."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            hydra_compose("config", list(overrides), return_hydra_config=True)
    except HydraException as error:
        remedy = "joblib, submitit_local, submitit_slurm and optuna need: pip install -e '.[sweep]'"
        raise ConfigError(f"{' '.join(overrides)}: {str(error).strip().splitlines()[0]}; {remedy}") from error


def _with_study(configs: Sequence[str], overrides: Sequence[str]) -> list[str]:
    given = {_key(text) for text in overrides}
    return [*(f"{key}={value}" for key, value in study_sweep(configs).items() if key not in given), *overrides]


def _job_config(configs: Sequence[str], overrides: Sequence[str], slug: Sequence[str]) -> DictConfig:
    """The configuration of one job; its run's name has the values of the keys in ``slug``, before the seed if that is
    its end.
    """
    configs, own = split_experiment(configs, overrides)
    cfg = composed(configs, own)
    ending = "-".join(_short(text) for text in own if _key(text) in slug)
    if not ending or any(text.startswith("run_name=") for text in own):
        return cfg
    seed = f"-s{cfg.seed}" if cfg.run_name.endswith(f"-s{cfg.seed}") else ""
    name = f"{cfg.run_name.removesuffix(seed)}-{ending}"
    if len(f"{name}{seed}".encode()) > NAME_BYTES:
        short = name.encode()[: NAME_BYTES - len(seed) - 11].decode(errors="ignore")
        name = f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
    return composed(configs, [*own, f"run_name={quoted(name + seed)}"])


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+")


def _short(text: str) -> str:
    key, value = _key(text), text.partition("=")[2]
    return f"{key.rsplit('.', 1)[-1]}={value}".replace("/", "_").replace("'", "")


def _prefix(key: str) -> str:
    """What makes Hydra accept any key; ``weighting`` is a group that its defaults name per objective only."""
    if key == "weighting":
        return "+"
    return "" if key.split("@")[0] in groups() or key.startswith("hydra") else "++"


def _open_parents(cfgs: Sequence[DictConfig], command: str) -> list[Any]:
    """Store, experiments and one parent run in each, made once before jobs start; those of the same sweep before, if
    there are.
    """
    parents = []
    for name in dict.fromkeys(str(cfg.experiment_name) for cfg in cfgs):
        cfg = next(cfg for cfg in cfgs if cfg.experiment_name == name)
        if "_target_" not in cfg.logger:
            continue
        from lit_mtrl.runs.tags import build_parent

        parent = build_parent(cfg, command, hashlib.sha256(command.encode()).hexdigest()[:16])
        parent.connect()
        parents.append(parent)
    return parents


def _log_summary(parent: Any, cfgs: Sequence[DictConfig]) -> None:
    """``sweep.csv``: every run with its frames and final success, or final return."""
    path = Path(parent.folder) / "sweep.csv"
    rows = [(cfg.run_name, frames_done(cfg), cfg.frames, final_score(cfg)) for cfg in cfgs]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("run", "frames", "budget", "/".join(sorted({score_of(cfg) for cfg in cfgs}))), *([safe_cell(cell) for cell in row] for row in rows)]
        )
    parent.log_artifact(path)
