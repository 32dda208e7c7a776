"""Official environments as rows for compiled code: addresses, what a task reads, and what its reset leaves."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_mtrl.envs.native.layout import MJ, functions, layout
from lit_mtrl.envs.native.step import Rows
from lit_mtrl.envs.native.task import OUT, SIZES

STATE = int(MJ.mjtState.mjSTATE_INTEGRATION)
EDITED = ("body_pos", "body_quat", "site_pos")
"""Arrays of the model that official resets change."""


def module_of(task: str) -> Any:
    """The file of a task, compiled when it is imported for the first time."""
    return importlib.import_module(f"lit_mtrl.envs.native.tasks.{task.replace('-', '_')}")


def values_of(task: str) -> int:
    """How many values a task reads."""
    return sum(SIZES[entry.split()[0]] for entry in module_of(task).READS)


def address(data: Any, model: Any, kind: str, name: str) -> int:
    """Where the simulation keeps what is read."""
    if kind == "joint":
        return data.qpos.ctypes.data + 8 * int(model.joint(name).qposadr.item())
    part, _, what = kind.partition("_")
    fields = {"": "xpos", "quaternion": "xquat", "matrix": "xmat"}
    return getattr(getattr(data, part)(name), fields[what]).ctypes.data


def build(tasks: Sequence[str], envs: Sequence[Any]) -> tuple[Rows, list[list[tuple[str, int]]]]:
    """Rows for official environments that have been reset, and for each what its reset left: attributes and their
    places in ``values``, of those that are not the simulation's own memory.
    """
    modules = [module_of(task) for task in tasks]
    count = len(envs)
    gather, touch, ranges, kept = [], [], np.zeros((count, 4), np.int64), []
    for i, (module, env) in enumerate(zip(modules, envs, strict=True)):
        ranges[i, 0], ranges[i, 2] = len(gather), len(touch)
        mine, place = [], 0
        for entry in module.READS:
            kind, name = entry.split()
            if kind == "touching":
                touch.append((env.model.geom(name).id, place))
            elif kind.startswith("start"):
                value: Any = getattr(env, name, None)
                if _inside(value, env.data):
                    gather.append((value.ctypes.data, SIZES[kind], place))
                elif value is not None:
                    mine.append((name, place))
            else:
                gather.append((address(env.data, env.model, kind, name), SIZES[kind], place))
            place += SIZES[kind]
        kept.append(mine)
        ranges[i, 1], ranges[i, 3] = len(gather), len(touch)
    width = max(map(values_of, tasks))
    space = [env.sawyer_observation_space for env in envs]
    rows = Rows(
        functions=np.array([*functions(), STATE]),
        contacts=np.array(layout()),
        model=np.array([env.model._address for env in envs]),
        data=np.array([env.data._address for env in envs]),
        edited=np.array([[_array(getattr(env.model, name)) for name in EDITED] for env in envs]),
        fields=np.array([_fields(env.data) for env in envs]),
        observe=np.array([module.observe.address for module in modules]),
        evaluate=np.array([module.evaluate.address for module in modules]),
        low=np.array([env.mocap_low for env in envs], np.float64),
        high=np.array([env.mocap_high for env in envs], np.float64),
        scale=np.array([env.action_scale for env in envs], np.float32),
        space_low=np.array([box.low for box in space]),
        space_high=np.array([box.high for box in space]),
        gather=np.array(gather, np.int64).reshape(-1, 3),
        touch=np.array(touch, np.int64).reshape(-1, 2),
        ranges=ranges,
        pads=np.array([[env.data.geom(f"{side}pad_geom").id for side in ("left", "right")] for env in envs]),
        values=np.zeros((count, width)),
        frame=np.zeros((count, 2, 18)),
        actions=np.zeros((count, 4), np.float32),
        obs=np.zeros((count, 39)),
        out=np.zeros((count, len(OUT))),
    )
    return rows, kept


def _inside(value: Any, data: Any) -> bool:
    """Whether an attribute is a view of the simulation's memory, and so changes as it does."""
    if not isinstance(value, np.ndarray):
        return False
    own = (data.xpos, data.site_xpos, data.geom_xpos, data.qpos)
    return any(np.shares_memory(value, array) for array in own)


def _fields(data: Any) -> list[int]:
    bodies = [data.body(name).xpos.ctypes.data for name in ("hand", "rightclaw", "leftclaw")]
    return [data.mocap_pos.ctypes.data, data.mocap_quat.ctypes.data, data.ctrl.ctypes.data, *bodies]


def _array(array: np.ndarray) -> tuple[int, int]:
    return array.ctypes.data, array.size
