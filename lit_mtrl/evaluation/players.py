"""Playing evaluation episodes with a policy's mean action: in this process (`Player`), or in one of its own (`Worker`).

A worker needs PyTorch, NumPy and its suite; it should import nothing else, because every process does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_mtrl.core.limits import remedy
from lit_mtrl.core.processes import die_with_parent
from lit_mtrl.core.signals import starting_processes

if TYPE_CHECKING:
    from lit_mtrl.envs.base import Suite, TaskEnv
    from lit_mtrl.policies.base import Policy


class EvaluationError(RuntimeError):
    """A process that plays evaluation episodes died or could not be started; the message holds its traceback, its exit
    code or the remedy.
    """


class Part(NamedTuple):
    """Episodes ``first`` to ``stop - 1`` of a task."""

    task: int
    first: int
    stop: int


def split(tasks: int, episodes: int, workers: int) -> list[list[Part]]:
    """All episodes of all tasks in ``workers`` shares of equal size, but for one episode; a task may be in several."""
    total = tasks * episodes
    bounds = [worker * total // workers for worker in range(workers + 1)]
    return [
        [
            Part(task, max(start - task * episodes, 0), min(stop - task * episodes, episodes))
            for task in range(start // episodes, (stop - 1) // episodes + 1)
        ]
        for start, stop in pairwise(bounds)
    ]


class Player:
    """An environment for each of ``parts``, and ``actor``, whose weights at the time of `play` act."""

    def __init__(self, suite: Suite, parts: Sequence[Part], actor: Policy):
        self.suite, self.parts, self.actor = suite, parts, actor
        self.envs: list[TaskEnv] = [suite.make(part.task) for part in parts]
        self._obs_dims = [suite.obs_dims[part.task] for part in parts]
        self._action_dims = [suite.action_dims[part.task] for part in parts]
        self._horizons = [suite.horizons[part.task] for part in parts]
        self._until_success = suite.score == "success"

    @torch.inference_mode()
    def play(self) -> list[NDArray]:
        """Success, return and length ``[3, episodes]`` of each part; the parts advance together so that the policy is
        batched. Success is that of any step.
        """
        parts, goals = self.parts, self.suite.num_goals
        out = [np.zeros((3, part.stop - part.first), np.float32) for part in parts]
        episode = [part.first for part in parts]
        obs = np.zeros((len(parts), self.suite.obs_dim), np.float32)  # of smaller tasks with zeros at the end
        for i, env in enumerate(self.envs):
            obs[i, : self._obs_dims[i]] = env.reset(episode[i] % goals)
        task = torch.tensor([part.task for part in parts])
        playing = list(range(len(parts)))
        while playing:
            actions = self.actor.mode(torch.from_numpy(obs[playing]), task[playing]).numpy()
            for i, action in zip(list(playing), actions, strict=True):
                seen, used = self._obs_dims[i], self._action_dims[i]
                obs[i, :seen], reward, terminated, success = self.envs[i].step(action[:used])
                result = out[i][:, episode[i] - parts[i].first]
                result += (0, reward, 1)
                result[0] = max(result[0], success)
                if terminated or result[2] >= self._horizons[i] or (success and self._until_success):
                    episode[i] += 1
                    if episode[i] == parts[i].stop:
                        playing.remove(i)
                    else:
                        obs[i, :seen] = self.envs[i].reset(episode[i] % goals)
        return out

    def close(self) -> None:
        """End the environments."""
        for env in self.envs:
            env.close()


class Worker:
    """A process with a `Player`. ``suite``: made by `share`; it and ``actor`` are in shared memory, so `play` sends no
    weights. ``name`` of what it plays, for messages. Raises `EvaluationError` if the system starts no further process.

    ``pipe`` can be read from once the answer is there, or the process has died.
    """

    def __init__(self, suite: Tensor, parts: Sequence[Part], actor: Policy, name: str):
        spawn = multiprocessing.get_context("spawn")
        self.parts, self.name = parts, name
        with _refusals():
            self.pipe, theirs = spawn.Pipe()
            with theirs, starting_processes():
                self._process = spawn.Process(target=_serve, args=(theirs, suite, parts, actor), daemon=True)
                self._process.start()

    def play(self) -> None:
        """Begin to play with the actor's present weights, which must not change before the `answer`."""
        with contextlib.suppress(OSError):  # of a process that has died, as `answer` will say
            self.pipe.send(True)

    def answer(self) -> list[NDArray]:
        """What `Player.play` returned, as soon as it has; raises `EvaluationError`."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            raise EvaluationError(f"evaluation: the process that plays {self.name} died (exit code {code})") from None
        if isinstance(answer, str):
            helps = remedy(answer, "eval.workers")
            said = answer if helps is None else f"{answer.splitlines()[-1]}: {helps}"
            raise EvaluationError(f"evaluation: the process that plays {self.name} died: {said}")
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def share(suite: Suite) -> Tensor:
    """The suite, pickled, uint8 in shared memory: a process that gets more than a pipe holds would be waited for until
    it has started.

    Raises `EvaluationError` if there is no shared memory left.
    """
    with _refusals():
        return torch.frombuffer(bytearray(pickle.dumps(suite)), dtype=torch.uint8).share_memory_()


def share_weights(actor: Policy) -> Policy:
    """Move the actor's parameters to shared memory; raises `EvaluationError` if there is none left."""
    with _refusals():
        return actor.share_memory()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        helps = remedy(str(error), "eval.workers")
        if helps is None:
            raise
        raise EvaluationError(f"evaluation: its processes cannot be started ({error}): {helps}") from error


def _serve(pipe: Connection, suite: Tensor, parts: Sequence[Part], actor: Policy) -> None:
    die_with_parent()
    torch.set_num_threads(1)
    try:
        player = Player(pickle.loads(suite.numpy().tobytes()), parts, actor)
        while pipe.recv():
            pipe.send(player.play())
    except (EOFError, BrokenPipeError):
        pass  # whoever asks has gone
    except Exception:
        with contextlib.suppress(BrokenPipeError):
            pipe.send(traceback.format_exc().strip())
