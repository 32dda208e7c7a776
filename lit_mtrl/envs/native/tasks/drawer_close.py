"""drawer-close: push the drawer in.

With d the distance of the handle from the goal and t that of the finger tips from the handle, P the long tail of d
within 5 cm, and R = (the Gaussian tail of t within 5 mm) & (the closing of the gripper): reward 10 (R & P), and 10 at
the goal, d <= 6.5 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import add, at, distance, gaussian, long_tail
from lit_mtrl.envs.native.task import (
    INIT_TCP,
    OBJ_INIT,
    TARGET,
    closing,
    evaluator,
    join,
    multiply,
    observer,
    put,
    reads,
    report,
    tcp,
)

(DRAWER,), READS = reads("body drawer_link")
HANDLE = (0.0, -0.16, 0.05)
RADIUS, TOUCH = 0.05, 0.005


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, DRAWER), HANDLE))


@evaluator
def evaluate(obs, action, v, out):
    obj, first, target = at(obs, 4), at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, RADIUS, abs(distance(first, target) - RADIUS))
    near = gaussian(tcp_to_obj, 0.0, TOUCH, abs(distance(first, at(v, INIT_TCP)) - TOUCH))
    closed, single = closing(action, 1.0)
    reach = join(near, closed, single)
    shut = obj_to_target <= RADIUS + 0.015
    reward = 10.0 if shut else multiply(join(reach, in_place, single), 10.0, single)
    report(out, reward, shut, tcp_to_obj <= 0.01, 1.0, reach, in_place, obj_to_target)
