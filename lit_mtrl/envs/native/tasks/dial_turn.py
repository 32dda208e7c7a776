"""dial-turn: turn a dial until its mark, 5 cm from the axis, is at the goal.

With d the distance of the mark from the goal, t that of the finger tips from the place to push, which goes with the
mark, P the long tail of d within 7 cm, R the Gaussian of t within 5 mm, and C the closing of the gripper, in [0, 1]:
reward 10 (R & C & P). Success is d <= 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.maths import add, at, distance, gaussian, long_tail
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    TARGET,
    closing,
    evaluator,
    join,
    multiply,
    observer,
    put,
    put_quaternion,
    quaternion_at,
    reads,
    report,
    tcp,
)

(DIAL, TURN, ANGLE, FIRST), READS = reads(
    "body dial",
    "body_quaternion dial",
    "joint knob_Joint_1",
    "start dial_push_position",
)
RADIUS = 0.05
PUSH = (0.05, 0.02, 0.09)
SUCCESS, REACH = 0.07, 0.005


@observer
def observe(v, objects):
    angle = v[ANGLE]
    put(objects, 0, add(at(v, DIAL), (math.sin(angle) * RADIUS, -math.cos(angle) * RADIUS, 0.0)))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, FIRST), at(v, TARGET)
    push = add(obj, PUSH)
    tcp_to_obj, obj_to_target = distance(push, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, SUCCESS, abs(distance(first, target) - SUCCESS))
    reach = gaussian(tcp_to_obj, 0.0, REACH, abs(distance(first, at(v, INIT_TCP)) - REACH))
    closed, single = closing(action, 1.0)
    grasped = join(reach, closed, single)
    reward = multiply(10.0, join(grasped, in_place, single), single)
    report(out, reward, obj_to_target <= SUCCESS, tcp_to_obj <= 0.01, 1.0, grasped, in_place, obj_to_target)
