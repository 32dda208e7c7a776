"""The jobs of a sweep: which values they combine, the configuration of each, and names that tell them apart."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Glob, Override, RangeSweep
from omegaconf import DictConfig

from lit_mtrl.config.folders import groups
from lit_mtrl.config.overrides import parse_overrides, quoted
from lit_mtrl.config.resolve import raw_value
from lit_mtrl.config.study import split_experiment, study_sweep, swept_keys
from lit_mtrl.core.errors import require
from lit_mtrl.core.text import NAME_BYTES, shown
from lit_mtrl.runs.match import composed

LARGEST = 10_000
"""Jobs of a sweep: each is composed and checked before the first one starts."""
HYDRAS = re.compile(r"[+~]*hydra[./@=]")


@dataclass(frozen=True)
class Plan:
    """What a sweep has been asked for.

    command: identifies the sweep: the same command again continues it.
    configs: the ``--config`` files of all jobs.
    own: the overrides that configure runs, several values included, in their order.
    hydra: those that configure Hydra: its sweeper, its launcher, its folders.
    swept: keys that have several values.
    searches: whether a sweeper chooses values as it goes, instead of combining all.
    jobs: the overrides of every job; of a sweeper that searches those of one, without what is swept.
    """

    command: str
    configs: Sequence[str]
    own: Sequence[str]
    hydra: Sequence[str]
    swept: Sequence[str]
    searches: bool
    jobs: Sequence[Sequence[str]]


def plan(configs: Sequence[str], overrides: Sequence[str]) -> Plan:
    """What overrides ask for, and the study among the files; `ConfigError` if nothing has several values."""
    given = with_study(configs, overrides)
    swept = swept_keys(given)
    require(bool(swept), "--multirun: give at least one key several values, such as seed=0,1,2")
    own, hydra = ([text for text in given if bool(HYDRAS.match(text)) is hydras] for hydras in (False, True))
    searches = any(text.startswith("hydra/sweeper=") and text != "hydra/sweeper=basic" for text in hydra)
    fixed = [text for text in own if key_of(text) not in swept]
    jobs = [fixed] if searches else combinations(configs, own)
    return Plan(" ".join([*configs, *given]), configs, own, hydra, swept, searches, jobs)


def combinations(configs: Sequence[str], overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job, in order: all combinations of what overrides and a study sweep.

    `ConfigError` for more than `LARGEST`, before they are made.
    """
    given = [text for text in with_study(configs, overrides) if not HYDRAS.match(text)]
    parsed = list(zip(parse_overrides(given), given, strict=True))
    swept = [(override, text) for override, text in parsed if override.is_sweep_override()]
    count, asked = math.prod(_count(*each) for each in swept), shown(" ".join(text for _, text in swept))
    require(count > 0, f"{asked}: a range without a value, or a group without such a choice")
    require(
        count <= LARGEST,
        f"{asked}: makes {count:,} runs, and a sweep has {LARGEST:,} at most; give fewer values, or several sweeps",
    )
    choices = [_values(override, text) if override.is_sweep_override() else [text] for override, text in parsed]
    return [list(job) for job in itertools.product(*choices)]


def job_configs(plan: Plan) -> tuple[list[DictConfig], list[str]]:
    """The configuration of every job, and the keys whose values runs' names get, because names would be equal."""
    cfgs = [job_config(plan.configs, job, named=[]) for job in plan.jobs]
    distinct = len({cfg.output_dir for cfg in cfgs}) == len(cfgs) > 1
    named = [] if distinct else [key for key in plan.swept if key != "seed"]
    if named and not plan.searches:
        cfgs = [job_config(plan.configs, job, named) for job in plan.jobs]
    folders = [str(cfg.output_dir) for cfg in cfgs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    require(twice is None, f"output_dir={twice}: is that of several runs; leave run_name and output_dir to the sweep")
    return cfgs, named


def job_config(configs: Sequence[str], overrides: Sequence[str], named: Sequence[str]) -> DictConfig:
    """The configuration of one job; its run's name has the values of the keys in ``named``, before the seed if that is
    its end.
    """
    configs, own = split_experiment(configs, overrides)
    cfg = composed(configs, own)
    ending = "-".join(_short(text) for text in own if key_of(text) in named)
    if not ending or any(text.startswith("run_name=") for text in own):
        return cfg
    name = name_of(cfg)
    seed = next((text for text in (f"-s{cfg.seed}", "-s${seed}") if name.endswith(text)), "")
    return composed(configs, [*own, f"run_name={quoted(_fitting(f'{name.removesuffix(seed)}-{ending}', seed))}"])


def name_of(cfg: DictConfig) -> str:
    """The run's name as it is written: with references to the environment, whose values are written nowhere."""
    return str(raw_value(cfg, "run_name"))


def with_study(configs: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The overrides after what the study among the files sweeps, where they do not say otherwise."""
    given = {key_of(text) for text in overrides}
    return [*(f"{key}={value}" for key, value in study_sweep(configs).items() if key not in given), *overrides]


def key_of(text: str) -> str:
    """The key of an override."""
    return text.partition("=")[0].lstrip("+")


def _count(override: Override, text: str) -> float:
    """How many values a swept key has, none of them made."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return len(_values(override, text))
    start, stop, step = value.start or 0, value.stop or 0, value.step
    require(step != 0, f"{text}: its step is zero; give another one")
    count = (stop - start) / step
    require(math.isfinite(count), f"{text}: has no end; give numbers")
    return max(0, math.ceil(count))


def _values(override: Override, text: str) -> list[str]:
    """The overrides of a swept key with one value each."""
    key = text.partition("=")[0]
    require(
        override.is_discrete_sweep(),
        f"{text}: has no list of values; it needs a sweeper that searches, such as hydra/sweeper=optuna",
    )
    value = override.value()
    if isinstance(value, Glob):
        return [f"{key}={name}" for name in value.filter(groups().get(key, []))]
    return [f"{key}={each}" for each in override.sweep_string_iterator()]


def _fitting(name: str, seed: str) -> str:
    """A run's name and its seed as a folder's name: a long one is cut, and keeps a hash of what it was."""
    if len(f"{name}{seed}".encode()) > NAME_BYTES and "${" not in name:
        short = name.encode()[: NAME_BYTES - len(seed) - 11].decode(errors="ignore")
        name = f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
    return name + seed


def _short(text: str) -> str:
    key, value = key_of(text), text.partition("=")[2]
    return f"{key.rsplit('.', 1)[-1]}={value}".replace("/", "_").replace("'", "")
