"""Several independently initialised copies of one network, evaluated together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Ensemble(nn.Module):
    """``size`` copies of ``make()``, each product one batched matmul over the copies.

    The copies' parameters are stacked along a new first dimension and keep their names, so a plain
    network becomes an ensemble without being written for it.
    """

    def __init__(self, make: Callable[[], nn.Module], size: int):
        super().__init__()
        copies = [make() for _ in range(size)]
        self.net = copies[0]
        for name, _ in list(self.net.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            stacked = torch.stack([copy.get_parameter(name).detach() for copy in copies])
            setattr(self.net.get_submodule(owner), leaf, nn.Parameter(stacked))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """``[*batch, in]`` to ``[size, *batch, out]``; every copy sees the same input."""
        params = dict(self.net.named_parameters())
        return torch.vmap(lambda p: functional_call(self.net, p, (x, task)))(params)
