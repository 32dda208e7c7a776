"""PCGrad: gradients that conflict lose their component along each other (Yu et al., 2020, algorithm 1).

NOTE 1: each gradient meets the others in a random order of its own. The original code shuffles without effect, McLean
        et al.'s has one order for all. The order is a hash of ``seed``, update and pair: no generator, equal on all
        processes.
NOTE 2: `reduction`: ``mean`` of the projected gradients as in McLean et al.'s code, or ``sum`` as in the paper. Without
        clipping, Adam hides most of the difference.
NOTE 3: all parameters of an objective form one gradient, heads and both critics included, as in McLean et al.'s code;
        ``shared_only`` judges conflicts by the parameters that tasks share.
NOTE 4: in McLean et al.'s code this path samples next actions at the present observation and gives all tasks the same
        noise. Here a weighting does not touch the losses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.weighting.base import GramianWeighting, cosines

REDUCTIONS = ("mean", "sum")


class PCGrad(GramianWeighting):
    """Weights of the projected gradients' ``reduction``, as combinations of the original ones."""

    updates: Tensor

    def __init__(self, num_tasks: int, reduction: str = "mean", shared_only: bool = False, seed: int = 0):
        super().__init__(num_tasks, shared_only)
        require(reduction in REDUCTIONS, unknown("reduction", reduction, REDUCTIONS))
        self.reduction, self.seed = reduction, seed
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        weights = project(gramian, orders(self.updates + (self.seed % 2**31 << 32), self.num_tasks)).sum(0)
        self.updates += 1
        return weights / self.num_tasks if self.reduction == "mean" else weights


def project(gramian: Tensor, order: Tensor) -> Tensor:
    """Row i: the projected gradient of task i as a combination of all, ``[T, T]``.

    ``order [T, T - 1]``: the others that task i meets, in turn. A task with zero gradient meets nobody.
    """
    norms, cosine = cosines(gramian)
    parts = norms.diag()  # of unit gradients, which keeps scales of tasks apart
    for j in order.unbind(1):
        along = (parts * cosine[j]).sum(1)
        parts = parts.scatter_add(1, j[:, None], -along.clamp(max=0)[:, None])
    itself = torch.eye(len(norms), dtype=parts.dtype, device=parts.device)
    return torch.where(norms > 0, parts / norms, itself)


def orders(stream: Tensor, tasks: int) -> Tensor:
    """``[T, T - 1]``: for each task a random order of the others, a function of the integer ``stream`` alone."""
    device = stream.device
    pairs = torch.arange(tasks * tasks, device=device).view(tasks, tasks)
    keys = _mixed(_mixed(stream.view(1, 1)) + pairs)
    itself = torch.eye(tasks, dtype=torch.bool, device=device)
    return keys.masked_fill(itself, torch.iinfo(keys.dtype).max).argsort(1)[:, : tasks - 1]


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's output function (Steele et al., 2014) on int64, in wrapping arithmetic."""
    x = x + _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shifted(x, shift)) * _signed(factor)
    return x ^ _shifted(x, 31)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def _shifted(x: Tensor, by: int) -> Tensor:
    return (x >> by) & (2 ** (64 - by) - 1)
