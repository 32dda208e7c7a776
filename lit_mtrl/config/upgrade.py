"""Saved configurations of earlier versions in their present form; of plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lit_mtrl.config.read import require_bounded
from lit_mtrl.core.errors import require
from lit_mtrl.core.once import warn_once

ADDED: dict[str, dict[str, Any]] = {
    "collector": {"stagger": False, "overlap": False, "policy_device": "auto"},
    "replay": {"_target_": "lit_mtrl.data.replay.PerTaskReplay", "device": "auto"},
    "engine": {"precision": "fp32"},
    "eval": {"background": False},
    "trainer": {"strategy": "auto"},
}
"""Keys that older saved configurations lack, with the values that repeat them."""
CALLBACKS = ("checkpoint", "evaluation", "gradients", "paco_reset", "pictures", "plasticity", "progress")
"""Modules of `lit_mtrl.callbacks` that older configurations name as ``callbacks.<module>``."""
METAWORLD = "lit_mtrl.envs.metaworld.MetaWorld"
ADDED_TO_METAWORLD = {"engine": "native", "threads": 0, "keep_starts": False}
"""The same for its group ``env``; either engine repeats them."""
ENVPOOL = "lit_mtrl.envs.envpool.EnvPool"
"""Meta-World's tasks in another package's environments, which earlier versions could train in."""
MOVED = {
    "lit_mtrl.policies.TanhGaussian": "lit_mtrl.policies.tanh_gaussian.TanhGaussian",
    "lit_mtrl.critics.ScalarCritic": "lit_mtrl.critics.scalar.ScalarCritic",
    "lit_mtrl.logger.MLflowLogger": "lit_mtrl.tracking.mlflow.MLflowLogger",
}
"""Classes that older configurations name where they lay then."""
REGROUPED = (("env", "copies", "collector"), ("env", "stagger", "collector"))
"""Keys that older configurations have in another group: that one, the key, its present group."""
NEEDED = (
    *(
        "seed",
        "frames",
        "epoch_frames",
        "experiment_name",
        "run_name",
        "output_dir",
        "benchmark.name",
        "benchmark.tasks",
    ),
    *("env._target_", "algo._target_", "algo.name", "network._target_", "network.name", "replay._target_"),
    *("collector.steps", "collector.workers", "collector.copies", "collector.stagger", "collector.random_steps"),
    *("collector.updates_per_step", "collector.overlap", "collector.policy_device"),
    *("engine.mode", "engine.precision", "eval._target_", "logger.log_frames"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.threads"),
)
"""What every configuration says."""
SAVED = "the saved configuration"
REMEDY = "restore it, or start from an experiment"


def upgraded(saved: Mapping[Any, Any], where: str = SAVED) -> dict[str, Any]:
    """A saved configuration in its present form; before there was a choice per objective, ``weighting`` had one name.

    `ConfigError`, beginning with ``where``, if it lacks what every configuration says.
    """
    require(isinstance(saved, Mapping), f"{where}: its configuration holds no keys; {REMEDY}")
    require_bounded(saved, where)
    tree = renamed(saved)
    for group, key, place in REGROUPED:
        if all(isinstance(tree.get(name), dict) for name in (group, place)) and key in tree[group]:
            tree[place].setdefault(key, tree[group].pop(key))
    for group, added in ADDED.items():
        if isinstance(tree.get(group), dict):
            tree[group] |= {key: value for key, value in added.items() if key not in tree[group]}
    if isinstance(tree.get("env"), dict) and tree["env"].get("_target_") == METAWORLD:
        tree["env"] |= {key: value for key, value in ADDED_TO_METAWORLD.items() if key not in tree["env"]}
    weighting = tree.get("weighting")
    if isinstance(weighting, dict) and isinstance(weighting.get("name"), str):
        name = weighting.pop("name")
        tree["weighting"] = {k: {**part, "name": name} for k, part in weighting.items() if isinstance(part, dict)}
    for key in (*NEEDED, *_parts(tree, where)):
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        require(value is not None, f"{where}: {key} is missing in its configuration; {REMEDY}")
    return tree


def renamed(tree: Any) -> Any:
    """The configuration with the present names of our classes, where it is from before they were moved."""
    if isinstance(tree, list):
        return [renamed(value) for value in tree]
    if not isinstance(tree, Mapping):
        return tree
    out = {str(key): renamed(value) for key, value in tree.items()}
    top, _, rest = str(out.get("_target_", "")).partition(".")
    if top == "callbacks" and rest.split(".")[0] in CALLBACKS:
        out["_target_"] = f"lit_mtrl.callbacks.{rest}"
    elif str(out.get("_target_")) in MOVED:
        out["_target_"] = MOVED[out["_target_"]]
    elif out.get("_target_") == ENVPOOL:
        warn_once("env=envpool: is no longer there; the official environments are stepped, in compiled code")
        out["_target_"] = METAWORLD
        out.pop("threads", None)  # per task, there
    return out


def _parts(tree: Mapping[str, Any], where: str) -> Iterator[str]:
    """What each weighting, callback and part of the algorithm needs."""
    built = [name for name, part in tree.items() if isinstance(part, dict) and "network" in part]
    yield from (f"{name}.{key}" for name in built for key in ("_target_", "network"))
    for group, keys in ("weighting", ("_target_", "name")), ("callbacks", ("_target_",)):
        parts = tree.get(group)
        require(isinstance(parts, dict), f"{where}: {group} is missing in its configuration; {REMEDY}")
        yield from (f"{group}.{name}.{key}" for name in parts or () for key in keys)
