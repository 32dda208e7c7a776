"""Actors that are not trained."""

from __future__ import annotations

from functools import partial

import torch

from lit_mtrl.envs.base import Suite
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.policies.tanh_gaussian import TanhGaussian


def make_actor(suite: Suite, seed: int = 0) -> TanhGaussian:
    """Heads large enough for tasks and observations to get actions of their own."""
    torch.manual_seed(seed)
    actor = TanhGaussian(partial(MultiHead, width=8, depth=1), suite.obs_dim, suite.action_dim, len(suite.tasks))
    with torch.no_grad():
        for parameter in actor.net.heads.parameters():  # pyright: ignore[reportAttributeAccessIssue]
            parameter.normal_()
    return actor
