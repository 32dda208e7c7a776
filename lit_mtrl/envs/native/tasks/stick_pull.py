"""stick-pull: lift the stick, put it through the container's handle and pull the container to the goal.

With P, S and C the long tails, within 5 cm, of the distances of the stick from the container (z doubled), of the stick
from the goal and of the container from the goal, and G the caging of the stick: reward G & P; once the stick is lifted
between the fingers 1 + 5 P more, once it is through the handle instead 6 + 2 S + C more, and then 10 if the handle is
at most 12 cm from the goal. Success is the last, held or not. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import add, at, distance, long_tail, norm, quaternion, sub, times
from lit_mtrl.envs.native.sides import held
from lit_mtrl.envs.native.task import (
    OBJ_INIT,
    TARGET,
    cage,
    evaluator,
    join,
    observer,
    put,
    put_quaternion,
    reads,
    report,
    tcp,
)

(STICK, TURN, HOLE, END, TOUCHING, FIRST), READS = reads(
    "body stick",
    "body_matrix stick",
    "site insertion",
    "site stick_end",
    "touching objGeom",
    "start stick_init_pos",
)
INSIDE, SCALE = (0.05, 0.0, 0.0), (1.0, 1.0, 2.0)
RADIUS = 0.05


@observer
def observe(v, objects):
    put(objects, 0, at(v, STICK))
    put_quaternion(objects, 3, quaternion(v, TURN))
    put(objects, 7, at(v, HOLE))


@compiled
def inserted(handle, end):
    """Whether the stick's end has passed the handle."""
    return end[0] >= handle[0] and abs(end[1] - handle[1]) <= 0.04 and abs(end[2] - handle[2]) <= 0.06


@evaluator
def evaluate(obs, action, v, out):
    stick, handle, target, first, start = at(obs, 4), at(obs, 11), at(v, TARGET), at(v, FIRST), at(v, OBJ_INIT)
    container = add(handle, INSIDE)
    tcp_to_stick, to_target = distance(stick, tcp(v)), distance(handle, target)
    margin = norm(times(sub(first, add(start, INSIDE)), SCALE))
    in_place = long_tail(norm(times(sub(stick, container), SCALE)), 0.0, RADIUS, margin)
    stick_there = long_tail(distance(stick, target), 0.0, RADIUS, distance(first, target))
    container_there = long_tail(distance(container, target), 0.0, RADIUS, distance(start, target))
    grasped, single = cage(v, action, stick, 0.014, 0.05, 0.01, 0.01, 1.0, 2)
    lifted = tcp_to_stick < 0.02 and obs[3] > 0 and stick[2] - 0.01 > first[2]
    if lifted:
        grasped, single = 1.0, False
    through = inserted(handle, at(v, END))
    success = to_target <= 0.12 and through
    reward = join(grasped, in_place, single)
    if lifted and success:
        reward = 10.0
    elif lifted and through:
        reward = 1.0 + reward + 5.0 + 2.0 * stick_there + container_there
    elif lifted:
        reward = 1.0 + reward + 5.0 * in_place
    held_up = held(obs, v, TOUCHING)
    report(out, reward, success, tcp_to_stick <= 0.03, held_up, grasped, in_place, to_target)
