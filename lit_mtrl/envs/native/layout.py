"""Where MuJoCo's C structure ``mjData`` keeps its contacts, found by looking, not by its version.

MuJoCo's Python package shows the arrays, but not the places of their pointers and lengths, and contacts move in every
step. A pointer's place is where its value stands; a length's place is where all of several tiny models have it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

MJ: Any = mujoco
SEARCHED = 2**20
"""Bytes of ``mjData`` that are looked at."""
FUNCTIONS = ("mj_step", "mj_forward", "mj_setState")
"""What compiled code calls."""


class LayoutError(RuntimeError):
    """The installed MuJoCo cannot be stepped from compiled code."""


TRIED = "3.3.0"
"""The version of MuJoCo that compiled steps are tested with."""
NOT_FOUND = f"mujoco {MJ.__version__} keeps its contacts where they are not found; {TRIED} is known to work"


class Layout(NamedTuple):
    """Bytes from the beginning of ``mjData`` to the number of contacts, the pointer to them, and that to the forces of
    constraints; bytes of a contact, and from its beginning to its two geoms and to its first constraint.
    """

    ncon: int
    contact: int
    efc_force: int
    size: int
    geom: int
    efc_address: int


@functools.cache
def functions() -> tuple[int, ...]:
    """Addresses of `FUNCTIONS` in MuJoCo's library."""
    found = sorted(Path(mujoco.__file__).parent.glob("libmujoco.*"))
    if not found:
        raise LayoutError(f"mujoco {MJ.__version__} has no libmujoco beside its Python package")
    loaded = ctypes.CDLL(str(found[0]))
    return tuple(ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in FUNCTIONS)


@functools.cache
def layout() -> Layout:
    """Of the installed MuJoCo; raises `LayoutError` if it cannot be made out."""
    states = [_touching(bodies) for bodies in (2, 3, 5)]
    contact = states[0].contact
    pointers = _pointer(states, lambda data: data.contact.dist), _pointer(states, lambda data: data.efc_force)
    first = contact.dist.ctypes.data
    places = contact.geom.ctypes.data - first, contact.efc_address.ctypes.data - first
    return Layout(_length(states, "ncon", min(pointers)), *pointers, contact.geom.strides[0], *places)


def _touching(bodies: int) -> Any:
    """Data of bodies of two balls each: one hovers just above the floor, one has left it, the others lie on it."""
    ball = '<geom type="sphere" size="0.1" margin="0.05" pos="{} 0 0"/>'
    body = '<body pos="{} 0 0.099"><freejoint/>' + ball.format(0) + ball.format(0.5) + "</body>"
    world = '<geom type="plane" size="50 50 1"/>' + "".join(body.format(2 * i) for i in range(bodies))
    model = MJ.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody></mujoco>")
    data = MJ.MjData(model)
    MJ.mj_forward(model, data)
    data.qpos[2], data.qpos[7 + 2] = 1.0, 0.12
    MJ.mj_forward(model, data)
    return data


def _pointer(states: Sequence[Any], array: Callable[[Any], NDArray]) -> int:
    """Bytes from the beginning of ``mjData`` to the pointer to an array of it."""
    places = set()
    for data in states:
        sought, place = array(data).ctypes.data, 0
        while ctypes.c_uint64.from_address(data._address + place).value != sought:
            place += 8
            if place >= SEARCHED:
                raise LayoutError(NOT_FOUND)
        places.add(place)
    return _only(places)


def _length(states: Sequence[Any], name: str, before: int) -> int:
    """Bytes to a number that stands before the pointers."""
    found = []
    for data in states:
        words = np.frombuffer(memoryview((ctypes.c_char * before).from_address(data._address)), np.int32)
        found.append({4 * int(place) for place in np.flatnonzero(words == getattr(data, name))})
    return _only(set.intersection(*found))


def _only(places: set[int]) -> int:
    if len(places) != 1:
        raise LayoutError(NOT_FOUND)
    return places.pop()
