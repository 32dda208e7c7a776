"""door-unlock: turn the lock of a door to the side.

With s the distance of the arm's shoulder, 5.5 cm before and 7 cm above the hand, from the lock (x / 4, z / 2), d that
of the lock from the goal along x, S the long tail of s within 2 cm, and P the long tail of d within 5 mm: reward
2 S + 8 P. Success is d <= 2 cm. The margin of s is measured from the lock's axis, the official ``obj_init_pos``.
"""

from __future__ import annotations

from lit_mtrl.envs.native.lock import SCALE, turn
from lit_mtrl.envs.native.maths import add, at, long_tail, norm, sub, times
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    OBJ_INIT,
    TARGET,
    evaluator,
    observer,
    put,
    put_quaternion,
    quaternion_at,
    reads,
)

(LOCK, TURN), READS = reads("site lockStartUnlock", "body_quaternion door_link")
SHOULDER = (0.0, 0.055, 0.07)


@observer
def observe(v, objects):
    put(objects, 0, at(v, LOCK))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    lock = at(obs, 4)
    apart = norm(times(sub(add(at(obs, 0), SHOULDER), lock), SCALE))
    margin = norm(times(sub(add(at(v, INIT_TCP), SHOULDER), at(v, OBJ_INIT)), SCALE))
    ready = long_tail(apart, 0.0, 0.02, margin)
    turn(obs, apart, ready, ready, abs(v[TARGET] - lock[0]), out)
