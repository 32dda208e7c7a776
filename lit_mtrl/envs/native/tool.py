"""A tool that is grasped by its handle, as the two tasks with a wrench and the one with a hammer have it."""

from __future__ import annotations

import math

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at
from lit_mtrl.envs.native.task import cage, multiply, plus


@compiled
def turned(obs, ideal, most):
    """1 for an object whose four numbers of orientation are ``ideal``, linearly less to 0 at the distance ``most``."""
    a, b, c, d = obs[7] - ideal[0], obs[8] - ideal[1], obs[9] - ideal[2], obs[10] - ideal[3]
    return max(1.0 - math.sqrt(a * a + b * b + c * c + d * d) / most, 0.0)


@compiled
def hold(obs, action, v, half, density):
    """`cage` of the handle, which lies along x, and so may be grasped up to ``half`` its length from its middle."""
    tool = at(obs, 4)
    if abs(tool[0] - obs[0]) < half:
        tool = (obs[0], tool[1], tool[2])
    return cage(v, action, tool, 0.015, 0.02, 0.01, 0.01, 1.0, density)


@compiled
def use(grasped, in_place, right, single):
    """The reward (2 G + 6 P) Q of the grasp G, the place P and the orientation Q."""
    return multiply(plus(multiply(2.0, grasped, single), 6.0 * in_place, single), right, single)
