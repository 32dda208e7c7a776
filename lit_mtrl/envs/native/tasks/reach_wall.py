"""reach-wall: bring the finger tips to the goal, behind a wall.

The reward is that of reach: 10 P, where P is the long tail of their distance d from the goal within 5 cm, its margin
the distance of the hand's first position from the goal. Success is d <= 5 cm. What other tasks report of the object and
the grasp is 0.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, distance, long_tail, quaternion
from lit_mtrl.envs.native.task import TARGET, evaluator, observer, put, put_quaternion, reads, report, tcp

(OBJECT, TURN, HAND), READS = reads("body obj", "geom_matrix objGeom", "start hand_init_pos")


@observer
def observe(v, objects):
    put(objects, 0, at(v, OBJECT))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    target = at(v, TARGET)
    left = distance(tcp(v), target)
    in_place = long_tail(left, 0.0, 0.05, distance(at(v, HAND), target))
    report(out, 10 * in_place, left <= 0.05, 0.0, 0.0, 0.0, in_place, left)
