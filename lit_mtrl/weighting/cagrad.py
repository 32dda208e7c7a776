"""CAGrad: near the mean gradient, the direction whose worst task improves most (Liu et al., 2021).

With g0 the mean gradient, d maximises min_i <g_i, d> under |d - g0| <= c |g0|. By its dual, d = g0 + c |g0| g_w /
|g_w|, where w minimises F(w) = <g_w, g0> + c |g0| |g_w| over the simplex, g_w = sum_i w_i g_i: all of it in terms of
the Gramian.

NOTE 1: the official code runs 20 steps of gradient descent on softmax logits, which leaves F up to some 10 % above its
        minimum; others call SLSQP on the host. Here 15 steps of an interior point method in double precision, without
        leaving the device.
NOTE 2: `rescale` divides d by 1 + c^2 (``square``, the official default), by 1 + c (``linear``) or not at all
        (``none``).
NOTE 3: c: 0.9 on MT10 and 0.5 on MT50 in the official runs, 0.4 in MTBench. A fork clips each task's gradient to norm 1
        first; this does not.
NOTE 4: where the tasks' gradients cancel (|g_w| below |g0| / 1000), the added part fades out instead of growing
        without bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown
from lit_mtrl.weighting.base import GramianWeighting
from lit_mtrl.weighting.interior import to_boundary

STEPS = 15
CENTRING = 0.1
SMOOTH = 1e-3
EVEN = 1e-4
NOISE = 1e-7  # of |g0|^2 relative to the mean squared norm, in a Gramian of single precision
RESCALES = {"none": lambda c: 1.0, "linear": lambda c: 1 + c, "square": lambda c: 1 + c * c}


class CAGrad(GramianWeighting):
    """Weights 1/T + c |g0| / |g_w| w_i, divided by what ``rescale`` says; ``0 <= c < 1``, and 0 is the mean."""

    def __init__(self, num_tasks: int, c: float = 0.5, rescale: str = "square", shared_only: bool = False):
        super().__init__(num_tasks, shared_only)
        require(0 <= c < 1, f"c={c}: must lie in [0, 1), where d cannot point against the mean gradient")
        require(rescale in RESCALES, unknown("rescale", rescale, list(RESCALES)))
        self.c, self.divisor = c, RESCALES[rescale](c)

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        products = normalised(gramian)
        w = worst_case(products, self.c)
        mean = products.mean().clamp_min(0)  # |g0|^2
        size = ((w @ products @ w).clamp_min(0) + SMOOTH**2 * mean.clamp_min(NOISE)).sqrt()
        weights = (1 / self.num_tasks + self.c * mean.sqrt() / size * w) / self.divisor
        return weights.to(gramian)


def normalised(gramian: Tensor) -> Tensor:
    """In double precision, divided by the mean squared norm; zero stays zero."""
    products = gramian.double()
    size = products.diagonal().mean()
    return products / torch.where(size > 0, size, 1.0)


def worst_case(products: Tensor, c: float) -> Tensor:
    """The w ``[T]`` on the simplex that minimises F, for a Gramian ``[T, T]`` of mean squared norm 1.

    Where several do, the most even one. Primal-dual interior point: |g_w| is smoothed, at first by |g0| and then less
    by half each step, so that its kink at zero does not stop Newton's method; of five step lengths the best is taken.
    """
    tasks = len(products)
    inner = products.mean(1)  # <g_i, g0>
    mean = inner.mean().clamp_min(NOISE)
    radius = c * mean.sqrt()
    w = torch.full_like(inner, 1 / tasks)
    z = mean * torch.ones_like(inner)
    even = EVEN * mean
    one = torch.ones_like(inner)
    lengths = 0.4 ** torch.arange(5, dtype=products.dtype, device=products.device)
    for step in range(STEPS):
        smooth = max(SMOOTH, 0.5**step) ** 2 * mean
        g = products @ w
        size = ((w @ g).clamp_min(0) + smooth).sqrt()
        barrier = CENTRING * (w @ z) / tasks
        hessian = radius * (products / size - torch.outer(g, g) / size**3)
        right = torch.stack([barrier / w - inner - radius * g / size - even * w, one], 1)
        solution = torch.linalg.solve_ex(hessian + (z / w + even).diag(), right)[0]
        dw = solution[:, 0] - solution[:, 0].sum() / solution[:, 1].sum() * solution[:, 1]
        dz = barrier / w - z - z / w * dw
        tried = w + (lengths * to_boundary(w, dw))[:, None] * dw
        length = ((tried @ products * tried).sum(1).clamp_min(0) + smooth).sqrt()
        merit = tried @ inner + radius * length + even / 2 * tried.square().sum(1) - barrier * tried.log().sum(1)
        w = tried.index_select(0, merit.argmin(keepdim=True)).squeeze(0)  # indexing would wait for the device
        z = z + to_boundary(z, dz) * dz
    return w / w.sum()
