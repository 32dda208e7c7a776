"""A plate that is slid over the table to the goal, as the four plate tasks have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, long_tail
from lit_mtrl.envs.native.task import INIT_TCP, OBJ_INIT, TARGET, report, tcp

RADIUS = 0.05
"""Distance within which the plate is at the goal, or the finger tips at the plate."""


@compiled
def tails(obs, v, less):
    """The distances of the finger tips from the plate and of the plate from the goal, and the long tail of each.

    less: what the margins are shorter than the distances at first.
    """
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(tcp(v), obj), distance(obj, target)
    reach = long_tail(tcp_to_obj, 0.0, RADIUS, distance(at(v, INIT_TCP), first) - less)
    in_place = long_tail(obj_to_target, 0.0, RADIUS, distance(first, target) - less)
    return tcp_to_obj, obj_to_target, reach, in_place


@compiled
def tell(out, reward, found):
    """Report on a plate: the reward is 10 at the goal.

    found: what `tails` returned.
    """
    tcp_to_obj, obj_to_target, reach, in_place = found
    if obj_to_target < RADIUS:
        reward = 10.0
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, 0.0, reach, in_place, obj_to_target)


@compiled
def drag(obs, v, out):
    """Report on a plate that is dragged by its inner rim.

    With d its distance from the goal and t that of the finger tips from it, P and R the long tails of d and of t within
    5 cm: reward 1.5 R, with the finger tips at most 3 cm high and t < 7 cm instead 2 + 7 P; 10 for d < 5 cm.
    """
    found = tails(obs, v, RADIUS)
    dragged = tcp(v)[2] <= 0.03 and found[0] < 0.07
    tell(out, 2.0 + 7.0 * found[3] if dragged else 1.5 * found[2], found)
