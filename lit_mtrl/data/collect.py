"""With `lit_mtrl.data.watch` the only module that knows TorchRL's collectors.

NOTE 1: TorchRL sets the main process' thread count to (threads - workers); we pass the count it had, since the workers
        are idle while the learner computes.
NOTE 2: the weights' acknowledgements are awaited by a scheme of our own (`lit_mtrl.data.watch.WatchedWeights`): a
        worker that died would be waited for. We look ourselves who has died, before TorchRL does: it would end the
        others, and then one cannot tell who was first.
NOTE 3: worker processes keep their standard error in a file, so that the error of one that dies can be quoted. One that
        cannot send what it was asked for dies of it (`lit_mtrl.data.watch`): Python would print that and go on, and its
        batch would be waited for without end.
NOTE 4: in this process TorchRL gets the policy as a plain function, so that it neither moves nor synchronises it:
        `publish` copies the weights, and the policy itself crosses to its device and back. Batches are `rollout`'s own
        stack, without a buffer that would be filled and copied out again.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import Collector
from torchrl.envs.utils import ExplorationType

from lit_mtrl.core.errors import require
from lit_mtrl.core.limits import remedy
from lit_mtrl.data.watch import HAVE_ENDED, WatchedWeights, exit_code, require_alive, started, watched_get, worker_env
from lit_mtrl.envs.base import Suite
from lit_mtrl.envs.vector import FLAGS, STATS, vector_env
from lit_mtrl.policies.acting import ActingPolicy

LEFT_OUT = ("collector", *STATS, *FLAGS)
"""Of the batches: before a step they say nothing; after it they are under ``next``."""


class WorkerError(RuntimeError):
    """A collecting process died or could not be started; the message holds its traceback, its exit code where it left
    none, or the remedy.
    """


class InterruptError(RuntimeError):
    """A collection in this process was ended by `TaskCollector.interrupt`."""


class TaskCollector:
    """Collects n = ``steps`` vector steps at a time: ``[T, E, n]``, row t being task t, for E = ``copies``.

    ``workers``: processes, each owning some of the tasks; 1 collects in this process. ``stagger``: see
    `lit_mtrl.envs.vector`. ``policy_device``: where the policy computes, the host for several workers. `publish` sends
    the policy's weights and orders; `restart` begins new episodes everywhere on a fresh random stream. None of these
    may be called during a `collect` in another thread.
    """

    def __init__(
        self,
        suite: Suite,
        policy: ActingPolicy,
        steps: int,
        copies: int = 1,
        workers: int = 1,
        stagger: bool = False,
        policy_device: torch.device | str = "cpu",
    ):
        tasks = len(suite.tasks)
        require(steps > 0, f"collector.steps={steps}: collect at least one vector step at a time")
        require(copies > 0, f"collector.copies={copies}: at least one environment per task")
        require_workers(suite, workers, policy_device)
        self.steps, self.copies, self.num_tasks = steps, copies, tasks
        self._source, self._names = policy, list(suite.tasks)
        self._together = suite.vector_class() is not None
        self._policy = policy.acting_copy(policy_device)
        self._interrupted = False
        self._owned = [list(range(tasks))[w * tasks // workers : (w + 1) * tasks // workers] for w in range(workers)]
        make: list[Any] = [partial(vector_env, suite, owned, copies, stagger) for owned in self._owned]
        common: Any = dict(
            total_frames=-1,
            device="cpu",
            trust_policy=True,
            exploration_type=ExplorationType.RANDOM,
            auto_register_policy_transforms=False,
        )
        if workers == 1:
            self._logs = None
            frames = steps * copies * tasks
            self._collector: Any = Collector(
                make[0], self._act, frames_per_batch=frames, track_traj_ids=False, use_buffers=False, **common
            )
        else:
            self._logs = tempfile.TemporaryDirectory(prefix="lit_mtrl-workers-")
            weights = WatchedWeights()  # pyright: ignore[reportAbstractUsage]
            logged = [partial(worker_env, m, self._log(w)) for w, m in enumerate(make)]
            try:
                self._collector = self._guard(
                    lambda: started(
                        logged,
                        self._policy,
                        frames_per_batch=[steps * copies * len(owned) for owned in self._owned],
                        cat_results=0,
                        num_threads=torch.get_num_threads(),
                        num_sub_threads=1,
                        use_buffers=True,
                        weight_sync_schemes={"policy": weights},
                        **common,
                    )
                )
            except WorkerError:
                self._logs.cleanup()
                raise
            weights.workers = self._collector.procs
            self._collector.queue_out.get = partial(watched_get, self._collector.queue_out.get, weights.workers)
            self._iterator = iter(self._collector)

    def restart(self, stream: int) -> None:
        """New episodes in every environment; goals, resets and action noise follow ``stream`` from here on."""
        self._source.stream.fill_(stream)
        self._guard(lambda: self._collector.set_seed(stream, static_seed=True))
        if self._logs is None:  # several processes are reset by `set_seed`
            self._collector.reset()

    def publish(self) -> None:
        """Send the policy's present weights and orders to everyone who acts."""
        if self._logs is None:
            self._policy.follow(self._source)
        else:
            weights: Any = TensorDict.from_module(self._source)
            self._guard(lambda: self._collector.update_policy_weights_(weights.data.cpu()))

    def collect(self) -> TensorDictBase:
        """The next n vector steps, in memory of their own."""
        if self._logs is None:
            # Beside the environments' threads, or the learner's, a second one for the policy costs more than it gives:
            # PyTorch's threads spin where they wait.
            with one_thread(self._together or threading.current_thread() is not threading.main_thread()):
                data = self._collector.rollout()  # [T * copies, n]
        else:
            data = self._guard(lambda: next(self._iterator))
        data = data.exclude(*LEFT_OUT)
        if self._logs is not None:  # the workers write into the same memory again
            data = data.clone()
        return data.unflatten(0, (self.num_tasks, self.copies))

    def interrupt(self) -> None:
        """End a `collect` that is running in another thread, at its next step; other processes that collect are ended
        with it.
        """
        self._interrupted = True
        for process in self._collector.procs if self._logs is not None else ():
            with suppress(ValueError):  # closed
                process.terminate()

    def _act(self, td: TensorDictBase) -> TensorDictBase:
        if self._interrupted:
            raise InterruptError("the collection was ended")
        return self._policy(td)

    def shutdown(self) -> None:
        """End the processes and environments; at once where an error is being handled, else what is being collected is
        awaited for 8 s.
        """
        if sys.exception() is not None:
            self.interrupt()
        try:
            self._collector.shutdown()
        finally:
            if self._logs is not None:
                self._logs.cleanup()

    def _log(self, worker: int) -> Path:
        assert self._logs is not None
        return Path(self._logs.name) / f"{worker}.log"

    def _guard(self, call: Callable[[], Any]) -> Any:
        if self._logs is None:
            return call()
        try:
            require_alive(getattr(getattr(self, "_collector", None), "procs", []))
            return call()
        except Exception as error:
            raise WorkerError(self._who_died(error)) from error

    def _who_died(self, error: Exception) -> str:
        """What ``error`` says, and for each worker that has died its exit code, tasks and last words; one line if the
        system refused something.
        """
        lines, everything = [], str(error)
        processes = getattr(getattr(self, "_collector", None), "procs", [])
        # Where one was found dead during a collection, TorchRL has ended the others by SIGTERM.
        ended = str(error).startswith(("At least one process failed", "Cannot close a process", HAVE_ENDED))
        for worker, owned in enumerate(self._owned):
            said = self._log(worker).read_text(errors="replace").strip() if self._log(worker).exists() else ""
            code = exit_code(processes[worker]) if processes else None
            failed = f"worker {worker} (exit" in str(error) or code not in (
                None,
                0,
                *([-signal.SIGTERM] if ended else []),
            )
            if "Traceback" in said or failed:
                names = ", ".join(self._names[task] for task in owned)
                lines.append(f"worker {worker} (exit code {code}), tasks {names}, died: {said[-4000:]}")
                everything += said[-4000:]
        helps = remedy(everything, "collector.workers")
        if helps is not None:
            return f"collection by {len(self._owned)} processes: {_last_line(everything)}: {helps}"
        return "\n".join([str(error), *lines])


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def require_workers(suite: Suite, workers: int, policy_device: torch.device | str = "cpu") -> None:
    """Raise `ConfigError` unless ``workers`` processes can collect from ``suite`` with a policy on
    ``policy_device``.
    """
    tasks = len(suite.tasks)
    require(1 <= workers <= tasks, f"collector.workers={workers}: between 1 and the number of tasks, {tasks}")
    require(
        workers == 1 or torch.device(policy_device).type == "cpu",
        f"collector.policy_device={policy_device}: {workers} processes cannot share the GPU; use collector.workers=1 or"
        f" policy_device=cpu",
    )


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """PyTorch computes on one thread in the calling thread; the others keep theirs."""
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
