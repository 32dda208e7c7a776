"""What training is continued from: optimizers' states that fit."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lit_mtrl.algos.base import Objective, OptimizerFactory, adam
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.training.weights import require_continuable

ADAM = adam(0.1, 1e-5, "algo.lr")
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Agent(nn.Module):
    """Of one objective with two parameters."""

    def __init__(self, optimizer: OptimizerFactory):
        super().__init__()
        self.weightings: dict[str, Any] = {}
        self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
        objective = Objective("x", None, (self.a, self.b), optimizer)
        self.algorithm = SimpleNamespace(objectives=lambda: (objective,))


def checkpoint(agent: Agent, optimizer: OptimizerFactory) -> dict[str, Any]:
    """After one step."""
    made = optimizer([agent.a, agent.b])
    for parameter in (agent.a, agent.b):
        parameter.grad = torch.ones_like(parameter)
    made.step()
    lightning: dict[str, Any] = {"lr_schedulers": [], "loops": {}, "callbacks": {}, "DataModule": {}}
    lightning |= {"epoch": 1, "global_step": 1, "pytorch-lightning_version": "2"}
    ours = {"updates": 1, "recent": []}
    return {**lightning, "state_dict": agent.state_dict(), "optimizer_states": [made.state_dict()], "lit_mtrl": ours}


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM], ids=["adam", "momentum"])
def test_training_goes_on_from_its_own_checkpoint(optimizer: OptimizerFactory) -> None:
    agent = Agent(optimizer)
    require_continuable(agent, checkpoint(agent, optimizer), "--resume x")


@pytest.mark.parametrize("change", ["moment", "shape", "group", "none"])
def test_states_that_adam_cannot_go_on_from(change: str) -> None:
    """Fused Adam would read and write beside moments of other shapes."""
    agent = Agent(ADAM)
    saved = checkpoint(agent, ADAM)
    state = saved["optimizer_states"][0]
    if change == "moment":
        del state["state"][1]["exp_avg"]
    elif change == "shape":
        state["state"][0]["exp_avg_sq"] = torch.zeros(1)
    elif change == "group":
        state["param_groups"][0]["params"] = [0]
    else:
        saved["optimizer_states"] = []
    with pytest.raises(ConfigError, match="--resume x: the state of its optimizers does not fit"):
        require_continuable(agent, saved, "--resume x")
