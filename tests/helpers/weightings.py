"""Every weighting of ``conf/weighting``."""

from __future__ import annotations

import yaml
from hydra.utils import get_object

from lit_mtrl.weighting.base import Weighting
from tests.helpers.project import ROOT

WEIGHTINGS = sorted(path.stem for path in (ROOT / "conf" / "weighting").glob("*.yaml"))


def make_weighting(name: str, tasks: int, **options: object) -> Weighting:
    values = yaml.safe_load((ROOT / "conf" / "weighting" / f"{name}.yaml").read_text())
    values = {k: v for k, v in values.items() if k != "name"} | ({"seed": 3} if "seed" in values else {})
    return get_object(values.pop("_target_"))(tasks, **{**values, **options})
