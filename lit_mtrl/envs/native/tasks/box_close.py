"""box-close: grasp the lid by its handle and put it on the box.

With C the closing of the gripper, from 0 to 1; H the long tail, within 2 cm, of the hand's distance from the handle,
times (&) that, within 1 cm, of how far it is below a funnel over the handle, of height f = 0.4 + 0.04 ln(r - 0.02) at
the horizontal distance r, 0 for r <= 2 cm; P = 0.8 T + 0.2, without the 0.2 while the handle is at most 4 cm high,
where T is the long tail of the handle's distance from the goal (z threefold) within 5 cm; and Q how upright the lid is:
reward (2 (C & H) + 8 P) Q, for success 10 Q. Success is the lid's distance from the goal, below 8 cm. & is the Hamacher
product. H is also reported as being near.
"""

from __future__ import annotations

import math

import numpy as np

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import add, at, clip, distance, hamacher, long_tail, norm, norm2, sub, times
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, quaternion_at, reads, report
from lit_mtrl.envs.native.tool import turned

(LID, TURN), READS = reads("body top_link", "body_quaternion top_link")
HANDLE, SCALE = (0.0, 0.0, 0.02), (1.0, 1.0, 3.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, LID))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@compiled
def ready(hand, handle):
    """H."""
    radius = norm2(hand[0] - handle[0], hand[1] - handle[1])
    floor = 0.04 * math.log(radius - 0.02) + 0.4 if radius > 0.02 else 0.0
    above = 1.0 if hand[2] >= floor else long_tail(floor - hand[2], 0.0, 0.01, floor / 2.0)
    return hamacher(above, long_tail(distance(hand, handle), 0.0, 0.02, 0.5))


@compiled
def placed(handle, target):
    """P."""
    lifted = 0.2 if handle[2] > 0.04 else 0.0
    return lifted + 0.8 * long_tail(norm(times(sub(target, handle), SCALE)), 0.0, 0.05, 0.25)


@evaluator
def evaluate(obs, action, v, out):
    lid, target = at(obs, 4), at(v, TARGET)
    handle = add(lid, HANDLE)
    one = np.float32(1)
    closed = np.float64((clip(action[3], -one, one) + one) / np.float32(2))
    near, in_place = ready(at(obs, 0), handle), placed(handle, target)
    success = distance(lid, target) < 0.08
    reward = 10.0 if success else 2.0 * hamacher(closed, near) + 8.0 * in_place
    reward *= turned(obs, (0.707, 0.0, 0.0, 0.707), 0.2)
    report(out, reward, success, near, closed >= 0.5, closed, in_place, 0.0)
