"""The memory of an objective's gradients: one vector, so that they are averaged, measured and clipped at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lit_mtrl.algos.base import Objective
from lit_mtrl.core.ranks import Ranks

ALIGNED = 16
"""Numbers of single precision in a cache line."""
ROW = 1024
"""Numbers whose squares are summed at once. On the CPU, sums of millions in single precision are too small: PyTorch's
norm of 10 million numbers by 4e-4, of 68 million by 6e-3.
"""

Backward = Callable[[Tensor], object]
"""Puts a scalar's gradients, averaged over the ranks, into ``.grad``: PyTorch's DDP."""


class GradientMemory:
    """One vector ``flat`` for the gradients of parameters, with a view of each parameter's shape.

    Views have the parameters' own layout: fused Adam on the CPU reads memory linearly, whatever a gradient's strides.
    Between them is padding, so that each begins where a cache line does, and behind them, to a whole number of rows. It
    is zero, and so counts in no norm.

    own: the parameters that are moved along these gradients.
    shared: the memory in which objectives sum up the gradients of what they share; here those lie before ``own``'s.
    memory: a vector that several objectives use in turn; None for one of its own.
    ranks: gradients are averaged over them.
    backward: does so itself; None for an all-reduce.
    """

    def __init__(
        self,
        own: Sequence[nn.Parameter],
        shared: GradientMemory | None = None,
        memory: Tensor | None = None,
        ranks: Ranks | None = None,
        backward: Backward | None = None,
    ):
        self.own, self.shared = tuple(own), shared
        self.params = (*(shared.own if shared else ()), *own)
        self._ranks, self._backward = ranks or Ranks(), backward
        sizes, size = [_padded(p) for p in self.params], required(self.params)
        self.flat = torch.zeros(size, dtype=own[0].dtype, device=own[0].device) if memory is None else memory[:size]
        *parts, rest = self.flat.split([*sizes, size - sum(sizes)])
        self._views = [part[: p.numel()].view_as(p) for part, p in zip(parts, self.params, strict=True)]
        padding = [*(part[p.numel() :] for part, p in zip(parts, self.params, strict=True)), rest]
        self._padding = [each for each in padding if len(each)]
        self._used_by_others = memory is not None

    def fill(self, total: Tensor) -> None:
        """Take the gradients of the scalar ``total``, averaged over the ranks."""
        if self._backward is None:
            # An objective need not touch what others share.
            some = self.shared is not None
            self.take(torch.autograd.grad(total, self.params, allow_unused=some, materialize_grads=some))
            self._ranks.mean_(self.flat)
        else:
            for parameter in self.params:
                parameter.grad = None
            self._backward(total)
            self.take([torch.zeros_like(p) if p.grad is None else p.grad for p in self.params])

    def take(self, gradients: Sequence[Tensor]) -> None:
        """Copy ``gradients``, one for each of ``params``."""
        if self._used_by_others:
            torch._foreach_zero_(self._padding)
        torch._foreach_copy_(self._views, list(gradients))

    def clip(self, max_norm: float | None) -> Tensor:
        """Scale the gradients down to the joint norm ``max_norm``, None for no clipping; their norm before."""
        norm = torch.linalg.vector_norm(torch.linalg.vector_norm(self.flat.view(-1, ROW), dim=1))
        if max_norm is not None:
            self.flat.mul_((max_norm / norm).clamp(max=1.0))
        return norm

    def hand_over(self) -> None:
        """Add what belongs to ``shared`` to it, and make the rest the ``.grad`` of ``own``."""
        if self.shared is not None:
            size = sum(map(_padded, self.shared.params))
            self.shared.flat[:size].add_(self.flat[:size])
        views = self._views[len(self.params) - len(self.own) :]
        for parameter, gradient in zip(self.own, views, strict=True):
            parameter.grad = gradient


def allocate(
    objectives: Sequence[Objective], shared: Objective | None, ranks: Ranks, backward: Backward | None
) -> dict[str, GradientMemory]:
    """A memory for each of ``objectives``, by name, and for ``shared``, the one without a loss."""
    if shared is None:
        return {o.name: GradientMemory(o.params, ranks=ranks, backward=backward) for o in objectives}
    total = GradientMemory(shared.params)
    # What is shared is large, as a rule: one memory for all losses.
    largest = max((o.params for o in objectives), key=required)
    memory = GradientMemory(largest, total).flat
    found = {o.name: GradientMemory(o.params, total, memory, ranks, backward) for o in objectives}
    return {**found, shared.name: total}


def required(params: Sequence[nn.Parameter]) -> int:
    """How many numbers a `GradientMemory` for ``params`` has."""
    return -(-sum(map(_padded, params)) // ROW) * ROW


def _padded(parameter: nn.Parameter) -> int:
    return -(-parameter.numel() // ALIGNED) * ALIGNED
