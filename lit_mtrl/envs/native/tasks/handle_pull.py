"""handle-pull: grasp the handle of a box that faces the robot and pull it up.

With d the difference of the heights of handle and goal, P the long tail of d within 5 cm, and G the caging of the
handle: reward G & P, and 1 + 5 P more with the finger tips within 3.5 cm of the handle and the gripper not shut; 10 at
the goal, d < 5 cm. & is the Hamacher product. That the handle is up is asked of its y, which is always so.
"""

from __future__ import annotations

from lit_mtrl.envs.native.handle import pull
from lit_mtrl.envs.native.maths import at
from lit_mtrl.envs.native.task import OBJ_INIT, TARGET, evaluator, observer, put, reads

(HANDLE,), READS = reads("site handleRight")


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))


@evaluator
def evaluate(obs, action, v, out):
    goal = v[TARGET + 2]
    to_target = (abs(goal - obs[6]), abs(goal - v[OBJ_INIT + 2]))
    pull(obs, action, v, to_target, (0.022, 0.05), obs[5], 0.05, out)
