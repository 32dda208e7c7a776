"""SAC on tasks with fewer observations and actions than the widest, against a float64 twin in which nothing is
padded.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from lit_mtrl.algos.sac import SAC
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.tanh_gaussian import TanhGaussian

OBS_DIMS, ACTION_DIMS, B, GAMMA = [3, 5, 2], [1, 4, 2], 6, 0.9
T, OBS, ACT = 3, max(OBS_DIMS), max(ACTION_DIMS)


@pytest.fixture
def sac() -> SAC:
    torch.manual_seed(0)
    network = partial(MultiHead, width=7, depth=1)
    parts = partial(TanhGaussian, network), partial(ScalarCritic, network)
    sac = SAC(*parts, OBS, ACT, T, gamma=GAMMA, action_dims=ACTION_DIMS).double()
    with torch.no_grad():  # heads large enough to matter, temperatures apart, targets unlike the critics
        for name, parameter in sac.named_parameters():
            if "head" in name:
                parameter.normal_()
        sac.log_alpha.copy_(torch.linspace(-0.5, 0.3, T))
        for parameter in sac.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return sac


@pytest.fixture
def batch(sac: SAC) -> TensorDict:
    g = torch.Generator().manual_seed(1)

    def padded(sizes: list[int], bound: bool = False) -> Tensor:
        x = torch.randn(T, B, max(sizes), generator=g, dtype=torch.float64)
        own = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None, None]
        return torch.where(own, x.tanh() if bound else x, 0.0)

    after = {
        "observation": padded(OBS_DIMS),
        "reward": torch.randn(T, B, 1, generator=g, dtype=torch.float64),
        "terminated": torch.rand(T, B, 1, generator=g) < 0.3,
    }
    batch = TensorDict({"observation": padded(OBS_DIMS), "action": padded(ACTION_DIMS, True), "next": after}, [T, B])
    torch.manual_seed(2)
    sac.on_sample(batch)
    return batch


def net(weights: dict[str, Tensor], x: Tensor, task: int, columns: list[int]) -> Tensor:
    """One hidden layer of which ``x [B, n]`` enters by ``columns``, and the task by its own; the head's whole
    output.
    """
    first = weights["torso.first.weight"]
    h = x @ first[:, columns].T + first[:, first.shape[1] - T + task] + weights["torso.first.bias"]
    return h.relu() @ weights["heads.weight"][task] + weights["heads.bias"][task]


def policy(sac: SAC, obs: Tensor, noise: Tensor, task: int) -> tuple[Tensor, Tensor]:
    """Action ``[B, own]`` and log-density ``[B]`` of a task that has no other actions."""
    own, seen = ACTION_DIMS[task], OBS_DIMS[task]
    out = net(dict(sac.actor.net.named_parameters()), obs[:, :seen], task, list(range(seen)))
    mean, log_std = out[:, :own], out[:, ACT : ACT + own].clamp(-20, 2)
    u = mean + log_std.exp() * noise[:, :own]
    log_cosh = torch.logaddexp(u, -u) - math.log(2)  # 1 - tanh^2 = cosh^-2
    density = -0.5 * noise[:, :own] ** 2 - log_std - 0.5 * math.log(2 * math.pi) + 2 * log_cosh
    return u.tanh(), density.sum(-1)


def values(critic: ScalarCritic, obs: Tensor, action: Tensor, task: int) -> Tensor:
    """``[2, B]``; the critics' inputs are actions, then observations."""
    seen, own = OBS_DIMS[task], ACTION_DIMS[task]
    columns = [*range(own), *range(ACT, ACT + seen)]
    x = torch.cat([action[:, :own], obs[:, :seen]], -1)
    both = [{name.removeprefix("net."): p[i] for name, p in critic.q.named_parameters()} for i in range(2)]
    return torch.stack([net(weights, x, task, columns)[:, 0] for weights in both])


def test_losses_are_those_without_padding(sac: SAC, batch: TensorDict) -> None:
    alpha = sac.log_alpha.detach().exp()
    critic, actor, temperature, entropy = [], [], [], []
    for task in range(T):
        row = batch[task]
        with torch.no_grad():
            action, log_prob = policy(sac, row["next", "observation"], row["target_noise"], task)
            future = values(sac.target, row["next", "observation"], action, task).amin(0) - alpha[task] * log_prob
            y = row["next", "reward"][:, 0] + GAMMA * (~row["next", "terminated"][:, 0]) * future
        critic.append((values(sac.critic, row["observation"], row["action"], task) - y).square().mean())
        action, log_prob = policy(sac, row["observation"], row["actor_noise"], task)
        actor.append((alpha[task] * log_prob - values(sac.critic, row["observation"], action, task).amin(0)).mean())
        temperature.append(-sac.log_alpha[task] * (log_prob.mean() - ACTION_DIMS[task]).detach())
        entropy.append(-log_prob.mean())
    for objective, twin in zip(sac.objectives(), (critic, actor, temperature), strict=True):
        assert objective.loss is not None
        out = objective.loss(batch)
        torch.testing.assert_close(out["loss"], torch.stack(twin), rtol=1e-6, atol=1e-7)
        both = (out["loss"], torch.stack(twin))
        gradients = [torch.autograd.grad(loss.sum(), objective.params, retain_graph=True) for loss in both]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
        if "entropy" in out.keys():
            torch.testing.assert_close(out["entropy"], torch.stack(entropy).detach(), rtol=1e-6, atol=1e-7)


def test_the_target_entropy_is_minus_the_number_of_each_task_s_actions(sac: SAC) -> None:
    assert torch.equal(torch.as_tensor(sac.target_entropy), torch.tensor([-1.0, -4.0, -2.0], dtype=torch.float64))
