"""Two processes with a process group between them, in which tests run their functions."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from lit_mtrl.core.processes import die_with_parent
from tests.helpers.processes import free_port

SIZE = 2


class TwoRanks:
    """``run(function, *args)`` calls ``function(*args)`` on both ranks at once and returns both results."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        port = free_port()
        pairs = [spawn.Pipe() for _ in range(SIZE)]
        self.pipes = [ours for ours, _ in pairs]
        self.processes = [
            spawn.Process(target=_serve, args=(rank, port, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable, *args: Any) -> list[Any]:
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = []
        for pipe in self.pipes:
            assert pipe.poll(120), "a rank does not answer"
            answers.append(pipe.recv())
        for fine, answer in answers:
            assert fine, answer
        return [answer for _, answer in answers]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@contextmanager
def two_ranks() -> Iterator[TwoRanks]:
    pair = TwoRanks()
    try:
        yield pair
    finally:
        pair.close()


def _serve(rank: int, port: int, pipe: Any) -> None:
    die_with_parent()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=SIZE)
    while True:
        function, args = pipe.recv()
        torch.set_default_dtype(torch.float32)
        try:
            pipe.send((True, function(*args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
