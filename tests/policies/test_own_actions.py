"""Tasks with fewer actions than the widest: the others are zero, and are in no density and no gradient."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch.distributions import Normal

from lit_mtrl.core.keys import ACTION, OBS, TASK
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.acting import RANDOM, ActingPolicy
from lit_mtrl.policies.tanh_gaussian import TanhGaussian

OBS_DIM, DIMS, B = 3, [4, 1, 2], 5
LAYOUTS = ("by task", "mixed")


def make_actor(action_dims: list[int] | None = DIMS) -> TanhGaussian:
    torch.manual_seed(0)
    actor = TanhGaussian(partial(MultiHead, width=8, depth=1), OBS_DIM, 4, 3, action_dims=action_dims).double()
    with torch.no_grad():  # heads large enough for actions and their spread to matter
        for parameter in actor.net.heads.parameters():  # pyright: ignore[reportAttributeAccessIssue]
            parameter.normal_()
    return actor


def inputs(layout: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Observations, noise, what the policy is told of tasks, and the task of each row, [3, 2, B]."""
    g = torch.Generator().manual_seed(1)
    obs, noise = (torch.randn(3, 2, B, n, generator=g, dtype=torch.float64) for n in (OBS_DIM, 4))
    if layout == "by task":
        return obs, noise, None, torch.arange(3)[:, None, None].expand(3, 2, B)
    task = torch.randint(3, (3, 2, B), generator=g)
    return obs, noise, task, task


@pytest.mark.parametrize("layout", LAYOUTS)
def test_densities_are_those_of_the_task_s_own_actions(layout: str) -> None:
    actor = make_actor()
    obs, noise, told, task = inputs(layout)
    action, log_prob = actor.sample(obs, noise, told)
    mean, log_std = actor(obs, told)
    for at in torch.cartesian_prod(*map(torch.arange, task.shape)).tolist():
        at = tuple(at)
        own = DIMS[task[at]]
        u = (mean[at] + log_std[at].exp() * noise[at])[:own]
        gaussian = Normal(mean[at][:own], log_std[at][:own].exp()).log_prob(u)
        log_cosh = torch.logaddexp(u, -u) - math.log(2)  # 1 - tanh^2 = cosh^-2
        torch.testing.assert_close(action[at][:own], u.tanh())
        torch.testing.assert_close(log_prob[at], (gaussian + 2 * log_cosh).sum())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["sample", "act", "mode"])
def test_other_actions_are_exactly_zero(what: str, layout: str) -> None:
    actor, plain = make_actor(), make_actor(None)
    obs, noise, told, task = inputs(layout)
    given = (obs, told) if what == "mode" else (obs, noise, told)
    action, free = (getattr(each, what)(*given) for each in (actor, plain))
    if what == "sample":
        action, free = action[0], free[0]
    own = torch.arange(4) < torch.tensor(DIMS)[task][..., None]
    assert torch.equal(action, free * own) and bool(own.any()) and not bool(own.all())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_gradient_reaches_outputs_that_are_no_action(layout: str) -> None:
    actor = make_actor()
    obs, noise, told, _ = inputs(layout)
    action, log_prob = actor.sample(obs, noise, told)
    (action.square().sum() + log_prob.sum()).backward()
    weight = actor.net.heads.weight.grad  # pyright: ignore[reportAttributeAccessIssue]  [T, width, mean and log-std]
    own = (torch.arange(4) < torch.tensor(DIMS)[:, None]).repeat(1, 2)
    assert (weight.abs().sum(1) > 0).equal(own)


def test_the_warm_start_s_actions_are_the_task_s_own() -> None:
    policy, plain = ActingPolicy(make_actor()), ActingPolicy(make_actor(None))
    task = torch.arange(3).repeat_interleave(2)
    drawn = []
    for each in (policy, plain):
        each.phase.fill_(RANDOM)
        td = TensorDict({OBS: torch.zeros(6, OBS_DIM, dtype=torch.float64), TASK: task}, [6])
        drawn.append(each(td)[ACTION])
    own = torch.arange(4) < torch.tensor(DIMS)[task][:, None]
    assert torch.equal(drawn[0], drawn[1] * own)


def test_no_mask_is_kept_where_tasks_are_alike() -> None:
    assert dict(make_actor(None).named_buffers()) == {}
    assert "action_mask" in dict(make_actor().named_buffers())
    assert make_actor().state_dict().keys() == make_actor(None).state_dict().keys()
