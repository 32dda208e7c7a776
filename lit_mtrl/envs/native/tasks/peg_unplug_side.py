"""peg-unplug-side: grasp the peg and pull it out of the box, to the side.

With d the distance of the peg's end from the goal, P the long tail of d within 5 cm, and G the caging of the end, for
which a closing of 0.8 is enough: reward 2 G, and 1 + 5 P more with the finger tips at the end and the gripper half open
once the peg has moved 1.5 cm; 10 for d <= 5 cm. Success is 7 cm.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail
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
    quaternion_at,
    reads,
    report,
    tcp,
)

(END, TURN), READS = reads("site pegEnd", "body_quaternion plug1")


@observer
def observe(v, objects):
    put(objects, 0, at(v, END))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(first, target))
    grasped, single = cage(v, action, obj, 0.025, 0.05, 0.01, 0.005, 0.8, 2)
    pulled = obs[3] > 0.5 and obj[0] - first[0] > 0.015
    reward = multiply(2.0, grasped, single)
    if pulled and tcp_to_obj < 0.035:
        reward = plus(plus(reward, 1.0, single), 5 * in_place, single)
    if obj_to_target <= 0.05:
        reward = 10.0
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, pulled, grasped, in_place, obj_to_target)
