"""``network.match``: the width at which a network's actor has as many parameters as asked for.

PyTorch is imported only where a width is asked for, so that other configurations are composed at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from lit_mtrl.config.check import parts_in
from lit_mtrl.config.compose import compose
from lit_mtrl.config.folders import file_of, groups
from lit_mtrl.core.errors import ConfigError, require
from lit_mtrl.core.suggest import unknown

if TYPE_CHECKING:
    from lit_mtrl.envs.base import Suite

LARGEST = 2**20


def composed(configs: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """`compose`, with ``network.match`` replaced by the width it asks for, also where other keys refer to the width."""
    cfg = compose(configs, overrides)
    if all(cfg[part].network.get("match") is None for part in parts_in(cfg)) and cfg.network.get("match") is None:
        return cfg
    matched = match_width(cfg)
    assert matched is not None
    width, text = matched
    print(text, file=sys.stderr)  # noqa: T201
    return compose(configs, [*overrides, f"network.width={width}", "network.match=null"])


def match_width(cfg: DictConfig) -> tuple[int, str] | None:
    """The width that ``network.match`` in ``cfg`` asks for, and a line that says so; None if it asks for nothing.

    The value is a number of actor parameters, or a network of ``conf/network``, whose actor is counted with its own
    defaults. The width is the largest whose count is not above that. Actor and critics both get it, as in McLean et al.
    (2025).

    Raises `ConfigError` if there is no such width.
    """
    for part in parts_in(cfg):
        require("match" not in cfg[part].network, f"{part}.network.match: match sizes both; set network.match")
    target = cfg.network.get("match")
    if target is None:
        return None
    needed = (
        f"network.match={target}: {cfg.network._target_} has no argument 'width' to choose; name one so in its yaml"
    )
    require("width" in cfg.network, needed)
    sized = sized_part(cfg)
    require(
        "width" not in cfg[sized].network,
        f"network.match: chooses the {sized}'s width; leave {sized}.network.width away",
    )
    from lit_mtrl.runs.build import build_suite

    suite = build_suite(cfg)
    goal = _goal(cfg, suite, target)
    low, high = 0, 1  # the answer lies in [low, high)
    while (count := _count(cfg, suite, high)) is None or count <= goal:
        low, high = high, 2 * high
        require(high <= LARGEST, f"network.match={target}: no width of {cfg.network.name} has so many parameters")
    while high - low > 1:
        middle = (low + high) // 2
        count = _count(cfg, suite, middle)
        low, high = (middle, high) if count is None or count <= goal else (low, middle)
    count = _count(cfg, suite, low) if low else None
    if count is None:
        smallest = next(n for n in (_count(cfg, suite, width) for width in range(1, LARGEST)) if n is not None)
        raise ConfigError(
            f"network.match={target}: {goal:,} parameters are fewer than the smallest {cfg.network.name} has;"
            f" ask for {smallest:,} or more"
        )
    return low, f"network.match={target}: network.width={low}, {count:,} {sized} parameters for {goal:,}"


def sized_part(cfg: DictConfig) -> str:
    """The part of the algorithm whose parameters are counted: the first that it names, as a rule its actor."""
    from lit_mtrl.runs.build import algorithm_class

    return algorithm_class(cfg).parts[0]


def _goal(cfg: DictConfig, suite: Suite, target: object) -> int:
    if isinstance(target, str):
        names = groups()["network"]
        require(target in names, unknown("network.match", target, names) + ", or a number of parameters")
        other = OmegaConf.load(file_of("network", target))
        part = sized_part(cfg)
        plain = OmegaConf.create({**cfg[part], "network": {}})  # the other's defaults, not what this part changes
        return _count(DictConfig({"algo": cfg.algo, "network": other, part: plain}), suite, None) or 0
    whole = isinstance(target, int | float) and not isinstance(target, bool) and target % 1 == 0 and target > 0
    require(whole, f"network.match={target}: give a number of parameters, such as 691_022, or a network's name")
    return int(target)  # pyright: ignore[reportArgumentType]


def _count(cfg: DictConfig, suite: Suite, width: int | None) -> int | None:
    """Parameters of what is sized at ``width``; None if the network cannot have that width."""
    import torch

    from lit_mtrl.nets.base import param_count
    from lit_mtrl.runs.build import build_part

    part, network = sized_part(cfg), cfg.network.copy()
    network.match = None
    if width is not None:
        network.width = width
    try:
        with torch.device("meta"):
            cut = DictConfig({"algo": cfg.algo, part: cfg[part], "network": network})
            return param_count(build_part(cut, part, suite))
    except ConfigError:
        if width is None or width >= LARGEST // 2:
            raise
        return None
