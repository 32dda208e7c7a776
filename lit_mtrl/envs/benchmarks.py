"""Meta-World's task lists.

Task order is the one-hot order, so it is part of a benchmark's definition. The lists are those of Meta-World 3.1.1
(``metaworld.env_dict``), written out so that the command line can name tasks without importing MuJoCo; a test compares
them with the installed package.
"""

from __future__ import annotations

from collections.abc import Sequence

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown

MT10 = (
    "reach push pick-place door-open drawer-open drawer-close button-press-topdown"
    " peg-insert-side window-open window-close"
).split()
MT25 = (
    MT10
    + (
        "coffee-pull pick-out-of-hole disassemble pick-place-wall basketball stick-pull"
        " button-press-wall faucet-open door-lock lever-pull sweep-into faucet-close coffee-button"
        " button-press-topdown-wall dial-turn"
    ).split()
)
MT50 = (
    "assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall"
    " button-press button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble"
    " door-close door-lock door-open door-unlock hand-insert drawer-close drawer-open faucet-open"
    " faucet-close hammer handle-press-side handle-press handle-pull-side handle-pull lever-pull"
    " pick-place-wall pick-out-of-hole pick-place plate-slide plate-slide-side plate-slide-back"
    " plate-slide-back-side peg-insert-side peg-unplug-side soccer stick-push stick-pull push"
    " push-wall push-back reach reach-wall shelf-place sweep-into sweep window-open window-close"
).split()
BENCHMARKS = {"mt10": MT10, "mt25": MT25, "mt50": MT50}


def task_names(tasks: Sequence[str] | str) -> list[str]:
    """Names in one-hot order of a list of tasks or of a benchmark; raises `ConfigError` on a benchmark that does not
    exist.
    """
    if isinstance(tasks, str):
        require(tasks in BENCHMARKS, unknown("benchmark.tasks", tasks, BENCHMARKS))
        return list(BENCHMARKS[tasks])
    return list(tasks)
