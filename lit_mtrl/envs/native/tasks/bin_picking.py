"""bin-picking: take the cube from its bin and put it into the other.

With d the distance of the cube from the other bin, P the long tail of d within 5 cm, its margin what d was after the
first step, G the caging of the cube, and F the long tail, within 1 cm, of how far the hand is below the lower of two
funnels, around the cube's first position and the other bin, whose heights in metres are 0.2 + 0.02 ln(r - 0.03) at a
distance r > 0.03 from their axes: reward G & P, and 1 + 5 (F & P) more once the cube is grasped; 10 at the goal,
d < 5 cm. & is the Hamacher product.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, hamacher, long_tail, norm2
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    cage,
    evaluator,
    join,
    observer,
    plus,
    put,
    put_quaternion,
    quaternion_at,
    reads,
    report,
)

(OBJECT, TURN, FIRST_DISTANCE), READS = reads("body obj", "body_quaternion obj", "start_number curr_path_length")
# The official object sets the margin at the first step after a reset. The path length is 0 after a reset, and its place
# is not read again until the next: ``evaluate`` keeps the margin there.


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@compiled
def funnel(hand, axis):
    """The height of the funnel around ``axis`` where the hand is."""
    radius = norm2(hand[0] - axis[0], hand[1] - axis[1])
    return 0.02 * math.log(radius - 0.03) + 0.2 if radius > 0.03 else 0.0


@evaluator
def evaluate(obs, action, v, out):
    obj, hand, first, target = at(obs, 4), at(obs, 0), at(v, OBJ_INIT), at(v, TARGET)
    obj_to_target = distance(obj, target)
    if v[FIRST_DISTANCE] == 0:
        v[FIRST_DISTANCE] = obj_to_target
    in_place = long_tail(obj_to_target, 0.0, 0.05, v[FIRST_DISTANCE])
    grasped, single = cage(v, action, obj, 0.015, 0.05, 0.01, 0.01, 0.7, 2)
    reward = join(grasped, in_place, single)
    near = distance(obj, hand) < 0.04
    held_up = near and obj[2] - 0.02 > first[2] and not obs[3] < 0.43
    if held_up:
        floor = min(funnel(hand, first), funnel(hand, target))
        above_floor = long_tail(max(floor - hand[2], 0.0), 0.0, 0.01, 0.05)
        reward = plus(reward, 1.0 + 5.0 * hamacher(above_floor, in_place), single)
    if obj_to_target < 0.05:
        reward = 10.0
    report(out, reward, obj_to_target <= 0.05, near, held_up, grasped, in_place, obj_to_target)
