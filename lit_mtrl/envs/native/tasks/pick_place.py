"""pick-place: lift the puck and hold it at the goal, in the air.

With d the distance of the puck from the goal, P the long tail of d within 5 cm, and G the mean of C, how well the
gripper encloses the puck, and C & (the closing of the gripper), 0 unless C > 0.97: reward G & P, and once the puck is
lifted 1 + 5 P more; 10 at the goal, d < 5 cm. Success is 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, quaternion
from lit_mtrl.envs.native.sides import enclose, held
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    evaluator,
    grip,
    join,
    multiply,
    observer,
    plus,
    put,
    put_quaternion,
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING, LEFT_FIRST, RIGHT_FIRST), READS = reads(
    "body obj",
    "geom_matrix objGeom",
    "touching objGeom",
    "start init_left_pad",
    "start init_right_pad",
)
FIRSTS = (LEFT_FIRST, RIGHT_FIRST)


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(first, target))
    enclosed = enclose(v, FIRSTS, obj, 0.015, 0.005)
    gripped, single = grip(enclosed, action, 1.0)
    grasped = multiply(plus(gripped, enclosed, single), 0.5, single)
    reward = join(grasped, in_place, single)
    if tcp_to_obj < 0.02 and obs[3] > 0 and obj[2] - 0.01 > first[2]:
        reward = plus(reward, 1.0 + 5.0 * in_place, single)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
