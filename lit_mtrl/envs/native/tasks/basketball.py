"""basketball: lift the ball and drop it into the hoop.

With d the distance of the ball from a point 30 cm above the table at the goal (z doubled), P the long tail of d within
8 cm, and G the caging of the ball: reward G & P, and once the ball is lifted 1 + 5 P more; 10 for d < 8 cm. & is the
Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, norm, sub, times
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
    tcp,
)

(BALL, TURN), READS = reads("body bsktball", "body_quaternion bsktball")
SCALE, RADIUS = (1.0, 1.0, 2.0), 0.08


@observer
def observe(v, objects):
    put(objects, 0, at(v, BALL))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, opened, first = at(obs, 4), obs[3], at(v, OBJ_INIT)
    target = (v[TARGET], v[TARGET + 1], 0.3)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), norm(times(sub(obj, target), SCALE))
    in_place = long_tail(obj_to_target, 0.0, RADIUS, norm(times(sub(first, target), SCALE)))
    grasped, single = cage(v, action, obj, 0.025, 0.06, 0.01, 0.005, 1.0, 2)
    lifted = tcp_to_obj < 0.035 and opened > 0 and obj[2] - 0.01 > first[2]
    if lifted:
        grasped, single = 1.0, False
    reward = join(grasped, in_place, single)
    if lifted:
        reward = plus(reward, 1.0 + 5.0 * in_place, single)
    if obj_to_target < RADIUS:
        reward = 10.0
    held_up = opened > 0 and obj[2] - 0.03 > first[2]
    report(out, reward, obj_to_target <= RADIUS, tcp_to_obj <= 0.05, held_up, grasped, in_place, obj_to_target)
