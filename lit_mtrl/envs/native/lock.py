"""The lock of a door, as door-lock and door-unlock turn it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import long_tail
from lit_mtrl.envs.native.task import report

SCALE = (0.25, 1.0, 0.5)
"""How much each axis counts in the distance of the robot from the lock."""


@compiled
def turn(obs, apart, near, ready, obj_to_target, out):
    """Report on a lock that is to go ``obj_to_target``, d, along one axis: reward 2 ``ready`` + 8 P with P the long
    tail of d within 5 mm, 0.1 at 10.5 cm.

    apart: scaled distance of the robot from the lock.
    near, ready: in [0, 1], functions of it; the first is reported.
    """
    turned = long_tail(obj_to_target, 0.0, 0.005, 0.1)
    reward = 2 * ready + 8 * turned
    report(out, reward, obj_to_target <= 0.02, apart <= 0.05, obs[3] > 0, near, turned, obj_to_target)
