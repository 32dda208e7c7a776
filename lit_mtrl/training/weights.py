"""What a checkpoint must hold before anything is built or continued from it: the agent's part, and weights that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_mtrl.core.errors import require

PARTS = {"frames": (int, "a whole number"), "tasks": (list, "a list of names"), "config": (dict, "a mapping")}
"""Keys of the agent's part that `saved_part` asks for, with their types, in Python and in words."""
TRAINING = {
    **{"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "DataModule": dict},
    **{"epoch": int, "global_step": int, "pytorch-lightning_version": str},
}
"""What Lightning has put beside the weights; without some of it, it would go on in silence, from another place."""
PROGRESS = {"updates": int, "recent": list}
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of Adam."""
REMEDY = "use one that fit has written"
PREFIX = "algorithm."
"""Of the algorithm's weights among those of the agent."""


def saved_part(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The agent's part of a checkpoint, ``frames``, ``tasks``, ``config`` and more; `ConfigError`, beginning with
    ``where``, if it lacks one.
    """
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
    """`ConfigError`, beginning with ``where``, unless ``state`` has a tensor of the right shape for every weight of
    ``module``, and no more.
    """
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


def require_continuable(agent: Any, checkpoint: Mapping[str, Any], where: str) -> None:
    """`ConfigError` as `require_fit`, and unless all is there that training goes on from, Adam's moments in the right
    shapes.

    Fused Adam reads and writes beside moments of other shapes.
    """
    require_fit(agent, checkpoint.get("state_dict"), where)
    for names, content in ((TRAINING, checkpoint), (PROGRESS, checkpoint["lit_mtrl"])):
        lacking = [name for name, kind in names.items() if not isinstance(content.get(name), kind)]
        require(not lacking, f"{where}: holds no {', '.join(lacking)}; {REMEDY}")
    pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in checkpoint["lit_mtrl"]["recent"])
    require(pairs, f"{where}: its 'recent' are not pairs of success and return; {REMEDY}")
    optimizers = [objective.optimizer(objective.params) for objective in agent.algorithm.objectives()]
    learning = [weighting.optimizer() for weighting in agent.weightings.values()]
    optimizers += [optimizer for optimizer in learning if optimizer is not None]
    states = checkpoint["optimizer_states"]
    require(
        len(states) == len(optimizers) and all(map(_is_of, states, optimizers)),
        f"{where}: the state of its optimizers does not fit its configuration; {REMEDY}",
    )


def _is_of(state: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is a state of such an optimizer as ``optimizer``, before or after its first step."""
    params = optimizer.param_groups[0]["params"]
    moments = MOMENTS if isinstance(optimizer, torch.optim.Adam) else ()
    if not isinstance(state, Mapping) or not isinstance(state.get("state"), Mapping):
        return False
    groups, found = state.get("param_groups"), state["state"]
    one = isinstance(groups, list) and len(groups) == 1 and isinstance(groups[0], Mapping)
    if not one or groups[0].get("params") != list(range(len(params))):  # pyright: ignore[reportOptionalSubscript]
        return False
    if set(found) not in (set(), set(range(len(params)))) or not all(
        isinstance(each, Mapping) for each in found.values()
    ):
        return False
    return all(
        isinstance(each.get(key), Tensor) and each[key].shape == params[i].shape and each[key].dtype == params[i].dtype
        for i, each in found.items()
        for key in moments
    )


def _shown(shapes: Mapping[str, Any], key: str) -> str:
    return "no tensor" if shapes.get(key) is None else "x".join(map(str, shapes[key])) or "one number"
