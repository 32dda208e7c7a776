"""handle-pull-side: grasp the handle of a box that stands at the side and pull it up.

With d the distance of the handle from the goal, P the long tail of d within 5 cm, and G the caging of the handle:
reward G & P, and 1 + 5 P more with the finger tips within 3.5 cm of the handle, the gripper not shut and the handle up;
10 at the goal, d < 5 cm. Success is 8 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.handle import pull
from lit_mtrl.envs.native.maths import at, distance
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, evaluator, observer, put, reads

(HANDLE,), READS = reads("site handleCenter")


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))


@evaluator
def evaluate(obs, action, v, out):
    target = at(v, TARGET)
    to_target = (distance(at(obs, 4), target), distance(at(v, OBJ_INIT), target))
    pull(obs, action, v, to_target, (0.032, 0.06), obs[6], 0.08, out)
