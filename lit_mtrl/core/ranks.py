"""The processes that train one agent together ("ranks"), and what they tell each other.

Ranks have equal parameters. Each has all tasks, with environments, replay and random numbers of its own, and computes
on its part of every batch; gradients, and everything that decides about them, are averages over the ranks. So R ranks
do what one rank would do with their batches joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
P = ParamSpec("P")


class RankError(RuntimeError):
    """Ranks no longer agree, or one of them has gone; the message says which."""


def _together(call: Callable[P, T]) -> Callable[P, T]:
    """What ``call`` does needs all ranks."""

    @wraps(call)
    def safely(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise RankError(f"another rank has stopped, or cannot be reached ({reason})") from error

    return safely


class Ranks:
    """All methods but the constructor must be called by every rank, in the same order. With one rank they cost
    nothing.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @classmethod
    def here(cls) -> Ranks:
        """The ranks of PyTorch's process group; a single one if there is no group."""
        up = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if up else cls()

    @cached_property
    def _device(self) -> torch.device:
        """Where tensors must be for the group to take them."""
        return (
            torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
        )

    @_together
    def mean_(self, tensor: Tensor) -> Tensor:
        """Average ``tensor``, contiguous and on the learner's device, over the ranks, in place; equal bits
        everywhere.
        """
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """The average of ``tensor`` over the ranks."""
        return self.mean_(tensor.clone(memory_format=torch.contiguous_format)) if self.size > 1 else tensor

    @_together
    def stack(self, tensor: Tensor) -> Tensor:
        """``[R, *shape]``: what each rank has, on the learner's device."""
        if self.size == 1:
            return tensor[None]
        tensor = tensor.contiguous()
        out = tensor.new_empty(self.size, *tensor.shape)
        dist.all_gather(list(out.unbind(0)), tensor)
        return out

    def joined(self, tensor: Tensor, dim: int) -> Tensor:
        """Every rank's ``tensor`` side by side along ``dim``."""
        return torch.cat(list(self.stack(tensor)), dim) if self.size > 1 else tensor

    @_together
    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the host."""
        if self.size == 1:
            return values
        there = values.to(self._device, copy=True)
        dist.all_reduce(there)
        return there.to(values.device)

    def all(self, condition: bool) -> bool:
        """Whether ``condition`` holds on every rank."""
        return int(self.sum(torch.tensor(int(condition)))) == self.size

    @_together
    def gather(self, value: T) -> list[T]:
        """The values of all ranks, which can be pickled."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    @_together
    def first(self, value: T) -> T:
        """Rank 0's value, which can be pickled."""
        if self.size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found)
        return found[0]

    def different(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Names of those that do not have the same bits on all ranks, by a sum of these bits: a changed order would not
        be seen.
        """
        if self.size == 1:
            return []
        sums = [_bits(tensor.detach()).sum() for tensor in tensors.values()]
        found = self.stack(torch.stack(sums))
        return [name for name, same in zip(tensors, (found == found[0]).all(0).tolist(), strict=True) if not same]


def _bits(tensor: Tensor) -> Tensor:
    flat = tensor.contiguous().flatten()
    return flat.view(torch.int32 if flat.element_size() % 4 == 0 else torch.uint8)
