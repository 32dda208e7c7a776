"""assembly: grasp the wrench by its handle and put its ring over the peg.

With r the horizontal distance of the ring from the goal and n = 1 cm, 2 cm once the ring is on the peg, a funnel over
the peg has the height h = 0.2 + 0.02 ln(r - n), 0 for r <= n. With e the distance of the ring from the funnel's surface
above the peg (z threefold), P = 0.9 T + 0.1, without the 0.1 while the ring lies on the table beside the peg, where T
is the long tail of e within 2 cm; with G the caging of the handle and Q how well the wrench lies: reward (2 G + 6 P) Q;
10 for success, the ring lower than the goal with r < 2 cm. Q is also reported as being near.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, long_tail, norm, norm2, sub
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, quaternion_at, reads, report
from lit_mtrl.envs.native.tool import hold, turned, use

(HANDLE, TURN, RING), READS = reads("site RoundNut-8", "body_quaternion RoundNut", "site RoundNut")


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@compiled
def placed(ring, target):
    """P, and whether the ring is on the peg."""
    way = sub(target, ring)
    radius = norm2(way[0], way[1])
    success = radius < 0.02 and way[2] > 0.0
    neck = 0.02 if success else 0.01
    height = 0.02 * math.log(radius - neck) + 0.2 if radius > neck else 0.0
    error = norm((way[0], way[1], (height - ring[2]) * 3.0))
    lifted = 0.1 if ring[2] > 0.02 or radius < neck else 0.0
    return lifted + 0.9 * long_tail(error, 0.0, 0.02, 0.4), success


@evaluator
def evaluate(obs, action, v, out):
    right = turned(obs, (0.707, 0.0, 0.0, 0.707), 0.4)
    grasped, single = hold(obs, action, v, 0.01, 1)
    in_place, success = placed(at(v, RING), at(v, TARGET))
    reward = 10.0 if success else use(grasped, in_place, right, single)
    report(out, reward, success, right, grasped >= 0.5, grasped, in_place, 0.0)
