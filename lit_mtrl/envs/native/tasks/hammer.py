"""hammer: grasp the hammer by its handle and drive the nail into the box.

With e the distance of the hammer's head from the goal, P = 0.9 T + 0.1, without the 0.1 while the head is at most 2 cm
high, where T is the long tail of e within 2 cm; with G the caging of the handle and Q how upright the hammer is: reward
(2 G + 6 P) Q; 10 where that is above 5 and the nail is more than 9 cm deep, which is success. Q is also reported as
being near.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import add, at, distance, long_tail
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, quaternion_at, reads, report
from lit_mtrl.envs.native.tool import hold, turned, use

(HAMMER, TURN, NAIL, NAIL_TURN, DEPTH), READS = reads(
    "body hammer",
    "body_quaternion hammer",
    "body nail_link",
    "body_quaternion nail_link",
    "joint NailSlideJoint",
)
HEAD = (0.16, 0.06, 0.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, HAMMER))
    put_quaternion(objects, 3, quaternion_at(v, TURN))
    put(objects, 7, at(v, NAIL))
    put_quaternion(objects, 10, quaternion_at(v, NAIL_TURN))


@evaluator
def evaluate(obs, action, v, out):
    head = add(at(obs, 4), HEAD)
    right = turned(obs, (1.0, 0.0, 0.0, 0.0), 0.4)
    grasped, single = hold(obs, action, v, 0.07, 2)
    lifted = 0.1 if head[2] > 0.02 else 0.0
    in_place = lifted + 0.9 * long_tail(distance(at(v, TARGET), head), 0.0, 0.02, 0.2)
    reward = use(grasped, in_place, right, single)
    success = v[DEPTH] > 0.09
    if success and reward > 5.0:
        reward = 10.0
    report(out, reward, success, right, grasped >= 0.5, grasped, in_place, 0.0)
