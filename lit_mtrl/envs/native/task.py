"""What a file of ``tasks/`` consists of, and the pieces that they share.

A task has ``READS``, and two compiled functions:

- ``observe(v, objects)`` writes the 14 numbers of its objects into the observation: ``put(objects, 0, position)``, then
  ``put_quaternion(objects, 3, quaternion)``, and so on for a second object; they are zero before.
- ``evaluate(obs, action, v, out)`` calls ``report`` with the reward, and with what Meta-World's ``info`` holds. ``obs``
  (39 numbers, float64) is clipped to the observation space, ``action`` is float32.

**Single precision.** The action is float32, and NumPy 2 keeps a float32 scalar one when it meets a Python float (not
when it meets a float64 scalar or array). So wherever the official reward has used the action, what follows is rounded
to single precision, until a float64 scalar comes in. `closing` begins it, `cage` returns whether it has begun, and
`join`, `plus` and `multiply` go on with it.

What a task keeps from step to step lies in ``v``, too: a ``start`` read stays as the reset left it until ``evaluate``
writes to it.

``v`` are numbers of the simulation and of the official object, read after the physics of a step. First those of every
task, at ``RIGHT`` to ``INIT_TCP``; then those of its ``READS``, at the places that `reads` returns.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lit_mtrl.envs.native.cache import compiled, pointed
from lit_mtrl.envs.native.maths import add, at, distance, hamacher, long_tail, norm2

SIZES = {
    "body": 3,
    "site": 3,
    "geom": 3,
    "body_quaternion": 4,
    "body_matrix": 9,
    "site_matrix": 9,
    "geom_matrix": 9,
    "joint": 1,
    "touching": 1,
    "start": 3,
    "start_number": 1,
}
"""How many numbers each kind of read gives. ``body``, ``site``, ``geom``: positions in the world; ``_quaternion``
(w, x, y, z) and ``_matrix`` (row by row): orientations; ``joint``: its position; ``touching``: 1 if both fingers press
on the geom, else 0; ``start``: a point among the official object's attributes, as its reset leaves it;
``start_number``: a number among them."""

EVERY = (
    "site rightEndEffector",
    "site leftEndEffector",
    "body leftpad",
    "body rightpad",
    "start _target_pos",
    "start obj_init_pos",
    "start init_tcp",
)
RIGHT, LEFT, LEFT_PAD, RIGHT_PAD, TARGET, OBJ_INIT, INIT_TCP = range(0, 21, 3)
"""Where the reads of every task begin in ``v``: the finger tips, the pads, the goal, the object's first position, and
the first position between the finger tips."""

OUT = (
    "reward",
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)
"""What `report` writes."""

_numbers, _action = types.CPointer(types.float64), types.CPointer(types.float32)
observer = pointed(types.void(_numbers, _numbers))
evaluator = pointed(types.void(_numbers, _action, _numbers, _numbers))


def reads(*names: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Where each read begins in ``v``, and all reads.

    names: a kind of `SIZES` and a name, such as ``"site pegHead"`` or ``"start peg_head_pos_init"``.
    """
    places, place = [], 3 * len(EVERY)
    for name in names:
        places.append(place)
        place += SIZES[name.split()[0]]
    return tuple(places), (*EVERY, *names)


@compiled
def tcp(v):
    """Between the finger tips."""
    both = add(at(v, RIGHT), at(v, LEFT))
    return both[0] / 2.0, both[1] / 2.0, both[2] / 2.0


@compiled
def put(objects, k, point):
    """Write a position at ``objects[k]``."""
    for i in range(3):
        objects[k + i] = point[i]


@compiled
def put_quaternion(objects, k, quaternion):
    """Write an orientation at ``objects[k]``."""
    for i in range(4):
        objects[k + i] = quaternion[i]


@compiled
def quaternion_at(v, k):
    """The four numbers that begin at ``v[k]``, of a ``body_quaternion``."""
    return v[k], v[k + 1], v[k + 2], v[k + 3]


@compiled
def report(out, reward, success, near_object, grasp_success, grasp_reward, in_place, obj_to_target):
    """What ``evaluate`` found, in the order of `OUT`."""
    out[0], out[1], out[2], out[3] = reward, success, near_object, grasp_success
    out[4], out[5], out[6], out[7] = grasp_reward, in_place, obj_to_target, reward


@compiled
def join(a, b, single):
    """The Hamacher product (`hamacher`), in single precision if ``single``."""
    if not single:
        return hamacher(a, b)
    product = np.float32(a) * np.float32(b)
    denominator = np.float32(np.float32(a) + np.float32(b)) - product
    return np.float64(product / denominator) if denominator > 0 else 0.0


@compiled
def plus(a, b, single):
    """The sum, in single precision if ``single``."""
    return np.float64(np.float32(a) + np.float32(b)) if single else a + b


@compiled
def multiply(a, b, single):
    """The product, in single precision if ``single``."""
    return np.float64(np.float32(a) * np.float32(b)) if single else a * b


@compiled
def closing(action, effort):
    """How far the action closes the gripper, as a share of ``effort`` and at most 1; and whether that is a number in
    single precision: it is the action itself, not a bound of it.
    """
    if action[3] > 0 and action[3] <= np.float32(effort):
        return np.float64(action[3] / np.float32(effort)), True
    return (1.0 if action[3] > 0 else 0.0), False


@compiled
def cage_sides(v, y, start_y, radius, success):
    """How well the two pads stand on both sides of the object at ``y``, in [0, 1].

    Each pad's distance d from the object along y is to lie in [``radius``, ``success``]; outside, long-tailed with the
    margin |d0 - success|, where d0 is its distance from where the object was first.
    """
    sides = (v[LEFT_PAD + 1], v[RIGHT_PAD + 1])
    left = long_tail(abs(sides[0] - y), radius, success, abs(abs(sides[0] - start_y) - success))
    right = long_tail(abs(sides[1] - y), radius, success, abs(abs(sides[1] - start_y) - success))
    return hamacher(left, right)


@compiled
def grip(caging, action, effort):
    """Whether the gripper holds what it encloses, and whether that is a number in single precision: the Hamacher
    product with `closing` where ``caging`` is above 0.97, else 0.
    """
    if caging > 0.97:
        closed, single = closing(action, effort)
        return join(caging, closed, single), single
    return 0.0, False


@compiled
def cage(v, action, obj, radius, success, reach, xz, effort, density):
    """Meta-World's ``_gripper_caging_reward``: whether the gripper encloses and holds the object at ``obj``, in [0, 1];
    and whether that is a number in single precision.

    radius, success: as in `cage_sides`.
    reach: distance from ``obj`` at which the finger tips have reached it; for density 1.
    xz: distance in the x-z plane below which the finger tips are at ``obj``.
    effort: closing that is enough, 1 unless the task says otherwise.
    density: 2 for ``high_density``, the mean with caging alone; 1 for ``medium_density``, the mean with reaching; 0 for
        neither.
    """
    first, start, tips = at(v, OBJ_INIT), at(v, INIT_TCP), tcp(v)
    caging_y = cage_sides(v, obj[1], first[1], radius, success)
    margin = norm2(first[0] - start[0], first[2] - start[2]) - xz
    caging = hamacher(caging_y, long_tail(norm2(tips[0] - obj[0], tips[2] - obj[2]), 0.0, xz, margin))
    both, single = grip(caging, action, effort)
    if density == 2:
        both = multiply(plus(both, caging, single), 0.5, single)
    elif density == 1:
        reaching = long_tail(distance(obj, tips), 0.0, reach, abs(distance(first, start) - reach))
        both = multiply(plus(both, reaching, single), 0.5, single)
    return both, single
