"""What every network must do; `python -m pytest test_my_network.py`."""

from __future__ import annotations

from functools import partial

import torch

from lit_mtrl.cli.templates.network.my_network import MyNetwork
from lit_mtrl.nets.ensemble import Ensemble

TASKS, BATCH, IN, OUT = 4, 8, 6, 5
make = partial(MyNetwork, IN, OUT, TASKS, head_bound=0.5, width=16)


def test_any_leading_shape() -> None:
    """One sample, or any number of them in any shape."""
    net, x, task = make(), torch.randn(7, 2, 3, IN), torch.randint(TASKS, (7, 2, 3))
    y = net(x, task)
    assert y.shape == (7, 2, 3, OUT)
    torch.testing.assert_close(net(x[1, 1, 1], task[1, 1, 1]), y[1, 1, 1])


def test_row_t_is_task_t() -> None:
    """Without a task tensor, row t is task t."""
    net, x = make(), torch.randn(TASKS, BATCH, IN)
    task = torch.arange(TASKS)[:, None].expand(TASKS, BATCH)
    torch.testing.assert_close(net(x), net(x, task))


def test_the_task_matters() -> None:
    """One observation, different tasks, different outputs."""
    y = make()(torch.randn(1, IN).expand(TASKS, IN), torch.arange(TASKS))
    assert all(not torch.allclose(y[i], y[j]) for i in range(TASKS) for j in range(i))


def test_samples_do_not_see_each_other() -> None:
    """Such as by normalising over the batch."""
    net, x, task = make(), torch.randn(BATCH, IN), torch.randint(TASKS, (BATCH,))
    order = torch.randperm(BATCH)
    torch.testing.assert_close(net(x, task)[order], net(x[order], task[order]))


def test_every_parameter_gets_a_gradient() -> None:
    """A parameter without one is not used, or is cut off."""
    net = make()
    net(torch.randn(TASKS, 64, IN)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name


def test_twin_critics_are_two_networks() -> None:
    """Critics run as one batched network, by `torch.vmap` over the parameters."""
    pair, x = Ensemble(make, 2), torch.randn(TASKS, BATCH, IN)
    y = pair(x)
    assert y.shape == (2, TASKS, BATCH, OUT) and not torch.allclose(y[0], y[1])
    torch.testing.assert_close(pair.member(1)(x), y[1])
