"""From ``--config`` files and overrides to one checked configuration.

Hydra composes. Around it stand the checks that make a wrong key or value one clear line: every key must exist in the groups that were
chosen, and every value must have the type of the default it replaces.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_mtrl.schema import check_keys, check_types, in_part_network, known_key
from lit_mtrl.spec import ConfigError, require
from lit_mtrl.suggest import nearest, unknown, unknown_key

ROOT_KEYS = {"seed", "frames", "epoch_frames", "experiment_name", "run_name", "output_dir", "algo", "network", "env"}

LATER: dict[str, dict[str, Any]] = {
    "env": {"stagger": False},
    "collector": {"overlap": False, "policy_device": "auto"},
    "replay": {"device": "auto"},
    "engine": {"precision": "fp32"},
    "eval": {"background": False},
    "trainer": {"strategy": "auto"},
}
"""Keys that older saved configurations lack, with the values that repeat them."""
OURS = ("checkpoint", "evaluation", "gradients", "paco_reset", "pictures", "plasticity", "progress")
"""Modules of `lit_mtrl.callbacks` that older configurations name as ``callbacks.<module>``."""


def conf_dir() -> Path:
    """``$LIT_MTRL_CONF``, else ``conf/`` beside the package (a checkout), else the copy inside an installed package."""
    package = Path(__file__).resolve().parent
    named = os.environ.get("LIT_MTRL_CONF")
    places = [Path(named).absolute()] if named else [package.parent / "conf", package / "conf"]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(f"{places[0]}: holds no config.yaml; set LIT_MTRL_CONF to a folder like the repository's conf/")


def groups() -> dict[str, list[str]]:
    """Config groups and their choices."""
    folders = sorted(path for path in conf_dir().iterdir() if path.is_dir())
    return {
        folder.name: sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
        for folder in folders
    }


def compose(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``--config`` files (experiments, or one saved ``config.yaml``) with overrides on top, resolved.

    Raises `ConfigError` on anything that does not exist or does not fit.
    """
    files = [read_config(config) for config in configs]
    saved = [content for _, content in files if content.keys() >= ROOT_KEYS]
    if saved:
        require(
            len(files) == 1, f"--config {configs[0]}: a saved config.yaml is complete; give it alone and override keys"
        )
        return override_saved(DictConfig(saved[0]), overrides)
    with _hydra([path for path, _ in files]) as extra:
        return _compose(extra, overrides)


def composed(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """`compose`, with ``network.match`` replaced by the width it asks for, also where other keys refer to the width."""
    cfg = compose(configs, overrides)
    if all(cfg[part].network.get("match") is None for part in ("actor", "critic")) and cfg.network.get("match") is None:
        return cfg
    from lit_mtrl.match import match_width

    found = match_width(cfg)
    assert found is not None
    width, text = found
    print(text, file=sys.stderr)  # noqa: T201
    return compose(configs, [*overrides, f"network.width={width}", "network.match=null"])


def override_saved(base: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """``base`` (a resolved configuration) with value overrides; groups cannot be exchanged any more."""
    base = DictConfig(upgraded(base))
    cfg = base.copy()
    for override in _parse_single(overrides):
        key = override.key_or_group
        require(
            not (isinstance(override.value(), str) and isinstance(OmegaConf.select(base, key), DictConfig)),
            f"{key}: a saved config.yaml is resolved, its groups cannot be exchanged; override values, or start from an experiment",
        )
        OmegaConf.update(cfg, known_key(override, base), override.value(), merge=True, force_add=True)
    check_types(cfg, base)
    names = (base.experiment_name, base.run_name), (cfg.experiment_name, cfg.run_name)
    if names[0] != names[1] and cfg.output_dir == base.output_dir:
        cfg.output_dir = str(cfg.output_dir).replace("/".join(names[0]), "/".join(names[1]))
    return cfg


def upgraded(saved: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A saved configuration in its present form, with `LATER` keys and `renamed` classes; before there was a choice per objective, ``weighting`` had one name."""
    lacking = {
        group: {k: v for k, v in later.items() if k not in saved.get(group, {})} for group, later in LATER.items()
    }
    saved = renamed(saved)
    saved = {**saved, **{group: {**saved[group], **more} for group, more in lacking.items() if group in saved and more}}
    weighting = saved.get("weighting", {})
    name = weighting.get("name")
    if not isinstance(name, str):
        return saved
    return {**saved, "weighting": {k: {**part, "name": name} for k, part in weighting.items() if k != "name"}}


def renamed(tree: Any) -> Any:
    """The configuration with the present names of our callbacks, where it is from before they were in the package."""
    if isinstance(tree, list):
        return [renamed(value) for value in tree]
    if not isinstance(tree, Mapping):
        return tree
    out = {key: renamed(value) for key, value in tree.items()}
    top, _, rest = str(out.get("_target_", "")).partition(".")
    if top == "callbacks" and rest.split(".")[0] in OURS:
        out["_target_"] = f"lit_mtrl.callbacks.{rest}"
    return out


def _compose(given: list[str], overrides: Sequence[str]) -> DictConfig:
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
                require(name is None or name in chosen[key], unknown(key, name, chosen[key]))
            choices.append(text)
        else:
            values.append((override, text))
    try:
        structure = hydra_compose("config", choices, return_hydra_config=True)
        final_choices = {
            k: v for k, v in structure.hydra.runtime.choices.items() if k.split("@")[0] in chosen and k != "experiment"
        }
        schema = hydra_compose("config", [f"{k}={v}" for k, v in final_choices.items()])
        check_keys(structure, schema, exchanged)
        texts = []
        for override, text in values:
            # An experiment may add callbacks that no group knows.
            own = override.key_or_group.startswith("callbacks.")
            known_key(override, structure if own else schema)
            texts.append(f"++{text.lstrip('+')}" if in_part_network(override.key_or_group) else text)
        cfg = hydra_compose("config", [*choices, *texts])
        check_types(cfg, schema)
        return DictConfig(renamed(OmegaConf.to_container(cfg, resolve=True)))
    except HydraException as error:
        raise ConfigError(_first_line(error)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {_first_line(error)}") from error


def _choose_weightings(given: list[str], overrides: Sequence[str], choices: list[str]) -> list[str]:
    """Hydra's own form of ``weighting=X``, for all objectives, and of ``weighting.<objective>=X``."""
    texts: list[str] = []
    for override, text in zip(parse_overrides(overrides), overrides, strict=True):
        key, _, objective = override.key_or_group.partition(".")
        value: Any = override.value()
        if key != "weighting" or "." in objective or override.package or isinstance(value, dict):
            texts.append(text)
            continue
        objectives = [str(name) for name in hydra_compose("config", given).weighting]
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
        require("=" in text or text.startswith("~"), f"{text}: not understood; overrides are written key=value")
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"override: {_first_line(error)}") from error


def _parse_single(overrides: Sequence[str]) -> list[Override]:
    parsed = parse_overrides(overrides)
    for override, text in zip(parsed, overrides, strict=True):
        require(not override.is_sweep_override(), f"{text}: several values; add --multirun, or write a list as [a,b]")
    return parsed


def read_config(config: str) -> tuple[Path, dict[str, Any]]:
    """Path and content of a ``--config`` argument: a file, or the bare name of an experiment."""
    folder = conf_dir() / "experiment"
    names = groups()["experiment"]
    path = Path(config)
    if not path.suffix and not path.exists():
        require(config in names, unknown("--config", config, names))
        path = folder / f"{config}.yaml"
    near = nearest(path.stem, names)
    require(
        path.is_file(),
        f"--config {config}: no such file" + (f"; did you mean the experiment '{near}'?" if near else ""),
    )
    try:
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict):
            content = OmegaConf.to_container(OmegaConf.load(path))  # reads 1e-3 as a number, which YAML 1.1 does not
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"--config {config}: not readable as YAML: {_first_line(error)}") from error
    require(content not in (None, {}), f"--config {config}: is empty; start from a file of conf/experiment")
    if not isinstance(content, dict):
        raise ConfigError(f"--config {config}: must hold a mapping of keys, like the files in conf/experiment")
    return path.resolve(), {str(k): v for k, v in content.items()}


@contextmanager
def _hydra(paths: list[Path]) -> Iterator[list[str]]:
    """Hydra set up on ``conf/``; yields the overrides that select the experiment files ``paths``, in order.

    Files from elsewhere are put on Hydra's search path through a temporary folder.
    """
    folder = conf_dir() / "experiment"
    with tempfile.TemporaryDirectory(prefix="lit_mtrl-conf-") as temporary:
        names, outside = [], Path(temporary) / "experiment"
        for i, path in enumerate(paths):
            if path.is_relative_to(folder.resolve()):
                names.append(path.relative_to(folder.resolve()).with_suffix("").as_posix())
            else:
                outside.mkdir(exist_ok=True)
                names.append(f"{path.stem}_{i}")
                (outside / f"{names[-1]}.yaml").write_text("# @package _global_\n" + path.read_text())
        extra = [f"hydra.searchpath=[file://{temporary}]"] if outside.exists() else []
        if names:
            extra.append(f"experiment=[{','.join(names)}]")
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield extra


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
