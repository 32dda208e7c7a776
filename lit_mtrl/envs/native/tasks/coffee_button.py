"""coffee-button: press the button on the front of a coffee machine.

With t the distance of the finger tips from the button, d that of the button from the goal along y, R the long tail of t
within 5 cm, P the long tail of d within 5 mm, and O the opening of the gripper, in [0, 1]: reward 2 (O & R), and for
t <= 5 cm 8 P more. Success is d <= 2 cm. & is the Hamacher product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.button import CLOSE, Y, pressing
from lit_mtrl.envs.native.maths import at, hamacher
from lit_mtrl.envs.native.task import evaluator, observer, put, put_quaternion, reads, report

(BUTTON,), READS = reads("site buttonStart")
TRAVEL = 0.03


@observer
def observe(v, objects):
    put(objects, 0, at(v, BUTTON))
    put_quaternion(objects, 3, (1.0, 0.0, 0.0, 0.0))


@evaluator
def evaluate(obs, action, v, out):
    tcp_to_obj, obj_to_target, near, pressed = pressing(obs, v, Y, 0.05, TRAVEL)
    reward = 2 * hamacher(obs[3], near)
    if tcp_to_obj <= 0.05:
        reward += 8 * pressed
    report(out, reward, obj_to_target <= 0.02, tcp_to_obj <= CLOSE, obs[3] > 0, near, pressed, obj_to_target)
