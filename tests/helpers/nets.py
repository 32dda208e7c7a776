"""Every network of ``conf/network``, small, and the variants of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from hydra.utils import get_object
from torch import nn

from tests.helpers.project import ROOT

Case = tuple[str, dict[str, Any]]
"""A network's name and options."""
T, B, IN, OUT = 4, 3, 6, 5
VARIANTS: list[Case] = [
    ("mlp", {"skip": True, "layer_norm": True}),
    ("multi_head", {"skip": True, "layer_norm": True}),
    ("mlp", {"task_input": "embedding", "embedding_size": 5}),
    ("multi_head", {"task_input": "embedding", "embedding_size": 5}),
    ("soft_modules", {"variant": "paper"}),
    ("soft_modules", {"variant": "paper", "depth": 4, "modules": 3}),
    ("soft_modules", {"depth": 4, "modules": 3}),
    ("soft_modules", {"depth": 1}),
    ("paco", {"variant": "mclean"}),
    ("paco", {"composition": "output"}),
    ("paco", {"composition": "none"}),
    ("paco", {"parameter_sets": T, "init": "one_hot", "variant": "mclean"}),
    ("moore", {"heads": "single"}),
    ("moore", {"init": "official"}),
    ("care", {"heads": "multi"}),
    ("care", {"context": "metadata", "tasks": ["reach", "push", "pick-place", "door-open"]}),
    ("film", {"modulation": "feature", "one_plus": True}),
]
ONE_EACH: list[Case] = [(path.stem, {}) for path in sorted((ROOT / "conf" / "network").glob("*.yaml"))]
CASES = ONE_EACH + VARIANTS


def name_of(case: Case) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items() if key != "tasks")])


def maker(name: str, options: dict[str, Any]) -> Callable[..., nn.Module]:
    path = ROOT / "conf" / "network" / f"{name}.yaml"
    values = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "name"}
    target = get_object(values.pop("_target_"))
    sizes = {"in_dim": IN, "out_dim": OUT, "num_tasks": T, "head_bound": 0.5, "width": 16, "depth": 2}
    return lambda **more: target(**{**values, **sizes, **options, **more})
