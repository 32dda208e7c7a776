"""``fit --multirun``: Hydra's sweepers and launchers, every job a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lit_mtrl.compose import compose, conf_dir, groups, swept_keys
from lit_mtrl.spec import ConfigError, require

CONFIGS = "LIT_MTRL_MULTIRUN_CONFIGS"
SWEPT = "LIT_MTRL_MULTIRUN_SWEPT"


def launch(configs: Sequence[str], overrides: Sequence[str]) -> int:
    """One run per combination of the comma-separated values; 0 if all succeeded.

    A run's name gets the swept keys and values appended, unless ``run_name`` itself is swept or given.
    """
    swept = swept_keys(overrides)
    require(bool(swept), "--multirun: give at least one key several values, such as seed=0,1,2")
    fixed = [text for text in overrides if text.split("=", 1)[0] not in swept and not text.startswith("hydra")]
    compose(configs, fixed)  # one clear line now instead of one per job
    os.environ[CONFIGS], os.environ[SWEPT] = "\n".join(configs), "\n".join(swept)
    # Hydra only makes the combinations, so it need not know the keys; every job composes for itself.
    chosen = [f"{_prefix(text.split('=', 1)[0])}{text}" for text in overrides]
    sys.argv = [sys.argv[0], "--multirun", *chosen, "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    sys.argv += ["hydra.sweep.dir=outputs/multirun/${now:%Y-%m-%d_%H-%M-%S}", "hydra/hydra_logging=default"]
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0) and 1
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"a job of the sweep failed with exit code {error.returncode}; its output is above"
        ) from error
    return 0


def _short(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key.rsplit('.', 1)[-1]}={value}"


def _prefix(key: str) -> str:
    """What makes Hydra accept any key; ``weighting`` is a group that its defaults name per objective only."""
    if key == "weighting":
        return "+"
    return "" if key.split("@")[0] in groups() or key.startswith("hydra") else "++"


def job(_: DictConfig) -> float | None:
    """One combination, in a process of its own."""
    overrides = [text.lstrip("+") for text in HydraConfig.get().overrides.task]
    swept = os.environ[SWEPT].split("\n")
    if not any(text.startswith("run_name=") for text in overrides):
        chosen = [text for text in overrides if text.split("=", 1)[0] in swept]
        fixed = [text for text in overrides if text not in chosen]
        configs = [config for config in os.environ[CONFIGS].split("\n") if config]
        base = compose(configs, [*fixed, *(text for text in chosen if text.startswith("seed="))]).run_name
        slug = "-".join(_short(text) for text in chosen if not text.startswith("seed="))
        overrides.append(f"run_name='{base}{'-' if slug else ''}{slug}'")
    command = [sys.executable, "-m", "lit_mtrl", "fit", *overrides]
    for config in os.environ[CONFIGS].split("\n"):
        command += ["--config", config] if config else []
    subprocess.run(command, check=True)
    return None
