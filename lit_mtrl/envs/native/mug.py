"""A mug that is moved over the table, as coffee-pull and coffee-push have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, long_tail, norm, sub, times
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, cage, join, plus, report, tcp

SCALE = (2.0, 2.0, 1.0)
THERE = 0.05
"""Scaled distance from the goal below which the mug is there."""


@compiled
def carry(obs, action, v, touching, out):
    """Report on the mug.

    With d its distance from the goal (x and y doubled), P the long tail of d within 5 cm, and G the caging of the mug:
    reward G & P, with the open gripper around the mug 1 + 5 P more; 10 for d < 5 cm. & is the Hamacher product.

    touching: where that read is in ``v``.
    """
    obj, first, target, opened = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET), obs[3] > 0
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    scaled = norm(times(sub(obj, target), SCALE))
    in_place = long_tail(scaled, 0.0, THERE, norm(times(sub(first, target), SCALE)))
    grasped, single = cage(v, action, obj, 0.02, 0.05, 0.04, 0.05, 0.7, 1)
    reward = join(grasped, in_place, single)
    if tcp_to_obj < 0.04 and opened:
        reward = plus(reward, 1.0 + 5.0 * in_place, single)
    if scaled < THERE:
        reward = 10.0
    held = v[touching] > 0 and opened
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held, grasped, in_place, obj_to_target)
