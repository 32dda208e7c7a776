"""A handle that is pressed down or pulled up, as the four handle tasks have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail
from lit_mtrl.envs.native.task import INIT_TCP, OBJ_INIT, TARGET, cage, join, plus, report, tcp

PRESSED, PULLED = 0.02, 0.05
"""Distance from the goal within which the reward is 10: up to the first, below the second."""


@compiled
def press(obs, v, first, out):
    """Report on a handle to be pressed down to the height of the goal.

    With d the difference of the heights and t the distance of the finger tips from the handle, P and R the long tails
    of d and of t within 2 cm: reward 10 (R & P), and 10 for d <= 2 cm. & is the Hamacher product.

    first: where the handle's first position begins in ``v``.
    """
    obj, start = at(obs, 4), at(v, first)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), abs(obj[2] - v[TARGET + 2])
    in_place = long_tail(obj_to_target, 0.0, PRESSED, abs(abs(start[2] - v[TARGET + 2]) - PRESSED))
    reach = long_tail(tcp_to_obj, 0.0, 0.02, abs(distance(start, at(v, INIT_TCP)) - 0.02))
    pressed = obj_to_target <= PRESSED
    reward = 10.0 if pressed else hamacher(reach, in_place) * 10
    report(out, reward, pressed, tcp_to_obj <= 0.05, 1.0, reach, in_place, obj_to_target)


@compiled
def pull(obs, action, v, to_target, sizes, above, success, out):
    """Report on a handle to be grasped and pulled up to the goal.

    With d its distance from the goal, P the long tail of d within 5 cm, and G the caging of the handle: reward G & P,
    with the finger tips at the handle and the handle up 1 + 5 P more; 10 for d < 5 cm.

    to_target: d, and what it was first.
    sizes: radius and reach of the pads, as `cage` has them.
    above: a number that is more than 1 cm above the first height when the handle is up.
    success: the largest d that is success.
    """
    obj, height, (obj_to_target, margin), (radius, wide) = at(obs, 4), v[OBJ_INIT + 2], to_target, sizes
    tcp_to_obj = distance(obj, tcp(v))
    in_place = long_tail(obj_to_target, 0.0, PULLED, margin)
    grasped, single = cage(v, action, obj, radius, wide, 0.01, 0.01, 1.0, 2)
    reward = join(grasped, in_place, single)
    if tcp_to_obj < 0.035 and obs[3] > 0 and above - 0.01 > height:
        reward = plus(reward, 1.0 + 5.0 * in_place, single)
    if obj_to_target < PULLED:
        reward = 10.0
    held_up = obs[3] > 0 and obj[2] - 0.03 > height
    report(out, reward, obj_to_target <= success, tcp_to_obj <= 0.05, held_up, grasped, in_place, obj_to_target)
