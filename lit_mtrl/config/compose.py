"""From ``--config`` files and overrides to one checked configuration.

Hydra composes. Around it stand the checks that make a wrong key or value one clear line: every key must exist in the
groups that were chosen, and every value must have the type of the default it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.config.check import check_keys, check_values, in_part_network, known_key
from lit_mtrl.config.files import ConfigFile, conf_state, read_config
from lit_mtrl.config.folders import conf_dir, config_dirs, groups, here, make_importable, own_places
from lit_mtrl.config.overrides import parse_overrides, parse_single
from lit_mtrl.config.resolve import as_written, resolved
from lit_mtrl.config.saved import is_saved, override_saved
from lit_mtrl.config.search_path import search_added_folders
from lit_mtrl.config.trust import require_trusted
from lit_mtrl.config.upgrade import renamed
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import nearest, unknown, unknown_key
from lit_mtrl.core.text import first_line, shown


def compose(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``--config`` files (experiments, or one saved ``config.yaml``) with overrides on top,
    resolved.

    Raises `ConfigError` on anything that does not exist or does not fit.
    """
    files = [read_config(config) for config in configs]
    saved = [file.content for file in files if is_saved(file.content)]
    try:
        if saved:
            require(
                len(files) == 1,
                f"--config {configs[0]}: a saved config.yaml is complete; give it alone and override keys",
            )
            return override_saved(saved[0], overrides, f"--config {shown(configs[0])}")
        make_importable([*own_places(), *(file.path.parent for file in files)])
        return _compose(tuple(files), overrides)
    except RecursionError as error:
        raise ConfigError(
            f"{' '.join([*configs, *overrides])[:200]}: values lie in each other too deep, or refer to themselves"
        ) from error
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).partition("/")
        near = nearest(name, groups().get(group, ()))
        remedy = f"did you mean '{near}'?" if near else "a folder of your own is added by --config-dir"
        raise ConfigError(f"{first_line(error).removesuffix('.')}; {remedy}") from error
    except yaml.YAMLError as error:
        raise ConfigError(_unreadable(error)) from error
    except HydraException as error:
        raise ConfigError(first_line(error)) from error
    except OmegaConfBaseException as error:
        unnamed = re.search(r"Interpolation key '(\w+)\.name' not found", str(error))
        if unnamed:
            said = f"{unnamed[1]}: the file that is chosen has no 'name', which run_name is made of; give it one"
            raise ConfigError(said) from error
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from error


def _unreadable(error: yaml.YAMLError) -> str:
    """Where in which file, and why."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"not readable as YAML: {first_line(error)}"
    return f"{mark.name}:{mark.line + 1}: not readable as YAML: {getattr(error, 'problem', None) or first_line(error)}"


def _compose(files: tuple[ConfigFile, ...], overrides: Sequence[str]) -> DictConfig:
    """The configuration of experiments with overrides: choices of groups first, then values."""
    exchanged = [o.key_or_group for o in parse_single(overrides) if isinstance(o.value(), str)]
    choices, values = _choices_and_values(_choose_weightings(files, overrides))
    chosen = _chosen(conf_state(), files, choices)
    folders = [file.path.parent for file in files]
    require_trusted(as_written(chosen.schema), folders=folders)
    deleted = [override.key_or_group for override in values if override.is_delete()]
    check_keys(chosen.config, chosen.schema, exchanged, deleted)
    for override in values:
        known_key(override, chosen.schema)
    cfg = chosen.config.copy()
    ConfigLoaderImpl._apply_overrides_to_config([_addable(override) for override in values], cfg)  # as Hydra does last
    cfg = resolved(DictConfig(renamed(as_written(cfg))))
    require_trusted(as_written(cfg), folders=folders)
    check_values(cfg, chosen.schema)
    return cfg


class Chosen(NamedTuple):
    """What files and choices of groups compose, before overrides give values; not to be changed."""

    config: DictConfig
    schema: DictConfig
    """The same groups without the files, but for callbacks that these add whole."""


@lru_cache(maxsize=32)
def _chosen(state: object, files: tuple[ConfigFile, ...], choices: tuple[str, ...]) -> Chosen:
    """Composed once as long as the folders are in the same ``state``: the jobs of a study differ in values, mostly."""
    known = groups()
    with _hydra(files) as given:
        config = hydra_compose("config", [*given, *choices], return_hydra_config=True)
        made = {k: v for k, v in config.hydra.runtime.choices.items() if k.split("@")[0] in known and k != "experiment"}
        made["callbacks"] = f"[{','.join(_chosen_callbacks([*given, *choices]))}]"
        schema = hydra_compose("config", [f"{group}={choice}" for group, choice in made.items()])
        _match_callbacks(config, schema, known["callbacks"])
    with open_dict(config):
        del config["hydra"]
    return Chosen(config, schema)


def _chosen_callbacks(overrides: list[str]) -> list[str]:
    """The files of ``callbacks`` that are chosen, in their order: Hydra's record of choices leaves lists out."""
    files = GlobalHydra.instance().config_loader().compute_defaults_list("config", overrides, RunMode.RUN).defaults
    paths = [str(file.config_path) for file in files]
    return [path.removeprefix("callbacks/") for path in paths if path.startswith("callbacks/")]


def _match_callbacks(config: DictConfig, schema: DictConfig, names: Sequence[str]) -> None:
    """What ``config`` says beyond ``schema`` of callbacks that are not chosen: one with a class of its own is added;
    values alone, of one that a file of the group has, go, and others stay to be refused.

    ``names``: of all files of the group.
    """
    said = config.callbacks if isinstance(config.callbacks, DictConfig) else DictConfig({})
    more = [key for key, part in said.items() if key not in schema.callbacks and isinstance(part, DictConfig)]
    known = hydra_compose("config", [f"callbacks=[{','.join(names)}]"]).callbacks if more else {}
    with open_dict(config), open_dict(schema):
        for key in more:
            if "_target_" in said[key]:
                schema.callbacks[key] = renamed(as_written(said[key]))
            elif key in known:
                del said[key]


def _choices_and_values(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
    """Overrides that choose files of groups (or mean Hydra itself), and those that give values."""
    known = groups()
    choices, values = [], []
    for override, text in zip(parse_overrides(overrides), overrides, strict=True):
        key, value = override.key_or_group, override.value()
        if key.startswith("hydra."):
            choices.append(text)
        elif override.is_add() and "/" in key:
            choices.append(text)
        elif key in known and not isinstance(value, dict):
            for name in value if isinstance(value, list) else [value]:
                require(
                    name in known[key] or (name is None and key == "experiment"),
                    unknown(key, shown(name), known[key]) + here(f"{key}/{name}"),
                )
            choices.append(text)
        else:
            values.append(override)
    return tuple(choices), values


def _addable(override: Override) -> Override:
    """The override, which adds its key if that is one of ``actor.network`` or ``critic.network``, which may be
    empty.
    """
    if not in_part_network(override.key_or_group) or override.is_delete():
        return override
    return parse_overrides([f"++{str(override.input_line).lstrip('+')}"])[0]


def _choose_weightings(files: tuple[ConfigFile, ...], overrides: Sequence[str]) -> list[str]:
    """Hydra's own form of ``weighting=X``, for all objectives, and of ``weighting.<objective>=X``."""
    texts: list[str] = []
    algorithm = tuple(text for text in overrides if text.startswith("algo="))
    for override, text in zip(parse_overrides(overrides), overrides, strict=True):
        key, _, objective = override.key_or_group.partition(".")
        value: Any = override.value()
        if key != "weighting" or "." in objective or override.package or isinstance(value, dict):
            texts.append(text)
            continue
        objectives = [str(name) for name in _chosen(conf_state(), files, algorithm).config.weighting]
        require(
            objective in ("", *objectives),
            unknown_key(f"weighting.{objective}", [f"weighting.{o}" for o in objectives]),
        )
        choices = groups()["weighting"]
        require(value in choices, unknown(override.key_or_group, value, choices))
        texts += [f"weighting@weighting.{o}={value}" for o in ([objective] if objective else objectives)]
    return texts


@contextmanager
def _hydra(files: Sequence[ConfigFile]) -> Iterator[list[str]]:
    """Hydra set up on the folders of configurations; yields the overrides that select the experiment ``files``, in
    order.

    They are given to Hydra by their content, under names of ours: those of files may hold what means something in
    overrides.
    """
    folders, names = [(folder / "experiment").resolve() for folder in config_dirs()], []
    for i, file in enumerate(files):
        # Below the folder in which it lies, so that what it names in its defaults is found from there.
        place = file.path.parent
        inside = next((place.relative_to(each).parts for each in folders if place.is_relative_to(each)), ())
        group = "/".join(("experiment", *inside))
        ConfigStore.instance().store(
            f"given_{i}", file.content, group=group, package="_global_", provider=file.path.name
        )
        names.append("/".join((*inside, f"given_{i}")))
    search_added_folders()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield [f"experiment=[{','.join(names)}]"] if names else []
