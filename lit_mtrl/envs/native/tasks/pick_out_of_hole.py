"""pick-out-of-hole: lift the puck out of its hole and hold it at the goal, in the air.

With d the distance of the puck from the goal, P the long tail of d within 2 cm, G the caging of the puck, and F the
long tail, within 1 cm, of how far the finger tips are below a funnel around the hole, whose height in metres is 0.15 +
0.015 ln(r - 0.03) at a distance r > 0.03 from its axis: reward G & P, and 1 + 5 (P & F) more once the puck is grasped;
10 at the goal, d < 5 cm. Success is 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail, norm2
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    cage,
    evaluator,
    join,
    observer,
    plus,
    put,
    put_quaternion,
    quaternion_at,
    reads,
    report,
    tcp,
)

(OBJECT, TURN), READS = reads("body obj", "body_quaternion obj")


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@compiled
def above_funnel(tips, first):
    """F."""
    radius = norm2(tips[0] - first[0], tips[1] - first[1])
    floor = 0.015 * math.log(radius - 0.03) + 0.15 if radius > 0.03 else 0.0
    return long_tail(max(floor - tips[2], 0.0), 0.0, 0.01, 0.02)


@evaluator
def evaluate(obs, action, v, out):
    obj, tips, first, target = at(obs, 4), tcp(v), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tips), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.02, distance(first, target))
    grasped, single = cage(v, action, obj, 0.015, 0.02, 0.01, 0.03, 0.1, 2)
    reward = join(grasped, in_place, single)
    held_up = tcp_to_obj < 0.04 and obj[2] - 0.02 > first[2] and not obs[3] < 0.33
    if held_up:
        reward = plus(reward, 1.0 + 5.0 * hamacher(in_place, above_funnel(tips, first)), single)
    if obj_to_target < 0.05:
        reward = 10.0
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
