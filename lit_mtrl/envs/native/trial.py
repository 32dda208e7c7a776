"""A first step in compiled code, before anything depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_mtrl.envs.native.group import Group
from lit_mtrl.envs.native.rows import module_of

if TYPE_CHECKING:
    from lit_mtrl.envs.metaworld import MetaWorldTask


class DifferentError(RuntimeError):
    """The compiled step is not the official one."""


def trial(tasks: Sequence[str], official: MetaWorldTask) -> None:
    """Compile what ``tasks`` need, or take it from the disk, and compare a step of the first one with the official one.

    official: an environment of ``tasks[0]``; it is closed.

    Raises what numba raises, `lit_mtrl.envs.native.layout.LayoutError` and `DifferentError`.
    """
    for task in tasks:
        module_of(task)
    action, obs = np.array([0.5, -0.5, 0.25, 1.0], np.float32), np.zeros((1, 39), np.float32)
    official.reset(0)
    wanted, reward, _, success = official.step(action)
    group = Group(tasks[:1], [official], threads=1)
    for _ in range(2):  # from the official reset, and from what is kept of it
        group.begin([0], [0], obs)
        got, gained, succeeded = group.step(action)
        seen = np.array_equal(got.astype(np.float32), wanted.astype(np.float32))
        if not seen or not np.isclose(gained, reward, rtol=1e-9) or succeeded != success:
            raise DifferentError(f"{tasks[0]}: its compiled step is not the official one")
    group.compile()
    group.close()
