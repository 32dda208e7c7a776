"""handle-press-side: press down the handle of a box that stands at the side.

With d the height of the handle above the goal and t the distance of the finger tips from the handle, P and R the long
tails of d and of t within 2 cm: reward 10 (R & P), and 10 at the goal, d <= 2 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.handle import press
from lit_mtrl.envs.native.maths import at
from lit_mtrl.envs.native.task import evaluator, observer, put, reads

(HANDLE, FIRST), READS = reads("site handleStart", "start _handle_init_pos")


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))


@evaluator
def evaluate(obs, action, v, out):
    press(obs, v, FIRST, out)
