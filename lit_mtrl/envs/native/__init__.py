"""Meta-World's v2 environments stepped in compiled code, with the official objects' own results.

The official package builds the environments and resets them. `step` is compiled by numba: MuJoCo's own library moves
the simulation, the observation, the reward and the success are computed here. `tasks` has a file for each task, `task`
says what it consists of.
"""

from __future__ import annotations

import functools
import logging

log = logging.getLogger("lit_mtrl")


@functools.cache
def possible() -> bool:
    """Whether this machine can; says why not, once."""
    try:
        from lit_mtrl.envs.native import vector  # noqa: F401
        from lit_mtrl.envs.native.layout import layout

        layout()
    except Exception as error:  # numba is missing or fails, MuJoCo is laid out otherwise
        log.warning("env.engine=native: %s; steps are the official ones (engine=python)", error)
        return False
    return True
