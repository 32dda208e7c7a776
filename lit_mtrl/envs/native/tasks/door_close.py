"""door-close: push an open door shut.

With d the distance of the handle from the goal, t that of the finger tips from it, P the Gaussian of d within 5 cm, and
T the Gaussian of t within 1.25 cm: reward 3 T + 6 P, and 10 for d < 5 cm. Success is d <= 8 cm. The margin of t is
10 cm more than the distance of the handle from the hand's first position. T is reported in the place of P, and the
grasp counts as done.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, gaussian, quaternion
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, evaluator, observer, put, put_quaternion, reads, report, tcp

(HANDLE, TURN, HAND_START), READS = reads("geom handle", "geom_matrix handle", "start hand_init_pos")
SHUT = 0.05


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    obj, target = at(obs, 4), at(v, TARGET)
    obj_to_target = distance(obj, target)
    in_place = gaussian(obj_to_target, 0.0, SHUT, distance(at(v, OBJ_INIT), target))
    margin = distance(at(v, HAND_START), obj) + 0.1
    hand_in_place = gaussian(distance(tcp(v), target), 0.0, 0.25 * SHUT, margin)
    reward = 10.0 if obj_to_target < SHUT else 3 * hand_in_place + 6 * in_place
    report(out, reward, obj_to_target <= 0.08, 0.0, 1.0, 1.0, hand_in_place, obj_to_target)
