"""pick-place-wall: lift the puck over the wall and hold it at the goal, in the air.

The way leads over a point m above the wall. With P and Q the long tails, within 5 cm, of the puck's distances from m (z
threefold) and from the goal, and G the caging of the puck: reward G & P; once the puck is lifted G & P + 1 + 4 P, and
beyond y = 0.75 instead G & P + 5 + 3 Q; 10 within 5 cm of the goal. Success is 7 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, norm, quaternion, sub, times
from lit_mtrl.envs.native.sides import held
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
    reads,
    report,
    tcp,
)

(OBJECT, TURN, TOUCHING), READS = reads("geom objGeom", "geom_matrix objGeom", "touching objGeom")
SCALE = (1.0, 1.0, 3.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    above = (target[0], 0.77, 0.25)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    passed = long_tail(norm(times(sub(obj, above), SCALE)), 0.0, 0.05, norm(times(sub(first, above), SCALE)))
    in_place = long_tail(obj_to_target, 0.0, 0.05, distance(first, target))
    grasped, single = cage(v, action, obj, 0.015, 0.05, 0.01, 0.005, 1.0, 0)
    reward = join(grasped, passed, single)
    if tcp_to_obj < 0.02 and obs[3] > 0 and obj[2] - 0.015 > first[2]:
        reward = plus(reward, 1.0, single)
        if obj[1] > 0.75:
            reward = plus(plus(reward, 4.0, single), 3 * in_place, single)
        else:
            reward = plus(reward, 4 * passed, single)
    if obj_to_target < 0.05:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
