"""button-press-wall: reach over a wall and press the button on the front of a box into it.

With t the distance of the finger tips from the button, d that of the button from the goal along y, R the long tail of t
within 1 cm, P the long tail of d within 5 mm, and O the opening of the gripper, in [0, 1]: reward 2 ((1 - O) / 2 & R)
for t > 7 cm, and 2 + 2 (1 + O) + 4 P^2 nearer. Success is d <= 3 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.button import CLOSE, Y, pressing
from lit_mtrl.envs.native.maths import add, at, hamacher
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, quaternion_at, reads, report

(BUTTON, TURN, TRAVEL), READS = reads(
    "body button",
    "body_quaternion button",
    "start_number _obj_to_target_init",
)
FACE = (0.0, -0.193, 0.0)


@observer
def observe(v, objects):
    put(objects, 0, add(at(v, BUTTON), FACE))
    put_quaternion(objects, 3, quaternion_at(v, TURN))


@evaluator
def evaluate(obs, action, v, out):
    tcp_to_obj, obj_to_target, near, pressed = pressing(obs, v, Y, 0.01, v[TRAVEL])
    if tcp_to_obj > 0.07:
        reward = 2 * hamacher((1 - obs[3]) / 2.0, near)
    else:
        reward = 2.0 + 2 * (1 + obs[3]) + 4 * (pressed * pressed)
    report(out, reward, obj_to_target <= 0.03, tcp_to_obj <= CLOSE, obs[3] > 0, near, pressed, obj_to_target)
