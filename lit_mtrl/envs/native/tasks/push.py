"""push: push the puck to the goal on the table, between the fingers.

With d the distance of the puck from the goal, P the long tail of d within 5 cm, and G the caging of the puck: reward
2 G; once the fingers are within 2 cm of the puck and not shut, 4 G + 1 + 5 P; 10 at the goal, d < 5 cm.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, quaternion
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

(OBJECT, TURN, TOUCHING), READS = reads("body obj", "geom_matrix objGeom", "touching objGeom")


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, target = at(obs, 4), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(at(v, OBJ_INIT), target))
    grasped, single = cage(v, action, obj, 0.015, 0.05, 0.01, 0.005, 1.0, 2)
    reward = multiply(2.0, grasped, single)
    if tcp_to_obj < 0.02 and obs[3] > 0:
        more = plus(plus(1.0, reward, single), 5 * in_place, single)
        reward = plus(reward, more, single)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.05, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
