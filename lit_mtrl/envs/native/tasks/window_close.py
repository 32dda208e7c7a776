"""window-close: slide the window to the left by its handle.

With d the distance of the handle from the goal along x and t that of the finger tips from the handle, P the long tail
of d within 5 cm, and R the Gaussian tail of t within 2 cm: reward 10 (R & P). Success is d <= 5 cm. & is the Hamacher
product.
"""

from __future__ import annotations

from lit_mtrl.envs.native.maths import at, gaussian
from lit_mtrl.envs.native.task import evaluator, observer, put, reads
from lit_mtrl.envs.native.window import TOUCH, apart, slide

(HANDLE, FIRST), READS = reads("site handleCloseStart", "start window_handle_pos_init")


@observer
def observe(v, objects):
    put(objects, 0, at(v, HANDLE))


@evaluator
def evaluate(obs, action, v, out):
    tcp_to_obj, margin = apart(obs, v, FIRST)
    slide(obs, v, v[FIRST], tcp_to_obj, gaussian(tcp_to_obj, 0.0, TOUCH, margin), out)
