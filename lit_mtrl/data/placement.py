"""Where the buffer lies and where the collecting policy computes, and whether the system allows what a run needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import NestedKey, TensorDict

from lit_mtrl.core.errors import require
from lit_mtrl.core.keys import ACTION, DONE, NEXT_OBS, OBS, SUCCESS, TASK, TERMINATED
from lit_mtrl.core.limits import PAGE, require_open_files, require_shared_memory, shared_bytes
from lit_mtrl.core.suggest import unknown
from lit_mtrl.envs.base import Suite
from lit_mtrl.policies.acting import EXPLORE, ActingPolicy

DEVICES = ("auto", "cpu", "cuda")
SHARE = 0.5
"""``auto`` puts the replay on the learner's GPU if it takes at most so much of what is free there; networks and chunks
need the rest.
"""


WORKER_FILES, EVALUATOR_FILES = 28, 2
"""Open files of this process per process that collects (three queues' and a pipe's ends, a batch's tensors) or plays.
"""
WORKER_TENSORS, FRAME_BYTES = 24, 160
"""Of the batch that a worker shares: tensors, and bytes of a transition beside observations and action."""


@dataclass(frozen=True)
class Place:
    """``device``: the replay's. ``size``: its bytes when full, of each of ``ranks``."""

    device: torch.device
    size: int
    ranks: int = 1

    def __str__(self) -> str:
        return f"replay: {_gigabytes(self.size)} on {self.device}{' for each rank' if self.ranks > 1 else ''}"


def transition_bytes(suite: Suite, stored: Sequence[NestedKey]) -> int:
    """Bytes of one transition of which the keys ``stored`` are kept: float32, and one byte for a flag.

    A key that no suite writes counts as one number.
    """
    flags = (TERMINATED, DONE, SUCCESS)
    sizes = {OBS: 4 * suite.obs_dim, NEXT_OBS: 4 * suite.obs_dim, ACTION: 4 * suite.action_dim}
    known: dict[NestedKey, int] = {**sizes, **dict.fromkeys(flags, 1)}
    return sum(known.get(key, 4) for key in stored)


def place_buffer(
    wanted: str,
    learner: torch.device,
    tasks: int,
    transition: int,
    capacity: int,
    ranks: int = 1,
    key: str = "replay.capacity",
) -> Place:
    """Where ``replay.device = wanted`` puts a buffer; raises `ConfigError` if it does not fit there.

    learner: where the learner computes.
    tasks, transition, capacity: T, bytes of a transition, and how many of each task are held, on all ranks together.
    ranks: each has its part of them, on a GPU of its own, or all in this machine's memory.
    key: what decides about the capacity, as the message names it.
    """
    require(wanted in DEVICES, unknown("replay.device", wanted, DEVICES))
    require_cuda("replay.device", wanted)
    slice_bytes = tasks * transition
    size = capacity // ranks * slice_bytes
    device = torch.device("cpu")
    if wanted == "cuda":
        device = learner if learner.type == "cuda" else torch.device("cuda")
    elif wanted == "auto" and learner.type == "cuda" and size <= SHARE * (free_bytes(learner) or 0):
        device = learner
    free = free_bytes(device)
    if free is not None:
        where, here = ("this machine", ranks) if device.type == "cpu" else (str(device), 1)
        fits = free * ranks // here // slice_bytes
        require(
            size * here <= free,
            f"{key}={capacity}: needs {_gigabytes(size * here)} for {tasks} tasks, {where} has"
            f" {_gigabytes(free)} free; {fits // 1000 * 1000 or fits:_} would fit",
        )
    return Place(device, size, ranks)


def require_free_memory(keys: str, what: str, size: int, device: torch.device) -> None:
    """`ConfigError` naming ``keys`` if ``size`` bytes of ``what`` are more than ``device`` has free."""
    free, where = free_bytes(device), "this machine" if device.type == "cpu" else str(device)
    if free is not None:
        message = f"{keys}: {what} need {_gigabytes(size)}, {where} has {_gigabytes(free)} free; choose smaller ones"
        require(size <= free, message)


def require_processes(
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


def require_cuda(key: str, wanted: str) -> None:
    """Raise `ConfigError` if ``wanted`` is a GPU and there is none."""
    require(
        wanted != "cuda" or torch.cuda.is_available(),
        f"{key}=cuda: PyTorch finds no CUDA device here; use {key}=auto or cpu",
    )


def free_bytes(device: torch.device) -> int | None:
    """Memory that a new allocation can have; on the host at most what the control groups leave. None where the system
    does not say.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return max(0, min(int(fields["MemAvailable"].split()[0]) * 1024, *_control_groups(), 2**63))


def _control_groups(proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What each memory limit on this process leaves, both of version 1 and 2; pages of files count as free, as in
    MemAvailable.
    """
    for line in proc.read_text().splitlines() if proc.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, used, cached = mount, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used, cached = (
                mount / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            if (
                group.is_relative_to(root)
                and (group / limit).exists()
                and (value := (group / limit).read_text().strip()) != "max"
            ):
                stat = dict(entry.split() for entry in (group / "memory.stat").read_text().splitlines())
                yield int(value) - int((group / used).read_text()) + int(stat.get(cached, 0))


def faster_device(policy: ActingPolicy, suite: Suite, copies: int, devices: Sequence[torch.device]) -> torch.device:
    """The one of ``devices`` on which ``policy`` acts faster in all environments at once, measured on copies of it."""
    task = torch.arange(len(suite.tasks)).repeat_interleave(copies)
    td = TensorDict({OBS: torch.zeros(len(task), suite.obs_dim), TASK: task}, [len(task)])
    return min(devices, key=lambda device: _seconds(policy.acting_copy(device), td))


def _seconds(policy: ActingPolicy, td: TensorDict, rounds: int = 20) -> float:
    """Of one call, the fastest of ``rounds`` after as many that warm up."""
    policy.phase.fill_(EXPLORE)
    times = []
    for _ in range(2 * rounds):
        start = time.perf_counter()
        policy(td)
        times.append(time.perf_counter() - start)
    return min(times[rounds:])


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
