"""What a checkpoint must hold before anything is built or continued from it: the agent's part, and weights that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lit_mtrl.spec import require

PARTS = {"frames": (int, "a whole number"), "tasks": (list, "a list of names"), "config": (dict, "a mapping")}
"""Keys of the agent's part that `saved_part` asks for, with their types, in Python and in words."""
REMEDY = "use one that fit has written"
PREFIX = "algorithm."
"""Of the algorithm's weights among those of the agent."""


def saved_part(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The agent's part of a checkpoint, ``frames``, ``tasks``, ``config`` and more; `ConfigError`, beginning with ``where``, if it lacks one."""
    part = checkpoint["lit_mtrl"]
    require(isinstance(part, dict), f"{where}: its 'lit_mtrl' holds no keys; {REMEDY}")
    for key, (kind, words) in PARTS.items():
        fits = isinstance(part.get(key), kind) and not isinstance(part[key], bool)
        require(fits, f"{where}: its '{key}' is not {words}; {REMEDY}")
    require(part["frames"] >= 0, f"{where}: its 'frames' are negative; {REMEDY}")
    named = all(isinstance(name, str) for name in part["tasks"]) and len(part["tasks"]) > 0
    require(named and len(set(part["tasks"])) == len(part["tasks"]), f"{where}: its 'tasks' are no names; {REMEDY}")
    return part


def require_fit(module: nn.Module, state: Any, where: str) -> None:
    """`ConfigError`, beginning with ``where``, unless ``state`` has a tensor of the right shape for every weight of ``module``, and no more."""
    require(isinstance(state, Mapping), f"{where}: holds no weights; {REMEDY}")
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    there = {key: tuple(value.shape) if isinstance(value, Tensor) else None for key, value in state.items()}
    differ = [str(key) for key in {**wanted, **there} if wanted.get(key) != there.get(key)]
    if differ:
        first = differ[0]
        shown = f"{_shown(there, first)} there, {_shown(wanted, first)} by its configuration"
        more = f", and {len(differ) - 1} more" if len(differ) > 1 else ""
        require(False, f"{where}: weights do not fit its configuration: {first} ({shown}){more}; {REMEDY}")


def load_algorithm(algorithm: nn.Module, checkpoint: Mapping[str, Any], where: str) -> None:
    """Give an algorithm the weights of a checkpoint; `ConfigError` as `require_fit`."""
    state = checkpoint.get("state_dict")
    require(isinstance(state, Mapping), f"{where}: holds no weights; {REMEDY}")
    assert isinstance(state, Mapping)
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if str(key).startswith(PREFIX)}
    require_fit(algorithm, own, where)
    algorithm.load_state_dict(own)


def _shown(shapes: Mapping[str, Any], key: str) -> str:
    return "no tensor" if shapes.get(key) is None else "x".join(map(str, shapes[key])) or "one number"
