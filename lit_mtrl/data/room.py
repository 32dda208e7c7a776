"""Whether the system allows what the processes of a run need, asked before one is started."""

from __future__ import annotations

from lit_mtrl.core.limits import PAGE, require_open_files, require_shared_memory, shared_bytes
from lit_mtrl.envs.base import Suite
from lit_mtrl.policies.acting import ActingPolicy

WORKER_FILES, EVALUATOR_FILES = 28, 2
"""Open files of this process per process that collects (three queues' and a pipe's ends, a batch's tensors) or plays.
"""
WORKER_TENSORS, FRAME_BYTES = 24, 160
"""Of the batch that a worker shares: tensors, and bytes of a transition beside observations and action."""


def require_room(
    suite: Suite, policy: ActingPolicy, steps: int, copies: int, workers: int, players: int, ranks: int = 1
) -> None:
    """Raise `ConfigError` unless the system allows what `TaskCollector` with ``workers`` and ``players`` evaluating
    processes need.

    On this machine are ``ranks`` like this one. Nothing is started.
    """
    collecting = workers if workers > 1 else 0
    if not collecting + players:
        return
    weights = [*policy.parameters(), *policy.buffers()]
    what = f"{collecting} collecting and {players} evaluating processes"
    key = f"collector.workers={workers}" if collecting else f"eval.workers={players}"
    files = WORKER_FILES * collecting + EVALUATOR_FILES * players + len(weights) * (bool(collecting) + bool(players))
    require_open_files(files, what, key)
    frame = FRAME_BYTES + 4 * (2 * suite.obs_dim + suite.action_dim)
    batches = steps * copies * len(suite.tasks) * frame + collecting * WORKER_TENSORS * PAGE
    shared = shared_bytes(weights) * (bool(collecting) + bool(players)) + batches * bool(collecting)
    require_shared_memory(ranks * shared, what, key)
