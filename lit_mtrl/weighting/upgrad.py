"""UPGrad: the mean of the gradients, each projected onto the cone of directions that harm no task (Quinton and Rey,
2024).

Unlike PCGrad's, the result conflicts with no task's gradient, whatever their number. The projection of g_i is sum_j v_j
g_j with the v >= e_i that minimises v' G v: T quadratic programs in T variables, solved together.

NOTE 1: in units of the gradients' own lengths the programs see cosines only, so tasks of any scale are solved equally
        well.
NOTE 2: an interior point method in double precision, on the device; the authors' library calls quadprog on the host.
        The diagonal of the cosines is raised by 1e-7 for gradients that depend on each other (the library: the
        Gramian's, by 1e-4 of its trace).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_mtrl.weighting.base import GramianWeighting, cosines
from lit_mtrl.weighting.interior import to_boundary

STEPS = 20
CENTRING = 0.1
RIDGE = 1e-7


class UPGrad(GramianWeighting):
    """Weights of the projected gradients' mean, as combinations of the original ones; none is below 1/T."""

    def forward(self, losses: Tensor, gramian: Tensor | None) -> Tensor:
        assert gramian is not None
        norms, cosine = cosines(gramian.double())
        parts = norms[:, None] * into_cone(cosine)  # row i: of unit gradients
        weights = torch.where(norms > 0, parts.sum(0) / norms, 1.0)
        return (weights / self.num_tasks).to(gramian)


def into_cone(cosine: Tensor) -> Tensor:
    """Row i: the v >= e_i that minimises v' C v, ``[T, T]``, for cosines C ``[T, T]``."""
    tasks = len(cosine)
    itself = torch.eye(tasks, dtype=cosine.dtype, device=cosine.device)
    quadratic = cosine + RIDGE * itself
    u = torch.ones_like(cosine)  # v - e_i
    z = torch.ones_like(cosine)
    for _ in range(STEPS):
        barrier = CENTRING * (u * z).mean(1, keepdim=True)
        right = barrier / u - (u + itself) @ quadratic
        du = torch.linalg.solve_ex(quadratic + (z / u).diag_embed(), right)[0]
        dz = barrier / u - z - z / u * du
        u, z = u + to_boundary(u, du) * du, z + to_boundary(z, dz) * dz
    return u + itself
