"""An object between the two pads, as tasks have it that do not use `lit_mtrl.envs.native.task.cage`.

With `cage` a pad may stand on either side of the object; here the left pad is to be beyond it along y, and the right
pad before it.
"""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, hamacher, long_tail, norm2
from lit_mtrl.envs.native.task import INIT_TCP, LEFT_PAD, OBJ_INIT, RIGHT_PAD, tcp

WIDE = 0.05
"""Distance of a pad from the object that is still close to it."""


@compiled
def beside(v, firsts, y, radius, most):
    """How well the pads stand on their sides of the object at ``y``, ``radius`` to ``most`` from it, in [0, 1].

    firsts: where the official object's ``init_left_pad`` and ``init_right_pad`` begin in ``v``. The margin is measured
        from there.
    """
    left_margin, right_margin = abs(abs(y - v[firsts[0] + 1]) - WIDE), abs(abs(y - v[firsts[1] + 1]) - WIDE)
    left = long_tail(v[LEFT_PAD + 1] - y, radius, most, left_margin)
    right = long_tail(y - v[RIGHT_PAD + 1], radius, most, right_margin)
    return hamacher(left, right)


@compiled
def enclose(v, firsts, obj, radius, xz):
    """How well the gripper encloses the object at ``obj``, in [0, 1]: the pads are beside it, and the finger tips at it
    in the x-z plane.

    firsts, radius: as in `beside`.
    xz: distance in that plane that is close enough.
    """
    first, start, tips = at(v, OBJ_INIT), at(v, INIT_TCP), tcp(v)
    margin = norm2(first[0] - start[0], first[2] - start[2]) - xz
    near = long_tail(norm2(tips[0] - obj[0], tips[2] - obj[2]), 0.0, xz, margin)
    return hamacher(beside(v, firsts, obj[1], radius, WIDE), near)


@compiled
def squeeze(v, firsts, obj, radius, slack, xz):
    """The mean of `enclose` and, where that is above 0.95, of how well the pads stand within ``slack`` of the object's
    surface; the action does not matter.
    """
    enclosed = enclose(v, firsts, obj, radius, xz)
    squeezed = beside(v, firsts, obj[1], radius, radius + slack) if enclosed > 0.95 else 0.0
    return (enclosed + squeezed) / 2


@compiled
def held(obs, v, touching):
    """Whether both pads press on the object, the gripper is not shut, and the object is more than 2 cm above where it
    was first.

    touching: where that read is in ``v``.
    """
    return v[touching] > 0 and obs[3] > 0 and obs[6] - 0.02 > v[OBJ_INIT + 2]
