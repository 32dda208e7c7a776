"""Several independently initialised copies of one network, evaluated together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lit_mtrl.nets.sharing import shared_modules
from lit_mtrl.nets.tape import constant


class Ensemble(nn.Module):
    """``size`` copies of ``make()``, each product one batched matmul over the copies.

    The copies' parameters are stacked along a new first dimension and keep their names, so a plain
    network becomes an ensemble without being written for it. Shared modules stay single.
    """

    def __init__(self, make: Callable[[], nn.Module], size: int):
        super().__init__()
        self.size = size
        copies = [make() for _ in range(size)]
        self.net = copies[0]
        single = {id(p) for module in shared_modules(self.net) for p in module.parameters()}
        self.in_dims: dict[str, int | None] = {}
        for name, parameter in list(self.net.named_parameters()):
            self.in_dims[name] = None if id(parameter) in single else 0
            if id(parameter) not in single:
                owner, _, leaf = name.rpartition(".")
                stacked = torch.stack([copy.get_parameter(name).detach() for copy in copies])
                setattr(self.net.get_submodule(owner), leaf, nn.Parameter(stacked))

    def forward(self, x: Tensor, task: Tensor | None = None, frozen: bool = False) -> Tensor:
        """``[*batch, in]`` to ``[size, *batch, out]``; every copy sees the same input.

        ``frozen``: gradients reach x, not the parameters.
        """
        params = {name: p.detach() if frozen else p for name, p in self.net.named_parameters()}
        with constant() if frozen else nullcontext():
            return torch.vmap(lambda p: functional_call(self.net, p, (x, task)), in_dims=(self.in_dims,))(params)

    def member(self, index: int) -> nn.Module:
        """Copy ``index`` as a plain network, ``[*batch, in]`` to ``[*batch, out]``; its weights are views of the
        stacked ones, detached.
        """
        own = {
            id(p): nn.Parameter(p.detach() if self.in_dims[name] is None else p.detach()[index])
            for name, p in self.net.named_parameters()
        }
        return copy.deepcopy(self.net, own)  # pyright: ignore[reportArgumentType]
