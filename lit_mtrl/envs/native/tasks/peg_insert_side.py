"""peg-insert-side: grasp the peg and put its head into the hole.

With d the distance of the head from the hole (y and z doubled), P the long tail of d within 7 cm, kept out of the two
boxes beside the hole, and G the caging of the peg: reward G & P, and once the peg is lifted 1 + 5 P more; 10 at the
goal, d <= 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail, norm, prism, quaternion, sub, times
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

(GRASP, TURN, HEAD, HEAD_START, RIGHT_1, LEFT_1, RIGHT_2, LEFT_2), READS = reads(
    "site pegGrasp",
    "site_matrix pegGrasp",
    "site pegHead",
    "start peg_head_pos_init",
    "site bottom_right_corner_collision_box_1",
    "site top_left_corner_collision_box_1",
    "site bottom_right_corner_collision_box_2",
    "site top_left_corner_collision_box_2",
)
SCALE = (1.0, 2.0, 2.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, GRASP))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, opened, head, target = at(obs, 4), obs[3], at(v, HEAD), at(v, TARGET)
    tcp_to_obj = distance(obj, tcp(v))
    obj_to_target = norm(times(sub(head, target), SCALE))
    margin = norm(times(sub(at(v, HEAD_START), target), SCALE))
    boxes = hamacher(prism(head, at(v, RIGHT_2), at(v, LEFT_2)), prism(head, at(v, RIGHT_1), at(v, LEFT_1)))
    in_place = hamacher(long_tail(obj_to_target, 0.0, 0.07, margin), boxes)
    grasped, single = cage(v, action, obj, 0.0075, 0.03, 0.01, 0.005, 1.0, 2)
    lifted = opened > 0 and obj[2] - 0.01 > v[OBJ_INIT + 2]
    if tcp_to_obj < 0.08 and lifted:
        grasped, single = 1.0, False
    reward = join(grasped, in_place, single)
    if tcp_to_obj < 0.08 and lifted:
        reward = plus(reward, 1.0 + 5 * in_place, single)
    if obj_to_target <= 0.07:
        reward = 10.0
    report(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        tcp_to_obj < 0.02 and lifted,
        grasped,
        in_place,
        obj_to_target,
    )
