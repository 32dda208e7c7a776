"""A button that is pressed along an axis of the world, as the four button tasks and coffee-button have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, long_tail
from lit_mtrl.envs.native.task import INIT_TCP, TARGET, tcp

Y, Z = 1, 2
"""Axes: a button on the front of its box, and one on top of it."""
CLOSE = 0.05
"""Distance of the finger tips from the button that counts as near."""


@compiled
def pressing(obs, v, axis, reach, travel):
    """The distance t of the finger tips from the button, its distance d from the goal along ``axis``, and their long
    tails: of t within ``reach``, of d within 5 mm.

    The margin of t is the distance of the button, where it is now, from the first position of the finger tips.

    travel: the margin of d.
    """
    obj = at(obs, 4)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), abs(v[TARGET + axis] - obj[axis])
    near = long_tail(tcp_to_obj, 0.0, reach, distance(obj, at(v, INIT_TCP)))
    return tcp_to_obj, obj_to_target, near, long_tail(obj_to_target, 0.0, 0.005, travel)
