"""SAC agents as small as can be, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import nn

from lit_mtrl.algos.sac import SAC
from lit_mtrl.critics.scalar import ScalarCritic
from lit_mtrl.nets.paco import PaCo
from lit_mtrl.policies.tanh_gaussian import TanhGaussian
from tests.helpers.nets import Case, maker

T, B, OBS, ACT = 3, 5, 6, 2
PLAIN: Case = ("multi_head", {})


def make_batch(seed: int, dtype: torch.dtype = torch.float32) -> TensorDict:
    """``[T, B]``: the same numbers in every precision."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    after = {
        "observation": normal(T, B, OBS).to(dtype),
        "reward": (normal(T, B, 1) * 3).to(dtype),
        "terminated": torch.rand(T, B, 1, generator=g) < 0.3,
    }
    observation, action = normal(T, B, OBS).to(dtype), normal(T, B, ACT).tanh().to(dtype)
    return TensorDict({"observation": observation, "action": action, "next": after}, [T, B])


def make_chunk(updates: int, seed: int = 0) -> TensorDict:
    """``[updates, T, B]``"""
    chunk = torch.stack([make_batch(seed + i) for i in range(updates)])
    assert isinstance(chunk, TensorDict)
    return chunk


def exploded(batch: TensorDict, task: int, reward: float = 1e4) -> TensorDict:
    batch["next", "reward"][task] = reward
    return batch


def build(actor: Callable[..., nn.Module], critic: Callable[..., nn.Module] | None = None, **options: Any) -> SAC:
    """``actor`` and ``critic`` make networks; without ``critic``, both are made by ``actor``."""
    torch.manual_seed(0)
    return SAC(partial(TanhGaussian, actor), partial(ScalarCritic, critic or actor), OBS, ACT, T, **options)  # pyright: ignore


def make_sac(case: Case = PLAIN, **options: Any) -> SAC:
    """With a network of ``conf/network``, in single precision."""
    name, values = case
    own = {k: v for k, v in values.items() if k not in ("tasks", "parameter_sets")}
    own |= {"tasks": values["tasks"][:T]} if "tasks" in values else {}
    own |= {"parameter_sets": T} if "parameter_sets" in values else {}
    return build(maker(name, own), **options)


def make_double(actor: Callable[..., nn.Module], critic: Callable[..., nn.Module] | None = None, **options: Any) -> SAC:
    """In double precision, with heads large enough to matter."""
    sac = build(actor, critic, **options).double()
    with torch.no_grad():
        for name, parameter in sac.named_parameters():
            if "head" in name:
                parameter.mul_(100)
    return sac


SETS, WIDTH = 3, 8
"""Parameter sets and width of `make_paco`'s networks."""


def make_paco(actor: dict | None = None, critic: dict | None = None, **options: Any) -> SAC:
    """PaCo in double precision; ``actor`` and ``critic``: options of the networks."""
    sizes = {"width": WIDTH, "depth": 2, "parameter_sets": SETS}
    return make_double(*(partial(PaCo, **{**sizes, **(part or {})}) for part in (actor, critic)), **options)
