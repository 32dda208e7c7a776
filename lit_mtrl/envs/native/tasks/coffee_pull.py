"""coffee-pull: pull the mug out from under the coffee machine to the goal.

With d the distance of the mug from the goal (x and y doubled), P the long tail of d within 5 cm, and G the caging of
the mug: reward G & P, with the open gripper around the mug 1 + 5 P more; 10 at the goal, d < 5 cm. Success is 7 cm, not
doubled. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, quaternion
from lit_mtrl.envs.native.mug import carry
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, reads

(MUG, TURN, TOUCHING), READS = reads("body obj", "geom_matrix mug", "touching mug")


@observer
def observe(v, objects):
    put(objects, 0, at(v, MUG))
    put_quaternion(objects, 3, quaternion(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    carry(obs, action, v, TOUCHING, out)
