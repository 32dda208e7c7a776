"""shelf-place: lift the block onto the shelf.

With d the distance of the block from the goal, P the long tail of d within 5 cm, and G the caging of the block: reward
G & P, and once the block is lifted 1 + 5 P' more; 10 at the goal, d < 5 cm. Success is 7 cm. P' is P, but below the
shelf (less than 15 cm to either side, lower than 24 cm) 0 behind the goal, and in the 15 cm before it P - Y & Z, at
least 0, where Y and Z are the shares of the way back and down. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, clip, distance, hamacher, long_tail, quaternion
from lit_mtrl.envs.native.sides import held
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
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING), READS = reads("body obj", "geom_matrix objGeom", "touching objGeom")
DEPTH, HEIGHT = 3 * 0.05, 0.24


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@compiled
def kept_out(in_place, obj, target):
    """P', and whether something was subtracted."""
    if 0.0 < obj[2] < HEIGHT and target[0] - 0.15 < obj[0] < target[0] + 0.15:
        front = target[1] - DEPTH
        if front < obj[1] < target[1]:
            below = hamacher((obj[1] - front) / DEPTH, (HEIGHT - obj[2]) / HEIGHT)
            return clip(in_place - below, 0.0, 1.0), True
        if obj[1] > target[1]:
            return 0.0, False
    return in_place, False


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(first, target))
    grasped, single = cage(v, action, obj, 0.02, 0.05, 0.01, 0.01, 1.0, 0)
    reward = join(grasped, in_place, single)
    in_place, double = kept_out(in_place, obj, target)
    if tcp_to_obj < 0.025 and obs[3] > 0 and obj[2] - 0.01 > first[2]:
        reward = plus(reward, 1.0 + 5.0 * in_place, single and not double)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
