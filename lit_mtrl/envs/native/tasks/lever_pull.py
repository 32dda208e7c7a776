"""lever-pull: lift the lever from below until it points straight up.

With d the distance of the lever's end from the goal and s that of the arm's shoulder, 5.5 cm beyond and 7 cm above the
hand, from the lever's end (x and z times 4), P the long tail of d within 4 cm, and S the long tail of s within 2 cm:
reward 10 (S & P). & is the Hamacher product. Success is an angle e from the vertical of at most 7.5 degrees; where
other tasks report the grasp, P and d, this one reports S, the long tail of e within 3.75 degrees, and s.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.maths import add, at, distance, hamacher, long_tail, norm, quaternion, sub, times
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    TARGET,
    evaluator,
    observer,
    put,
    put_quaternion,
    reads,
    report,
)

(LEVER, TURN, ANGLE, FIRST), READS = reads(
    "site leverStart",
    "geom_matrix objGeom",
    "joint LeverAxis",
    "start _lever_pos_init",
)
SHOULDER, SCALE = (0.0, 0.055, 0.07), (4.0, 1.0, 4.0)
UPRIGHT, SUCCESS = math.pi / 2.0, math.pi / 24
ENGAGED, AWAY = math.pi / 48.0, math.pi / 2.0 - math.pi / 12.0


@observer
def observe(v, objects):
    put(objects, 0, at(v, LEVER))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    lever, first, target = at(obs, 4), at(v, FIRST), at(v, TARGET)
    shoulder = norm(times(sub(add(at(obs, 0), SHOULDER), lever), SCALE))
    margin = norm(times(sub(add(at(v, INIT_TCP), SHOULDER), first), SCALE))
    ready = long_tail(shoulder, 0.0, 0.02, margin)
    error = abs(-v[ANGLE] - UPRIGHT)
    engaged = long_tail(error, 0.0, ENGAGED, AWAY)
    in_place = long_tail(distance(lever, target), 0.0, 0.04, distance(first, target))
    reward = 10.0 * hamacher(ready, in_place)
    report(out, reward, error <= SUCCESS, shoulder < 0.03, ready > 0.9, ready, engaged, shoulder)
