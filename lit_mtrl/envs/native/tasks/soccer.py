"""soccer: push the ball into the goal.

With d the distance of the ball from the goal and d0 that from its own first position (x threefold in both), P the long
tail of d within 7 cm, its margin d0, and G the squeezing of the ball: reward 3 G + 6.5 P'; 10 at the goal, d < 7 cm. P'
is P, less twice the share of the way from the goal line to y = 1, at least 0, where the ball is past the line and more
than 10 cm beside the goal. Success is 7 cm, x not scaled.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, clip, distance, long_tail, norm, quaternion, sub, times
from lit_mtrl.envs.native.sides import held, squeeze
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, evaluator, observer, put, put_quaternion, reads, report, tcp

(OBJECT, TURN, TOUCHING, LEFT_FIRST, RIGHT_FIRST), READS = reads(
    "body soccer_ball",
    "body_matrix soccer_ball",
    "touching objGeom",
    "start init_left_pad",
    "start init_right_pad",
)
FIRSTS = (LEFT_FIRST, RIGHT_FIRST)
SCALE = (3.0, 1.0, 1.0)


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, target = at(obs, 4), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    scaled = norm(times(sub(obj, target), SCALE))
    in_place = long_tail(scaled, 0.0, 0.07, norm(times(sub(obj, at(v, OBJ_INIT)), SCALE)))
    line = target[1] - 0.1
    if obj[1] > line and abs(obj[0] - target[0]) > 0.1:
        in_place = clip(in_place - 2 * ((obj[1] - line) / (1 - line)), 0.0, 1.0)
    grasped = squeeze(v, FIRSTS, obj, 0.013, 0.01, 0.005)
    reward = 3 * grasped + 6.5 * in_place
    if scaled < 0.07:
        reward = 10.0
    held_up = held(obs, v, TOUCHING)
    report(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, held_up, grasped, in_place, obj_to_target)
