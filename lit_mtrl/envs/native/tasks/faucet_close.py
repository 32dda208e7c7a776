"""faucet-close: turn the faucet's handle to the left.

With d the distance of the handle's end from the goal and t that of the finger tips from it, P the long tail of d within
7 cm, and R the Gaussian tail of t within 1 cm: reward 2 (2 R + 3 P), and 10 at the goal, d <= 7 cm. The handle's end is
1 cm below the site that marks it.
"""

from __future__ import annotations

from lit_mtrl.envs.native.faucet import turn
from lit_mtrl.envs.native.maths import add, at
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, quaternion_at, reads

(HANDLE, TURN), READS = reads("site handleStartClose", "body_quaternion faucetBase")
BELOW = (0.0, 0.0, -0.01)


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, HANDLE), BELOW))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    turn(v, at(obs, 4), out)
