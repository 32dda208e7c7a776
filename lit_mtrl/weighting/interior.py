"""What interior point methods on a few positive variables have in common."""

from __future__ import annotations

from torch import Tensor


def to_boundary(x: Tensor, dx: Tensor) -> Tensor:
    """The step ``<= 1`` along ``dx`` that takes ``x > 0`` at most 99 % of the way to where one of the last dimension's
    entries is zero.
    """
    return 0.99 / (-dx / x).amax(-1, keepdim=True).clamp_min(0.99)
