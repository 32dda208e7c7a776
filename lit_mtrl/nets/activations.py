"""What the hidden units of a network do on a batch, without naming its layers.

NOTE 1: a layer is one call of an activation function inside the network (ReLU, tanh, ...). Heads have none, so they do
        not count; softmax mixes parts and is no unit. McLean et al. (2025) mark layers by hand, and count Soft
        Modularization's routing probabilities, too.
NOTE 2: a layer is named after the module with parameters that its values come from; of several, the one called last. A
        name that is used again gets a number, so a module that is called twice, or activated twice, stays apart from
        itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
"""Activation functions that saturate, and between what."""
OTHERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "hardtanh", "hardswish", "prelu")


@dataclass(frozen=True)
class Layer:
    """One layer on one batch: ``name``, ``values [samples, units]``, and ``bounds`` of its activation function or
    None.
    """

    name: str
    values: Tensor
    bounds: tuple[float, float] | None


@torch.no_grad()
def record(net: nn.Module, x: Tensor) -> list[Layer]:
    """The layers of ``net(x)`` in the order of their calls, for ``x [T, b, in]`` whose row t is task t.

    Samples are the axes of sizes T and b, or T * b, or T alone for what depends on the task only; all other axes are
    units, so each expert has units of its own. Choose b different from T and from the number of experts.
    """
    with _Recorder(net, (x.shape[0], x.shape[1])) as recorder:
        net(x)
    return recorder.layers


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd. A tensor's ``_origin`` is the module that it comes from: number of the call,
    and name.
    """

    def __init__(self, net: nn.Module, rows: tuple[int, int]):
        super().__init__()
        self.net, self.rows = net, rows
        self.layers: list[Layer] = []
        self._calls = 0
        self._hooks: list[Any] = []

    def __enter__(self) -> _Recorder:
        for name, module in self.net.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                self._hooks.append(module.register_forward_hook(partial(self._called, name)))
        return super().__enter__()  # pyright: ignore[reportReturnType]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _called(self, name: str, module: nn.Module, args: Any, out: Tensor) -> None:
        self._calls += 1
        out._origin = (self._calls, name)  # pyright: ignore[reportAttributeAccessIssue]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        origins = [leaf._origin for leaf in tree_leaves((args, kwargs)) if hasattr(leaf, "_origin")]
        origin = max(origins, default=(0, "input"))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                leaf._origin = origin  # pyright: ignore[reportAttributeAccessIssue]
        function = func.overloadpacket.__name__.rstrip("_")
        if function in BOUNDS or function in OTHERS:
            self._keep(origin[1], out, BOUNDS.get(function))
        return out

    def _keep(self, name: str, out: Tensor, bounds: tuple[float, float] | None) -> None:
        values = rows_of(out, *self.rows)
        if values is not None:
            used = sum(layer.name.split("#")[0] == name for layer in self.layers)
            self.layers.append(Layer(f"{name}#{used + 1}" if used else name, values, bounds))


def rows_of(values: Tensor, tasks: int, samples: int) -> Tensor | None:
    """``values`` as ``[rows, units]``; None if no axis before the last holds samples."""
    lead = tuple(values.shape[:-1])
    found = next((i for i in range(len(lead) - 1) if lead[i : i + 2] == (tasks, samples)), None)
    span = 2
    if found is None:
        span = 1
        found = next((lead.index(size) for size in (tasks * samples, tasks) if size in lead), None)
    if found is None:
        return None
    axes = range(found, found + span)
    rest = [i for i in range(values.ndim) if i not in axes]
    moved = values.permute(*axes, *rest)
    return moved.reshape(moved.shape[:span].numel(), -1)
