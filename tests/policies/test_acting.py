"""Acting: actions, and the log-densities and values beside them, are those of policy and critic by hand."""

from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.acting import EXPLORE, RANDOM, ActingPolicy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian

T, OBS, ACT = 3, 5, 2
LAYOUTS = {
    "all tasks in order": [0, 0, 1, 1, 2, 2],
    "some tasks, as a worker has them": [1, 1, 2, 2],
    "another order": [2, 0, 1, 1, 0, 2],
}
LAYOUT = pytest.mark.parametrize("task", LAYOUTS.values(), ids=LAYOUTS)


def make(log_prob: bool = True, values: bool = True) -> ActingPolicy:
    torch.manual_seed(0)
    network = partial(MultiHead, width=8, depth=1)
    policy = TanhGaussian(network, OBS, ACT, T)
    value = network(in_dim=OBS, out_dim=1, num_tasks=T, head_bound=1.0)
    with torch.no_grad():  # heads large enough for tasks and observations to matter
        for parameter in policy.net.heads.parameters():  # pyright: ignore[reportAttributeAccessIssue]
            parameter.normal_()
    return ActingPolicy(policy, log_prob, value if values else None)


def seen(task: list[int], seed: int = 1) -> TensorDict:
    obs = torch.randn(len(task), OBS, generator=torch.Generator().manual_seed(seed))
    return TensorDict({"observation": obs, "task_id": torch.tensor(task)}, [len(task)])


def generator(stream: int, task: list[int]) -> torch.Generator:
    return torch.Generator().manual_seed(stream * 1_000_003 + task[0])


@LAYOUT
@torch.no_grad()
def test_density_and_value_are_written_beside_the_action(task: list[int]) -> None:
    acting, td = make(), seen(task)
    acting.stream.fill_(4)
    source = generator(4, task)
    for seed in (1, 2):  # the noise goes on
        td = acting(seen(task, seed))
        noise = torch.randn(len(task), ACT, generator=source)
        action, log_prob = acting.policy.sample(td["observation"], noise, td["task_id"])
        assert acting.values is not None
        torch.testing.assert_close(td["action"], action)
        torch.testing.assert_close(td["action_log_prob"], log_prob)
        torch.testing.assert_close(td["state_value"], acting.values(td["observation"], td["task_id"]))
        assert td["action_log_prob"].shape == (len(task),) and td["state_value"].shape == (len(task), 1)
    assert len(td["action_log_prob"].unique()) == len(td["state_value"].unique()) == len(task)


@LAYOUT
def test_each_is_written_only_where_it_is_wanted(task: list[int]) -> None:
    own = {"observation", "task_id"}
    assert make(False, False)(seen(task)).keys() == own | {"action"}
    assert make(True, False)(seen(task)).keys() == own | {"action", "action_log_prob"}
    assert make(False, True)(seen(task)).keys() == own | {"action", "state_value"}
    written = [make(*which)(seen(task)) for which in ((False, False), (True, False), (False, True), (True, True))]
    assert all(torch.equal(td["action"], written[0]["action"]) for td in written)
    assert not any(value.requires_grad for td in written for value in td.values())


@LAYOUT
def test_the_random_phase_is_uniform_and_writes_actions_alone(task: list[int]) -> None:
    acting = make()
    acting.phase.fill_(RANDOM)
    td = acting(seen(task))
    assert td.keys() == {"observation", "task_id", "action"}
    assert torch.equal(td["action"], torch.rand(len(task), ACT, generator=generator(0, task)) * 2 - 1)


@LAYOUT
def test_a_stream_repeats_and_disturbs_no_other_random_state(task: list[int]) -> None:
    acting, state = make(), torch.get_rng_state()
    rows = []
    for stream in (3, 4, 3):
        acting.stream.fill_(stream)
        rows.append(torch.stack([acting(seen(task))["action"] for _ in range(3)]))
    assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0][0], rows[0][1])
    assert torch.equal(torch.get_rng_state(), state)


def test_whether_only_what_it_does_itself_can_be_learned_from() -> None:
    assert [make(*which).on_policy for which in ((False, False), (True, False), (False, True), (True, True))] == [
        *(False, True, True, True)
    ]


def test_a_copy_follows_weights_and_orders_of_policy_and_values() -> None:
    source = make()
    copies = source.acting_copy("cpu"), pickle.loads(pickle.dumps(source.acting_copy("cpu")))
    assert not any(p.requires_grad for copy in copies for p in copy.parameters())
    assert all(p.requires_grad for p in source.parameters())
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.1)
    source.phase.fill_(RANDOM)
    source.stream.fill_(9)
    for copy in copies:
        copy.follow(source)
        assert copy.phase.item() == RANDOM and copy.stream.item() == 9
        copy.phase.fill_(EXPLORE)
    source.phase.fill_(EXPLORE)
    want = source(seen([0, 1, 2]))
    for copy in copies:
        td = copy(seen([0, 1, 2]))
        assert all(torch.equal(td[key], want[key]) for key in ("action", "action_log_prob", "state_value"))
