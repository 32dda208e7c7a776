"""push-back: pull the puck to the goal, which is nearer to the robot.

With d the distance of the puck from the goal and d0 that of its first position, P the long tail of d within 5 cm, and G
the squeezing of the puck: reward G & P, and 1 + 5 P more once the fingers are within 1 cm of it, the gripper is neither
shut nor wide open, and d0 - d > 1 cm; 10 at the goal, d < 5 cm. Success is 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail, quaternion
from lit_mtrl.envs.native.sides import held, squeeze
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, evaluator, observer, put, put_quaternion, reads, report, tcp

(OBJECT, TURN, TOUCHING, LEFT_FIRST, RIGHT_FIRST), READS = reads(
    "geom objGeom",
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
    obj, target = at(obs, 4), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    first_to_target = distance(at(v, OBJ_INIT), target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, first_to_target)
    grasped = squeeze(v, FIRSTS, obj, 0.007, 0.003, 0.01)
    reward = hamacher(grasped, in_place)
    if tcp_to_obj < 0.01 and 0 < obs[3] < 0.55 and first_to_target - obj_to_target > 0.01:
        reward += 1.0 + 5.0 * in_place
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
