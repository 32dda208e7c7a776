"""hand-insert: put the block into the hole in the table, hand and all.

With d the distance of the block from the goal, P the long tail of d within 5 cm, and G the caging of the block: reward
G & P, and 1 + 7 P more with the finger tips within 2 cm of the block and the gripper not shut; 10 at the goal,
d < 5 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail
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
    quaternion_at,
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING), READS = reads("body obj", "body_quaternion obj", "touching objGeom")


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, target = at(obs, 4), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(at(v, OBJ_INIT), target))
    grasped, single = cage(v, action, obj, 0.015, 0.05, 0.01, 0.005, 1.0, 2)
    reward = join(grasped, in_place, single)
    if tcp_to_obj < 0.02 and obs[3] > 0:
        reward = plus(reward, 1.0 + 7.0 * in_place, single)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.05, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
