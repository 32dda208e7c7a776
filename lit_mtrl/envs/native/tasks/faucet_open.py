"""faucet-open: turn the faucet's handle to the right.

With d the distance of a point on the handle from the goal and t that of the finger tips from it, P the long tail of d
within 7 cm, and R the Gaussian tail of t within 1 cm: reward 2 (2 R + 3 P), and 10 at the goal, d <= 7 cm. The point is
4 cm left of and 3 cm above what is observed, which is 1 cm below the site that marks the handle's end.
"""

from __future__ import annotations

from lit_mtrl.envs.native.faucet import turn
from lit_mtrl.envs.native.maths import add, at
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, quaternion_at, reads

(HANDLE, TURN), READS = reads("site handleStartOpen", "body_quaternion faucetBase")
BELOW, POINT = (0.0, 0.0, -0.01), (-0.04, 0.0, 0.03)


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, HANDLE), BELOW))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    turn(v, add(at(obs, 4), POINT), out)
