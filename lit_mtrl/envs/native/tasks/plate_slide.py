"""plate-slide: slide the plate away from the robot, into the cabinet.

With d the distance of the plate from the goal and t that of the finger tips from the plate, P and R the long tails of d
and of t within 5 cm, with the first distances as margins: reward 8 (R & P); 10 for d < 5 cm. & is the Hamacher product.
Success is 7 cm.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, hamacher, quaternion
from lit_mtrl.envs.native.plate import tails, tell
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, reads

(PLATE, TURN), READS = reads("geom puck", "geom_matrix puck")


@observer
def observe(v, objects):
    put(objects, 0, at(v, PLATE))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    found = tails(obs, v, 0.0)
    tell(out, 8 * hamacher(found[2], found[3]), found)
