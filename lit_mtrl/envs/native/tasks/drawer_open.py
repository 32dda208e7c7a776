"""drawer-open: pull the drawer out by its handle.

With d the distance of the handle from the goal and e that of the hand from the handle (x and y tripled), P the long
tail of d within 2 cm, and C the long tail of e within 1 cm: reward 5 (C + P). Success is d <= 3 cm. The gripper need
not close.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import add, at, distance, long_tail, norm, sub, times
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    TARGET,
    evaluator,
    observer,
    put,
    put_quaternion,
    quaternion_at,
    reads,
    report,
)

(DRAWER, TURN), READS = reads("body drawer_link", "body_quaternion drawer_link")
HANDLE, SCALE = (0.0, -0.16, 0.0), (3.0, 3.0, 1.0)
WAY = 0.2
"""How far the drawer is to come out, along y."""


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, DRAWER), HANDLE))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    hand, handle, target = at(obs, 0), at(obs, 4), at(v, TARGET)
    hand_to_handle, handle_to_target = distance(handle, hand), distance(handle, target)
    opening = long_tail(handle_to_target, 0.0, 0.02, WAY)
    margin = norm(times(sub(add(target, (0.0, WAY, 0.0)), at(v, INIT_TCP)), SCALE))
    caging = long_tail(norm(times(sub(handle, hand), SCALE)), 0.0, 0.01, margin)
    reward = (caging + opening) * 5.0
    success, near_object, ajar = handle_to_target <= 0.03, hand_to_handle <= 0.03, obs[3] > 0
    report(out, reward, success, near_object, ajar, caging, opening, handle_to_target)
