"""From ``--config`` files and overrides to one checked configuration.

Hydra composes. Around it stand the checks that make a wrong key or value one clear line: every key must exist in the
groups that were chosen, and every value must have the type of the default it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.config.check import check_keys, check_values, in_part_network, known_key
from lit_mtrl.config.folders import conf_dir, config_dirs, file_of, groups, make_importable, own_places
from lit_mtrl.config.keys import kind_of
from lit_mtrl.config.kinds import Text
from lit_mtrl.config.read import read_yaml
from lit_mtrl.config.resolve import as_written, leaves, raw_value, resolved
from lit_mtrl.config.search_path import search_added_folders
from lit_mtrl.config.trust import require_trusted
from lit_mtrl.config.upgrade import SAVED, renamed, upgraded
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import nearest, unknown, unknown_key
from lit_mtrl.core.tables import flat
from lit_mtrl.core.text import shown

ROOT_KEYS = {"seed", "frames", "epoch_frames", "experiment_name", "run_name", "output_dir", "algo", "network", "env"}
LOOKS_UP = re.compile(r"\$\{[^}]*(:|\$\{)")
"""A resolver; its name may itself be looked up."""


def compose(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``--config`` files (experiments, or one saved ``config.yaml``) with overrides on top,
    resolved.

    Raises `ConfigError` on anything that does not exist or does not fit.
    """
    files = [read_config(config) for config in configs]
    saved = [content for _, content in files if is_saved(content)]
    try:
        if saved:
            require(
                len(files) == 1,
                f"--config {configs[0]}: a saved config.yaml is complete; give it alone and override keys",
            )
            return override_saved(saved[0], overrides, f"--config {shown(configs[0])}")
        folders = [path.parent for path, _ in files]
        make_importable([*own_places(), *folders])
        with _hydra(files) as chosen:
            return _compose(chosen, overrides, folders)
    except RecursionError as error:
        raise ConfigError(
            f"{' '.join([*configs, *overrides])[:200]}: values lie in each other too deep, or refer to themselves"
        ) from error


def is_saved(content: Mapping[str, Any]) -> bool:
    """Whether it is the whole configuration of a run, which may be somebody else's, and no experiment."""
    return content.keys() >= ROOT_KEYS


def override_saved(saved: Mapping[Any, Any], overrides: Sequence[str], where: str = SAVED) -> DictConfig:
    """A saved configuration with value overrides; it is resolved, so its groups cannot be exchanged any more.

    It may be somebody else's. So it names no classes but ours and those of trusted packages (`lit_mtrl.config.trust`),
    and looks nothing up outside itself; overrides may.
    """
    parsed = _parse_single(overrides)
    base = DictConfig(upgraded(as_written(saved) if isinstance(saved, DictConfig) else saved, where))
    cfg = base.copy()
    try:
        for override in parsed:
            key = override.key_or_group
            require(
                not (isinstance(override.value(), str) and isinstance(raw_value(base, key), dict)),
                f"{key}: a saved config.yaml is resolved, its groups cannot be exchanged; override values, or start from an experiment",
            )
            OmegaConf.update(cfg, known_key(override, base), override.value(), merge=True, force_add=True)
        given = [key for override in parsed for key in flat(override.value(), f"{override.key_or_group}.")]
        own = {key for key in leaves(cfg) if any(f"{key}.".startswith(f"{mine}.") for mine in given)}
        for key in leaves(cfg):
            raw = None if key in own else raw_value(cfg, key)
            looked_up = None if isinstance(raw, dict) else LOOKS_UP.search(str(raw))
            require(
                looked_up is None,
                f"{key}={shown(raw)}: a saved configuration looks nothing up outside itself; give the value: {key}=...",
            )
        cfg = resolved(cfg)
        require_trusted(as_written(cfg), own)
        check_values(cfg, base)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {_first_line(error)}") from error
    names = (base.experiment_name, base.run_name), (cfg.experiment_name, cfg.run_name)
    if names[0] != names[1] and cfg.output_dir == base.output_dir:
        cfg.output_dir = str(cfg.output_dir).replace("/".join(names[0]), "/".join(names[1]))
    return cfg


def _compose(given: list[str], overrides: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    chosen = groups()
    exchanged = [o.key_or_group for o in _parse_single(overrides) if isinstance(o.value(), str)]
    try:
        overrides = [*given, *_choose_weightings(given, overrides, chosen["weighting"])]
    except HydraException as error:
        raise ConfigError(_first_line(error)) from error
    parsed = parse_overrides(overrides)
    values, choices = [], []
    for override, text in zip(parsed, overrides, strict=True):
        key = override.key_or_group
        if key.startswith("hydra."):
            choices.append(text)
        elif key in chosen and not isinstance(override.value(), dict):
            value: Any = override.value()
            names = value if isinstance(value, list) else [value]
            for name in names if text not in given else []:
                require(
                    name in chosen[key] or (name is None and key == "experiment"),
                    unknown(key, shown(name), chosen[key]),
                )
            choices.append(text)
        else:
            values.append((override, text))
    try:
        structure = hydra_compose("config", choices, return_hydra_config=True)
        final_choices = {
            k: v for k, v in structure.hydra.runtime.choices.items() if k.split("@")[0] in chosen and k != "experiment"
        }
        schema = hydra_compose("config", [f"{k}={v}" for k, v in final_choices.items()])
        require_trusted(as_written(schema), folders=folders)
        check_keys(structure, schema, exchanged)
        texts = []
        for override, text in values:
            # An experiment may add callbacks that no group knows.
            own = override.key_or_group.startswith("callbacks.")
            known_key(override, structure if own else schema)
            texts.append(f"++{text.lstrip('+')}" if in_part_network(override.key_or_group) else text)
        cfg = resolved(DictConfig(renamed(as_written(hydra_compose("config", [*choices, *texts])))))
        require_trusted(as_written(cfg), folders=folders)
        check_values(cfg, schema)
        return cfg
    except HydraException as error:
        raise ConfigError(_first_line(error)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {_first_line(error)}") from error


def _choose_weightings(given: list[str], overrides: Sequence[str], choices: list[str]) -> list[str]:
    """Hydra's own form of ``weighting=X``, for all objectives, and of ``weighting.<objective>=X``."""
    texts: list[str] = []
    algorithm = [text for text in overrides if text.startswith("algo=")]
    for override, text in zip(parse_overrides(overrides), overrides, strict=True):
        key, _, objective = override.key_or_group.partition(".")
        value: Any = override.value()
        if key != "weighting" or "." in objective or override.package or isinstance(value, dict):
            texts.append(text)
            continue
        objectives = [str(name) for name in hydra_compose("config", [*given, *algorithm]).weighting]
        require(
            objective in ("", *objectives),
            unknown_key(f"weighting.{objective}", [f"weighting.{o}" for o in objectives]),
        )
        require(value in choices, unknown(override.key_or_group, value, choices))
        texts += [f"weighting@weighting.{o}={value}" for o in ([objective] if objective else objectives)]
    return texts


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's understanding of each; `ConfigError` for what is none."""
    for text in overrides:
        written = ("=" in text and not text.startswith("=")) or text.startswith("~")
        require(written, f"{text}: not understood; overrides are written key=value")
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"override: {_first_line(error)}") from error


def quote_texts(overrides: Sequence[str]) -> list[str]:
    """The overrides with quotes around what Hydra's grammar does not take where text is meant, such as
    ``output_dir=~/runs``.
    """
    out = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if separator and isinstance(kind_of(key.lstrip("+")), Text) and value[:1] not in ("'", '"'):
            try:
                OverridesParser.create().parse_override(text)
            except HydraException:
                text = f"{key}={quoted(value)}"
        out.append(text)
    return out


def quoted(text: str) -> str:
    """The text as Hydra's grammar has it in quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def _parse_single(overrides: Sequence[str]) -> list[Override]:
    parsed = parse_overrides(overrides)
    for override, text in zip(parsed, overrides, strict=True):
        require(not override.is_sweep_override(), f"{text}: several values; add --multirun, or write a list as [a,b]")
    return parsed


def read_config(config: str) -> tuple[Path, dict[str, Any]]:
    """Path and content of a ``--config`` argument: a file, or the bare name of an experiment."""
    names = groups()["experiment"]
    path = Path(config)
    if config in names:
        path = file_of("experiment", config)
    else:
        near = nearest(path.stem, names)
        hint = f"; did you mean the experiment '{near}'?" if near else ""
        require(bool(path.suffix) or path.is_file(), unknown("--config", shown(config), names))
        require(path.is_file(), f"--config {shown(config)}: no such file{hint}")
    text, content = read_yaml(path, f"--config {shown(config)}")
    require(content not in (None, {}), f"--config {shown(config)}: is empty; start from a file of conf/experiment")
    if not isinstance(content, dict):
        raise ConfigError(f"--config {shown(config)}: must hold a mapping of keys, like the files in conf/experiment")
    try:
        content = OmegaConf.to_container(OmegaConf.create(text))  # reads 1e-3 as a number, which YAML 1.1 does not
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"--config {shown(config)}: not readable as YAML: {_first_line(error)}") from error
    assert isinstance(content, dict)
    whole = isinstance(content.get("defaults", []), list)
    require(whole, f"--config {shown(config)}: defaults: must be a list, like those in conf/experiment")
    return path.resolve(), {str(k): v for k, v in content.items()}


@contextmanager
def _hydra(files: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[list[str]]:
    """Hydra set up on the folders of configurations; yields the overrides that select the experiment ``files``, in order.

    They are given to Hydra by their content, under names of ours: those of files may hold what means something in
    overrides.
    """
    folders, names = [(folder / "experiment").resolve() for folder in config_dirs()], []
    for i, (path, content) in enumerate(files):
        # Below the folder in which it lies, so that what it names in its defaults is found from there.
        inside = next((path.parent.relative_to(each).parts for each in folders if path.is_relative_to(each)), ())
        group = "/".join(("experiment", *inside))
        ConfigStore.instance().store(f"given_{i}", content, group=group, package="_global_", provider=path.name)
        names.append("/".join((*inside, f"given_{i}")))
    search_added_folders()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield [f"experiment=[{','.join(names)}]"] if names else []


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
