"""The matrix products of an update, recorded while it runs, and played again alone: the least time an update can take.

NOTE 1: operands of the same shape and strides share memory when the products are played again, and results are written
        into memory that exists: nothing is allocated, and caches are as warm as they can be. It is a bound, not an
        imitation.
NOTE 2: what ``addmm`` and ``baddbmm`` add is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
FACTORS = {_aten.mm: 0, _aten.bmm: 0, _aten.addmm: 1, _aten.baddbmm: 1, _aten.addbmm: 1, _aten.mv: 0, _aten.addmv: 1}
"""Operations that are matrix products, and where their two factors begin in the arguments."""


class Factor(NamedTuple):
    """How a factor lies in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Product(NamedTuple):
    """One matrix product, or one batch of them: ``[..., m, k] @ [..., k, n]``, or a vector as the second factor."""

    first: Factor
    second: Factor

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        *_, m, k = self.first.shape
        batch = self.first.shape[0] if len(self.first.shape) == 3 else 1
        return 2 * batch * m * k * (self.second.shape[-1] if len(self.second.shape) > 1 else 1)


class Recorder(TorchDispatchMode):
    """While it is entered, matrix products are noted in ``products``, those of backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        at = FACTORS.get(func.overloadpacket)
        if at is not None:
            first, second = (_factor(t) for t in args[at : at + 2])
            self.products.append(Product(first, second))
        return func(*args, **(kwargs or {}))


def record(call: Callable[[], object]) -> list[Product]:
    """The matrix products of one ``call``, in order."""
    recorder = Recorder()
    with recorder:
        call()
    return recorder.products


def replay(products: list[Product]) -> Callable[[], None]:
    """A function that does just ``products``."""
    memory: dict[tuple, Tensor] = {}

    def tensor(factor: Factor, role: int) -> Tensor:
        if (factor, role) not in memory:
            memory[factor, role] = torch.empty_strided(
                factor.shape, factor.stride, dtype=factor.dtype, device=factor.device
            ).fill_(0.5)
        return memory[factor, role]

    def result(first: Tensor, second: Tensor) -> Tensor:
        y = torch.matmul(first, second)
        return memory.setdefault((y.shape, y.dtype, y.device), y)

    jobs = []
    for product, count in Counter(products).items():
        first, second = tensor(product.first, 0), tensor(product.second, 1)
        jobs.append((_function(first, second), first, second, result(first, second), count))

    def play() -> None:
        for function, first, second, out, count in jobs:
            for _ in range(count):
                function(first, second, out=out)

    return play


def _function(first: Tensor, second: Tensor) -> Callable[..., Tensor]:
    return torch.bmm if first.ndim == 3 else torch.mm if second.ndim == 2 else torch.mv


def _factor(x: Tensor) -> Factor:
    return Factor(tuple(x.shape), x.stride(), x.dtype, x.device)
