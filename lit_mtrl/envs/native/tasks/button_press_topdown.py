"""button-press-topdown: press the button on top of a box down into it.

With t the distance of the finger tips from the button, d that of the button from the goal along z, R the long tail of t
within 1 cm, P the long tail of d within 5 mm, and O the opening of the gripper, in [0, 1]: reward 5 ((1 - O) & R),
and for t <= 3 cm 5 P more. Success is d <= 2.4 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.button import CLOSE, Z, pressing
from lit_mtrl.envs.native.maths import add, at, hamacher
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, quaternion_at, reads, report

(BUTTON, TURN, TRAVEL), READS = reads(
    "body button",
    "body_quaternion button",
    "start_number _obj_to_target_init",
)
FACE = (0.0, 0.0, 0.193)


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, BUTTON), FACE))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    tcp_to_obj, obj_to_target, near, pressed = pressing(obs, v, Z, 0.01, v[TRAVEL])
    reward = 5 * hamacher(1 - obs[3], near)
    if tcp_to_obj <= 0.03:
        reward += 5 * pressed
    report(out, reward, obj_to_target <= 0.024, tcp_to_obj <= CLOSE, obs[3] > 0, near, pressed, obj_to_target)
