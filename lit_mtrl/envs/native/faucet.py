"""A faucet's handle that is turned to the goal, as the two faucet tasks have it."""

from __future__ import annotations

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, distance, gaussian, long_tail
from lit_mtrl.envs.native.task import INIT_TCP, OBJ_INIT, TARGET, report, tcp

RADIUS = 0.07
"""Distance from the goal that is success."""


@compiled
def turn(v, obj, out):
    """Report on a handle whose end is at ``obj``.

    With d its distance from the goal and t that of the finger tips from it, P the long tail of d within 7 cm, and R the
    Gaussian tail of t within 1 cm: reward 2 (2 R + 3 P), and 10 for d <= 7 cm. Margins are measured from the faucet.
    """
    first, target = at(v, OBJ_INIT), at(v, TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp(v)), distance(obj, target)
    in_place = long_tail(obj_to_target, 0.0, RADIUS, abs(distance(first, target) - RADIUS))
    reach = gaussian(tcp_to_obj, 0.0, 0.01, abs(distance(first, at(v, INIT_TCP)) - 0.01))
    turned = obj_to_target <= RADIUS
    reward = 10.0 if turned else (2 * reach + 3 * in_place) * 2
    report(out, reward, turned, tcp_to_obj <= 0.01, 1.0, reach, in_place, obj_to_target)
