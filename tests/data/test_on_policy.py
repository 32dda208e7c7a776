"""The stream of on-policy methods: what acted is stored, `prepare` sees whole iterations, each is used up at once."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.algos.base import Algorithm, Objective, adam
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.keys import ACTION, DONE, LOG_PROB, NEXT_OBS, OBS, REWARD, STATE_VALUE
from lit_mtrl.data.module import DataModule
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.data.rollout import Rollout
from lit_mtrl.envs.probes import Probes
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.acting import ActingPolicy
from lit_mtrl.policies.base import Policy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from tests.helpers.streams import Learner

T, E, N, HORIZON = 3, 2, 4, 8
EPOCHS, MINIBATCHES = 3, 2
K, B = EPOCHS * MINIBATCHES, E * N // MINIBATCHES
EPOCH_FRAMES = T * E * HORIZON
ADVANTAGE = "advantage"


class ActorCritic(Algorithm):
    """Moves policy and values a little; its advantage is reward - value."""

    stored = (OBS, ACTION, LOG_PROB, STATE_VALUE, ADVANTAGE)

    def __init__(self, suite: Probes):
        super().__init__()
        network = partial(MultiHead, width=8, depth=1)
        self.num_tasks = len(suite.tasks)
        self.pilot = TanhGaussian(network, suite.obs_dim, suite.action_dim, self.num_tasks)
        self.value = network(in_dim=suite.obs_dim, out_dim=1, num_tasks=self.num_tasks, head_bound=1.0)
        self.seen: list[TensorDictBase] = []
        self.kept: list[TensorDictBase] = []

    @property
    def policy(self) -> Policy:
        return self.pilot

    def acting_policy(self) -> ActingPolicy:
        return ActingPolicy(self.pilot, log_prob=True, values=self.value)

    def objectives(self) -> tuple[Objective, ...]:
        params = (*self.pilot.parameters(), *self.value.parameters())
        return (Objective("both", self.loss, params, adam(1e-2, 1e-5, "algo.lr")),)

    def loss(self, batch: TensorDictBase) -> TensorDict:
        mean, _ = self.pilot(batch[OBS])
        error = self.value(batch[OBS], None) - batch[ADVANTAGE]
        return TensorDict({"loss": error.square().mean((1, 2)) + mean.square().mean((1, 2))}, [self.num_tasks])

    def prepare(self, rollout: TensorDictBase) -> TensorDictBase:
        assert not torch.is_grad_enabled() and threading.current_thread() is threading.main_thread()
        self.seen.append(rollout.clone())
        rollout[ADVANTAGE] = rollout[REWARD] - rollout[STATE_VALUE]
        rollout["scratch"] = torch.zeros(rollout.shape)
        self.kept.append(rollout.clone())
        return rollout


def build(buffer: Any = None, algorithm: type[ActorCritic] = ActorCritic, **options: Any) -> DataModule:
    """Two epochs of two iterations each."""
    torch.manual_seed(0)
    suite = Probes(kind="endless", horizon=HORIZON)
    buffer = Rollout(T, EPOCHS, MINIBATCHES) if buffer is None else buffer
    sizes = dict(seed=0, frames=2 * EPOCH_FRAMES, epoch_frames=EPOCH_FRAMES, copies=E, steps=N, random_steps=0)
    return DataModule(suite, algorithm(suite), buffer, **{**sizes, **options})


@pytest.fixture
def learner(request: pytest.FixtureRequest) -> Iterator[Learner]:
    learner = Learner(build(**getattr(request, "param", {})))
    yield learner
    learner.data.teardown("fit")


OVERLAP = pytest.mark.parametrize("learner", [{}, {"overlap": True}], indirect=True, ids=["alternating", "overlap"])


@OVERLAP
def test_prepare_sees_each_iteration_once_and_whole(learner: Learner) -> None:
    learner.epoch()
    algorithm: Any = learner.data.algorithm
    assert len(algorithm.seen) == len(learner.seen) == 2
    rollout = torch.cat(algorithm.seen, -1)
    assert rollout.batch_size == (T, E, HORIZON)
    assert {ACTION, LOG_PROB, STATE_VALUE, NEXT_OBS, REWARD, DONE} <= set(rollout.keys(True, True))
    # One episode: time is the last axis, and what ended is its last step.
    assert rollout[DONE][..., 0].nonzero().tolist() == [
        [task, copy, HORIZON - 1] for task in range(T) for copy in range(E)
    ]
    assert torch.equal(rollout[OBS][:, :, 1:], rollout[NEXT_OBS][:, :, :-1])
    assert (rollout["task_id"] == torch.arange(T).view(T, 1, 1)).all()


@OVERLAP
def test_k_is_epochs_by_minibatches_and_each_iteration_is_used_up(learner: Learner) -> None:
    algorithm: Any = learner.data.algorithm
    for done, iteration in enumerate(learner.data, 1):
        assert iteration.chunk is not None and iteration.chunk.batch_size == (K, T, B)
        assert iteration.frames == done * T * E * N
        kept = algorithm.kept[-1]
        for epoch in iteration.chunk.unflatten(0, (EPOCHS, MINIBATCHES)):
            for task in range(T):
                for key in (OBS, ACTION, LOG_PROB, STATE_VALUE, ADVANTAGE):
                    used, there = (
                        x.reshape(E * N, -1).sum(-1).sort().values for x in (epoch[:, task][key], kept[task][key])
                    )
                    torch.testing.assert_close(used, there)
        learner.learn(iteration)
    assert learner.engine.updates == 2 * K


def test_what_prepare_adds_is_stored_if_the_algorithm_names_it(learner: Learner) -> None:
    learner.epoch()
    chunk = learner.seen[0].chunk
    assert chunk is not None and set(chunk.keys(True, True)) == set(ActorCritic.stored)  # neither scratch nor reward
    kept: Any = learner.data.algorithm.kept[0]  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(kept[ADVANTAGE], kept[REWARD] - kept[STATE_VALUE])


def test_what_is_stored_but_never_written_is_an_error() -> None:
    class Forgetful(ActorCritic):
        def prepare(self, rollout: TensorDictBase) -> TensorDictBase:
            return rollout

    learner = Learner(build(algorithm=Forgetful))
    with pytest.raises(KeyError, match=ADVANTAGE):
        learner.epoch()
    learner.data.teardown("fit")


def test_densities_and_values_are_of_the_weights_that_acted(learner: Learner) -> None:
    """Without overlap those before the updates on the same iteration."""
    algorithm: Any = learner.data.algorithm
    for iteration in learner.data:
        rollout = algorithm.kept[-1]
        obs, action = rollout[OBS], rollout[ACTION]
        with torch.no_grad():
            mean, log_std = algorithm.pilot(obs)
            gauss = torch.distributions.Normal(mean, log_std.exp())
            u = action.double().atanh().float()
            density = (gauss.log_prob(u) - (1 - action**2).log()).sum(-1)
            torch.testing.assert_close(rollout[LOG_PROB], density, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(rollout[STATE_VALUE], algorithm.value(obs, None))
        learner.learn(iteration)
        with torch.no_grad():
            assert not torch.allclose(rollout[STATE_VALUE], algorithm.value(obs, None), atol=1e-4)


@pytest.mark.parametrize("overlap", [False, True], ids=["alternating", "overlap"])
def test_a_run_continues_as_if_uninterrupted(overlap: bool, tmp_path: Path) -> None:
    whole = Learner(build(overlap=overlap))
    whole.epoch()
    whole.data.buffer.dumps(tmp_path / "replay")
    (tmp_path / "manifest.json").write_text(json.dumps({"frames": whole.data.frames}))
    continued = Learner(build(Rollout(T, EPOCHS, MINIBATCHES, seed=99), overlap=overlap))
    continued.data.load_state_dict(whole.data.state_dict())
    continued.data.resume_buffer(tmp_path)
    continued.data.algorithm.load_state_dict(whole.data.algorithm.state_dict())
    for name, optimizer in whole.engine.optimizers.items():
        continued.engine.optimizers[name].load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for learner in (whole, continued):
        learner.epoch()
        learner.data.teardown("fit")
    for one, other in zip(whole.seen[2:], continued.seen, strict=True):
        assert one.frames == other.frames and (one.chunk == other.chunk).all()  # pyright: ignore


def test_off_policy_methods_may_prepare_too() -> None:
    """Each transition as it was prepared when it was collected."""
    learner = Learner(build(PerTaskReplay(T, 100, 8), random_steps=0))
    learner.epoch()
    chunk, algorithm = learner.seen[-1].chunk, learner.data.algorithm
    assert chunk is not None and chunk.batch_size == (N, T, 8) and set(chunk.keys()) == set(ActorCritic.stored)
    kept = torch.cat(algorithm.kept, -1)  # pyright: ignore[reportArgumentType]
    assert set(chunk[ADVANTAGE].flatten().tolist()) <= set(kept[ADVANTAGE].flatten().tolist())
    learner.data.teardown("fit")


def test_an_algorithm_that_prepares_nothing_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would be given stays where it was collected."""

    class Plain(ActorCritic):
        stored = (OBS, ACTION, LOG_PROB, STATE_VALUE)
        prepare = Algorithm.prepare

    data = build(algorithm=Plain)
    data.setup("fit")
    monkeypatch.setattr(data, "_learner", torch.device("meta"))  # where nothing could be read again
    (first, *_) = data
    assert first.chunk is not None and first.chunk[OBS].device.type == "cpu"
    data.teardown("fit")


def test_prepare_is_given_what_is_on_the_learners_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meta(ActorCritic):
        def prepare(self, rollout: TensorDictBase) -> TensorDictBase:
            raise InterruptedError(str(rollout[OBS].device))

    data = build(algorithm=Meta)
    data.setup("fit")
    monkeypatch.setattr(data, "_learner", torch.device("meta"))
    with pytest.raises(InterruptedError, match="^meta$"):
        next(iter(data))
    data.teardown("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_steps": 8}, "^collector.random_steps=8: the algorithm learns from what its own policy did; use 0$"),
        ({"buffer": Rollout(T, EPOCHS, 3)}, "^replay.minibatches=3: must divide the 8 transitions"),
    ],
    ids=["random", "minibatches"],
)
def test_bad_values_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_without_densities_and_values_a_random_start_is_fine() -> None:
    class Silent(ActorCritic):
        stored = (OBS, ACTION)
        prepare = Algorithm.prepare

        def acting_policy(self) -> ActingPolicy:
            return ActingPolicy(self.pilot)

    assert build(algorithm=Silent, random_steps=8).random_frames == 8 * T * E
