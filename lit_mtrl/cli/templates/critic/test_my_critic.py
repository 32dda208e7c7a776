"""What every critic must do; `python -m pytest test_my_critic.py`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lit_mtrl.cli.templates.critic.my_critic import MyCritic
from lit_mtrl.nets.mlp import MLP

TASKS, BATCH, OBS, ACTION = 3, 8, 4, 2


def make() -> MyCritic:
    """A small one; the same every time."""
    torch.manual_seed(0)
    return MyCritic(partial(MLP, width=16, depth=2), OBS, ACTION, TASKS)


def sample() -> tuple[Tensor, Tensor]:
    """Observations and actions, row t of task t."""
    return torch.randn(TASKS, BATCH, OBS), torch.rand(TASKS, BATCH, ACTION) * 2 - 1


def test_shapes() -> None:
    """One loss and one value per critic and sample, one value for all of them."""
    critic = make()
    prediction = critic(*sample())
    size = len(prediction)
    reward, discount, bonus = torch.randn(3, TASKS, BATCH)
    target = critic.target(prediction.detach(), reward, discount, bonus)
    assert critic.loss(prediction, target).shape == critic.values(prediction).shape == (size, TASKS, BATCH)
    assert critic.value(prediction).shape == (TASKS, BATCH)


def test_row_t_is_task_t() -> None:
    """Without a task tensor, row t is task t."""
    critic, (obs, action) = make(), sample()
    task = torch.arange(TASKS)[:, None].expand(TASKS, BATCH)
    torch.testing.assert_close(critic(obs, action), critic(obs, action, task))


def test_frozen_is_a_constant_for_the_actor() -> None:
    """Gradients reach the action, not the parameters."""
    critic, (obs, action) = make(), sample()
    prediction = critic(obs, action.requires_grad_(), frozen=True)
    torch.testing.assert_close(prediction, critic(obs, action))
    critic.value(prediction).sum().backward()
    assert action.grad is not None and (action.grad != 0).any()
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_every_parameter_gets_a_gradient() -> None:
    """A parameter without one is not used, or is cut off."""
    critic = make()
    prediction = critic(*sample())
    target = critic.target(prediction.detach(), torch.randn(TASKS, BATCH), torch.ones(TASKS, BATCH), torch.zeros(()))
    critic.loss(prediction, target).sum().backward()
    for name, parameter in critic.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name


def test_it_learns_a_reward() -> None:
    """Where every step is the last, the value becomes the reward."""
    critic, (obs, action) = make(), sample()
    reward = obs[..., 0]
    adam = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(200):
        prediction = critic(obs, action)
        nothing = torch.zeros_like(reward)
        loss = critic.loss(prediction, critic.target(prediction.detach(), reward, nothing, nothing)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert (critic.value(critic(obs, action)) - reward).abs().mean() < 0.1
