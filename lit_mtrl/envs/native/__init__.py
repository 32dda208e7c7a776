"""Meta-World's v2 environments stepped in compiled code, with the official objects' own results.

The official package builds the environments and resets them. `step` is compiled by numba: MuJoCo's own library moves
the simulation, the observation, the reward and the success are computed here. `tasks` has a file for each task, `task`
says what it consists of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lit_mtrl.core.once import warn_once

if TYPE_CHECKING:
    from lit_mtrl.envs.metaworld import MetaWorldTask

_tried: dict[tuple[str, ...], bool] = {}


def possible(tasks: Sequence[str], make: Callable[[], MetaWorldTask]) -> bool:
    """Whether this machine steps ``tasks`` in compiled code, found by doing it; says why not, once.

    make: builds the official environment of the first of them.
    """
    key = tuple(tasks)
    if key not in _tried:
        try:
            from lit_mtrl.envs.native.trial import trial

            trial(tasks, make())
            _tried[key] = True
        except Exception as error:  # numba is missing or fails, MuJoCo is laid out otherwise
            _tried[key] = False
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warn_once(f"env.engine=native: {reason}; steps are the official code's (env.engine=python)")
    return _tried[key]
