"""``fit --multirun``: Hydra's sweepers and launchers, every job a fresh process.

A job whose run is finished is skipped, and one that was stopped is continued, so the same command again does what is
missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
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

from lit_mtrl.config.folders import conf_dir, groups
from lit_mtrl.config.overrides import quoted
from lit_mtrl.config.resolve import as_written
from lit_mtrl.config.search_path import search_added_folders
from lit_mtrl.config.study import split_experiment
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.processes import denied, die_with_parent
from lit_mtrl.core.tables import flat, to_json
from lit_mtrl.core.text import shown
from lit_mtrl.runs.folder import require_writable
from lit_mtrl.runs.gpus import assigned_gpus
from lit_mtrl.runs.jobs import Plan, job_config, job_configs, key_of, name_of, plan
from lit_mtrl.runs.lock import require_idle
from lit_mtrl.runs.loggers import PARENTS
from lit_mtrl.runs.resume import frames_done
from lit_mtrl.runs.summary import final_score, log_summary, open_parents
from lit_mtrl.tracking.queue import unsent

SWEEP = "LIT_MTRL_SWEEP"
"""Environment variable that tells jobs about their sweep."""
OUTPUTS = "outputs/multirun"
"""Hydra's own folder for sweeps."""


def launch(configs: Sequence[str], overrides: Sequence[str]) -> int:
    """One run per combination of the comma-separated values, and of those that a study sweeps; 0 if all succeeded.

    A run's name gets the swept keys and values appended where names would not differ otherwise, unless ``run_name``
    itself is given.
    """
    sweep = plan(configs, overrides)
    check_hydra(sweep.hydra)
    print(f"checking {len(sweep.jobs)} runs", flush=True)  # noqa: T201
    cfgs, named = job_configs(sweep)  # one clear line now instead of one per job
    reason = denied(Path(OUTPUTS))
    require(reason is None, f"--multirun: {reason}, or run it in another folder")
    if not sweep.searches:
        _check_folders(cfgs)
    os.environ[SWEEP] = to_json({"configs": configs, "overrides": sweep.own, "named": named})
    parents = open_parents(cfgs, sweep.command)
    os.environ[PARENTS] = to_json({parent.name: parent.run_id for parent in parents})
    status = "failed"
    try:
        code = _launch(sweep)
        status = "failed" if code else "success"
        return code
    finally:
        for parent in parents:
            if not sweep.searches:
                log_summary(parent, [cfg for cfg in cfgs if cfg.experiment_name == parent.name])
            parent.finalize(status)


def print_configs(configs: Sequence[str], overrides: Sequence[str]) -> int:
    """Print the configuration of every job that `launch` would run, as YAML documents, each after a comment with its
    overrides.

    Of a sweeper that searches, which chooses values as it goes, that of a job without what is swept.
    """
    sweep = plan(configs, overrides)
    check_hydra(sweep.hydra)
    documents = [
        f"# {' '.join(' '.join(job).splitlines())}\n{OmegaConf.to_yaml(cfg)}"
        for job, cfg in zip(sweep.jobs, job_configs(sweep)[0], strict=True)
    ]
    print("---\n".join(documents), end="")  # noqa: T201
    return 0


def job(_: DictConfig) -> float | None:
    """One combination, in a process of its own; its final evaluation score, which a sweeper that searches maximises."""
    sweep = json.loads(os.environ[SWEEP])
    chosen = {key_of(text): str(text).partition("=")[2] for text in HydraConfig.get().overrides.task}
    own: list[str] = sweep["overrides"]  # in their order, which matters
    overrides = [f"{text.partition('=')[0]}={chosen[key_of(text)]}" if key_of(text) in chosen else text for text in own]
    cfg = job_config(sweep["configs"], overrides, sweep["named"])
    done = frames_done(cfg)
    if done >= cfg.frames and not ("_target_" in cfg.logger and unsent(Path(cfg.output_dir))):
        print(f"{cfg.output_dir}: finished, skipped", flush=True)  # noqa: T201
        return final_score(cfg)
    configs, overrides = split_experiment(sweep["configs"], overrides)
    command = [sys.executable, "-m", "lit_mtrl", "fit", *overrides, f"run_name={quoted(name_of(cfg))}"]
    for config in configs:
        command += ["--config", config]
    command += ["--resume"] if done else []
    with assigned_gpus(cfg) as environment:
        process = subprocess.Popen(command, env=environment, preexec_fn=partial(die_with_parent, gently=True))
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
    return final_score(cfg)


def check_hydra(overrides: Sequence[str]) -> None:
    """`ConfigError` for what Hydra does not know, before anything is started, and for classes but those that groups of
    Hydra and its plugins name: it would call them.
    """
    deleted = next((text for text in overrides if text.startswith("~")), None)
    require(deleted is None, f"{deleted}: Hydra needs it; give it another value instead")
    chosen = [text for text in overrides if key_of(text).startswith("hydra/")]
    search_added_folders()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            asked, known = (
                flat(as_written(hydra_compose("config", list(texts), return_hydra_config=True).hydra))
                for texts in (overrides, chosen)
            )
    except HydraException as error:
        remedy = "joblib, submitit_local, submitit_slurm and optuna need: pip install -e '.[sweep]'"
        raise ConfigError(f"{' '.join(overrides)}: {str(error).strip().splitlines()[0]}; {remedy}") from error
    for key in sorted(key for key in {*asked, *known} if key.endswith("_target_")):
        require(
            asked.get(key) == known.get(key),
            f"hydra.{key}={shown(asked.get(key))}: is no choice of Hydra or its plugins; choose by their groups, such"
            " as hydra/sweeper=optuna or hydra/launcher=joblib",
        )


def _check_folders(cfgs: Sequence[DictConfig]) -> None:
    """`ConfigError` unless every job can do what is missing in its folder; says how many have something to do."""
    done = [frames_done(cfg) for cfg in cfgs]
    for cfg, frames in zip(cfgs, done, strict=True):
        require_idle(Path(cfg.output_dir))
        if frames < cfg.frames:
            require_writable(Path(cfg.output_dir))
    finished = sum(frames >= cfg.frames for frames, cfg in zip(done, cfgs, strict=True))
    stopped = sum(0 < frames < cfg.frames for frames, cfg in zip(done, cfgs, strict=True))
    new = len(cfgs) - finished - stopped
    print(f"{len(cfgs)} runs: {finished} finished, {stopped} to be continued, {new} to be started")  # noqa: T201


def _launch(sweep: Plan) -> int:
    """Run Hydra's sweeper: it gets what is swept and makes the combinations; every job composes for itself."""
    swept = [text for text in sweep.own if key_of(text) in sweep.swept]
    chosen = [*(f"{_prefix(key_of(text))}{text.lstrip('+')}" for text in swept), *sweep.hydra]
    if "hydra/sweeper=optuna" in chosen and not any(text.startswith("hydra.sweeper.direction=") for text in chosen):
        chosen.append("hydra.sweeper.direction=maximize")
    sys.argv = [sys.argv[0], "--multirun", *chosen, "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    sys.argv += [f"hydra.sweep.dir={OUTPUTS}/${{now:%Y-%m-%d_%H-%M-%S}}", "hydra/hydra_logging=default"]
    main: Any = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0) and 1
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"a job of the sweep failed with exit code {error.returncode}; its output is above, the other jobs are done"
        ) from error
    return 0


def _prefix(key: str) -> str:
    """What makes Hydra accept any key; ``weighting`` is a group that its defaults name per objective only."""
    if key == "weighting":
        return "+"
    return "" if key.split("@")[0] in groups() else "++"
