"""stick-push: lift the stick and push the container to the goal with it.

With s and d the distances of the stick and of the container from the goal, P and C the long tails of s and of d within
12 cm, their margins 12 cm less than the first distances, and G the caging of the stick, measured from where the stick
was first: reward G; once the stick is lifted between the fingers 2 + 5 P + 3 C, and 10 for d <= 12 cm. Success is that
distance while both pads press on the stick and it is lifted.
"""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import add, at, distance, hamacher, long_tail, norm2, quaternion
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    OBJ_INIT,
    TARGET,
    cage_sides,
    evaluator,
    grip,
    multiply,
    observer,
    plus,
    put,
    put_quaternion,
    reads,
    report,
    tcp,
)

(STICK, TURN, HOLE, TOUCHING, FIRST), READS = reads(
    "body stick",
    "body_matrix stick",
    "site insertion",
    "touching objGeom",
    "start stick_init_pos",
)
MIDDLE, GRASPED = (0.0, 0.09, 0.0), (0.015, 0.0, 0.0)
RADIUS = 0.12


@observer
def observe(v, objects):
    put(objects, 0, at(v, STICK))
    put_quaternion(objects, 3, quaternion(v, TURN))
    put(objects, 7, add(at(v, HOLE), MIDDLE))


@compiled
def grasp(v, action, stick, first):
    """G, and whether it is in single precision: `cage` with the stick's first position as the object's."""
    start, tips = at(v, INIT_TCP), tcp(v)
    margin = norm2(first[0] - start[0], first[2] - start[2]) - 0.01
    near = long_tail(norm2(tips[0] - stick[0], tips[2] - stick[2]), 0.0, 0.01, margin)
    caging = hamacher(cage_sides(v, stick[1], first[1], 0.04, 0.05), near)
    both, single = grip(caging, action, 1.0)
    return multiply(plus(both, caging, single), 0.5, single), single


@evaluator
def evaluate(obs, action, v, out):
    stick, container, target, first = add(at(obs, 4), GRASPED), at(obs, 11), at(v, TARGET), at(v, FIRST)
    tcp_to_stick, to_target = distance(stick, tcp(v)), distance(container, target)
    in_place = long_tail(distance(stick, target), 0.0, RADIUS, distance(first, target) - RADIUS)
    pushed = long_tail(to_target, 0.0, RADIUS, distance(at(v, OBJ_INIT), target) - RADIUS)
    grasped, _ = grasp(v, action, stick, first)
    reward = grasped
    lifted = obs[3] > 0 and stick[2] - 0.01 > first[2]
    if tcp_to_stick < 0.02 and lifted:
        grasped = 1.0
        reward = 10.0 if to_target <= RADIUS else 2.0 + 5.0 * in_place + 3.0 * pushed
    held_up = v[TOUCHING] > 0 and lifted
    success = held_up and to_target <= RADIUS
    report(out, reward, success, tcp_to_stick <= 0.03, held_up, grasped, in_place, to_target)
