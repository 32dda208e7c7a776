"""door-open: pull a door open by its handle.

With h the hand, k the handle, r the distance of h in the x-y plane from the point 5 cm left of k, and e = 12 cm: F the
long tail of how far h is below the floor 0.04 ln(r - e) + 0.4, 0 for r <= e, and I the long tail of its distance from
the place between handle and door; L the long tail of the door's angle short of 120 degrees, within 0.5, and C the
closing of the gripper, in [0, 1]: reward 2 (F & I & C) + 8 (0.2 + 0.8 L), the 0.2 once it is 2 degrees open. Success is
k within 8 cm of the goal along x; it pays 10. & is the Hamacher product.
"""

from __future__ import annotations

import math

import numpy as np

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import add, at, hamacher, long_tail, norm, norm2, quaternion, sub
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, reads, report

(HANDLE, TURN, ANGLE), READS = reads("geom handle", "geom_matrix handle", "joint doorjoint")
FUNNEL = 0.12
DOOR, BETWEEN = (-0.05, 0.0, 0.0), (0.05, 0.03, -0.01)
AJAR, WIDE, MARGIN = -math.pi / 90.0, math.pi / 2.0 + math.pi / 6, math.pi / 3.0


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))
    put_quaternion(objects, 3, quaternion(v, TURN))


@compiled
def above(hand, door):
    """Whether the hand is above the floor, a funnel around the door's handle, in [0, 1]."""
    radius = norm2(hand[0] - door[0], hand[1] - door[1])
    floor = 0.0 if radius <= FUNNEL else 0.04 * math.log(radius - FUNNEL) + 0.4
    return 1.0 if hand[2] >= floor else long_tail(floor - hand[2], 0.0, 0.01, floor / 2.0)


@compiled
def grab(action):
    """How far the gripper's command is from open, 0, to shut, 1."""
    effort = min(max(action[3], np.float32(-1)), np.float32(1))
    return np.float64((effort + np.float32(1)) / np.float32(2))


@evaluator
def evaluate(obs, action, v, out):
    hand, door, angle, grabbed = at(obs, 0), add(at(obs, 4), DOOR), v[ANGLE], grab(action)
    between = long_tail(norm(sub(sub(hand, door), BETWEEN)), 0.0, FUNNEL / 2.0, 0.5)
    ready = hamacher(above(hand, door), between)
    opened = 0.2 * (angle < AJAR) + 0.8 * long_tail(WIDE + angle, 0.0, 0.5, MARGIN)
    success = abs(obs[4] - v[TARGET]) <= 0.08
    reward = 10.0 if success else 2.0 * hamacher(ready, grabbed) + 8.0 * opened
    report(out, reward, success, ready, grabbed >= 0.5, grabbed, opened, 0.0)
