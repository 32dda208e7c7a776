"""disassemble: grasp the wrench by its handle and lift its ring off the peg.

With e the distance of the ring from a point 10 cm above the goal, P = 0.9 T + 0.1, without the 0.1 while the ring is at
most 2 cm high, where T is the long tail of e within 2 cm; with G the caging of the handle and Q how well the wrench
lies: reward (2 G + 6 P) Q; 10 for success, the handle higher than the goal. Q is also reported as being near.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import add, at, distance, long_tail
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, quaternion_at, reads, report
from lit_mtrl.envs.native.tool import hold, turned, use

(HANDLE, TURN, RING), READS = reads("site RoundNut-8", "body_quaternion RoundNut", "site RoundNut")
ABOVE = (0.0, 0.0, 0.1)


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    ring, target = at(v, RING), at(v, TARGET)
    right = turned(obs, (0.707, 0.0, 0.0, 0.707), 0.4)
    grasped, single = hold(obs, action, v, 0.01, 2)
    lifted = 0.1 if ring[2] > 0.02 else 0.0
    in_place = lifted + 0.9 * long_tail(distance(add(target, ABOVE), ring), 0.0, 0.02, 0.2)
    success = obs[6] > target[2]
    reward = 10.0 if success else use(grasped, in_place, right, single)
    report(out, reward, success, right, grasped >= 0.5, grasped, in_place, 0.0)
