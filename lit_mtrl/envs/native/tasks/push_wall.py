"""push-wall: push the puck around the wall to the goal on the table, between the fingers.

The way leads past a corner m of the wall. With P and Q the long tails, within 5 cm, of the puck's distances from m (x
threefold) and from the goal, and G the caging of the puck: reward 2 G; once the fingers are within 2 cm of the puck and
not shut, 2 G + 1 + 4 P, and beyond y = 0.75 instead 2 G + 5 + 3 Q; 10 within 5 cm of the goal. Success is 7 cm.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, norm, quaternion, sub, times
from lit_mtrl.envs.native.sides import held
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    cage,
    evaluator,
    multiply,
    observer,
    plus,
    put,
    put_quaternion,
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING), READS = reads("geom objGeom", "geom_matrix objGeom", "touching objGeom")
SCALE = (3.0, 1.0, 1.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    corner = (-0.05, 0.77, obj[2])
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    passed = long_tail(norm(times(sub(obj, corner), SCALE)), 0.0, 0.05, norm(times(sub(first, corner), SCALE)))
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(first, target))
    grasped, single = cage(v, action, obj, 0.015, 0.05, 0.01, 0.005, 1.0, 2)
    reward = multiply(2.0, grasped, single)
    if tcp_to_obj < 0.02 and obs[3] > 0:
        reward = plus(reward, 1.0, single)
        if obj[1] > 0.75:
            reward = plus(plus(reward, 4.0, single), 3 * in_place, single)
        else:
            reward = plus(reward, 4 * passed, single)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
