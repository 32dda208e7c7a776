"""door-lock: turn the lock of a door down.

With t the distance of the left pad from the lock (x / 4, z / 2), d that of the lock from the goal along z, N the long
tail of t within 1 cm, P the long tail of d within 5 mm, and O the opening of the gripper, in [0, 1]: reward
2 (O & N) + 8 P. Success is d <= 2 cm. & is the Hamacher product. The margin of t is the distance from the official
``init_left_pad``, which goes with the pad: it is t itself.
"""

from __future__ import annotations

from lit_mtrl.envs.native.lock import SCALE, turn
from lit_mtrl.envs.native.maths import at, hamacher, long_tail, norm, sub, times
from lit_mtrl.envs.native.task import (
    LEFT_PAD,
    TARGET,
    evaluator,
    observer,
    put,
    put_quaternion,
    quaternion_at,
    reads,
)

(LOCK, TURN, PAD_START), READS = reads("site lockStartLock", "body_quaternion door_link", "start init_left_pad")


@observer
def observe(v, objects):
    put(objects, 0, at(v, LOCK))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    lock = at(obs, 4)
    apart = norm(times(sub(lock, at(v, LEFT_PAD)), SCALE))
    near = long_tail(apart, 0.0, 0.01, norm(times(sub(lock, at(v, PAD_START)), SCALE)))
    turn(obs, apart, near, hamacher(obs[3], near), abs(v[TARGET + 2] - lock[2]), out)
