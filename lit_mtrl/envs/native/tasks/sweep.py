"""sweep: sweep the block off the table, to the goal beside it.

With d the distance of the block from the goal, P the long tail of d within 5 cm, and G the squeezing of the block:
reward 2 G + 6 (G & P); 10 at the goal, d < 5 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail
from lit_mtrl.envs.native.sides import squeeze
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    evaluator,
    observer,
    put,
    put_quaternion,
    quaternion_at,
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING, LEFT_FIRST, RIGHT_FIRST), READS = reads(
    "body obj",
    "body_quaternion obj",
    "touching objGeom",
    "start init_left_pad",
    "start init_right_pad",
)
FIRSTS = (LEFT_FIRST, RIGHT_FIRST)


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, target = at(obs, 4), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(at(v, OBJ_INIT), target))
    grasped = squeeze(v, FIRSTS, obj, 0.02, 0.01, 0.005)
    reward = 2 * grasped + 6 * hamacher(grasped, in_place)
    if obj_to_target < 0.05:
        reward = 10.0
    touched = v[TOUCHING] > 0 and obs[3] > 0
    report(out, reward, obj_to_target <= 0.05, tcp_to_obj <= 0.03, touched, grasped, in_place, obj_to_target)
