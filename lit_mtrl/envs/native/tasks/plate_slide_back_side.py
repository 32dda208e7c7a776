"""plate-slide-back-side: slide the plate to the side, out of the cabinet.

Reward: see `lit_mtrl.envs.native.plate.drag`. Success is 7 cm.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, quaternion
from lit_mtrl.envs.native.plate import drag
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, reads

(PLATE, TURN), READS = reads("geom puck", "geom_matrix puck")


@observer
def observe(v, objects):
    put(objects, 0, at(v, PLATE))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    drag(obs, v, out)
