"""A window that slides along x, as the two window tasks have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail
from lit_mtrl.envs.native.task import INIT_TCP, TARGET, report, tcp

RADIUS = 0.05
"""Distance from the goal along x that is success."""
TOUCH = 0.02
"""Distance of the finger tips from the handle at which they have reached it."""


@compiled
def apart(obs, v, first):
    """Distance of the finger tips from the handle, and the margin that belongs to it.

    first: where the handle's first position begins in ``v``.
    """
    return distance(at(obs, 4), tcp(v)), abs(distance(at(v, first), at(v, INIT_TCP)) - TOUCH)


@compiled
def slide(obs, v, start_x, tcp_to_obj, reach, out):
    """Report on a window whose handle was first at ``start_x``.

    With d the distance of the handle from the goal along x, P the long tail of d within 5 cm, and R the ``reach`` of
    the finger tips, in [0, 1]: reward 10 (R & P). & is the Hamacher product.
    """
    obj_to_target = abs(obs[4] - v[TARGET])
    in_place = long_tail(obj_to_target, 0.0, RADIUS, abs(abs(start_x - v[TARGET]) - RADIUS))
    reward = 10 * hamacher(reach, in_place)
    report(out, reward, obj_to_target <= RADIUS, tcp_to_obj <= 0.05, 1.0, reach, in_place, obj_to_target)
