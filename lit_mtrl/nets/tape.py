"""The Gramian of per-task gradients, from what every layer saw and what came back to it.

Row t of a network's data depends on row t of its input alone, so one backward pass of the losses' sum brings every
layer the gradients of all tasks, row by row. A linear layer's gradient of task t is x_t^T delta_t; the inner products
of all pairs follow layer by layer, and the Jacobian ``[T, P]`` of all tasks is never held: beside what training keeps
anyway (each layer's input), a `Tape` keeps each layer's ``delta``, as large as its output, and works on at most `CHUNK`
numbers at once. (Where weights are composed per task, as PaCo's, that output is the tasks' weights.)

A layer takes part by a method ``gramian(x, delta, shared_only)`` of its own class and by passing its output through
`watch`, which its input must reach task by task: row t of ``[T, b, d]``, or rows t b to (t + 1) b of ``[T b, d]``.
Parameters of anything else still count: their gradients, ``[T, P]`` of them, are formed by T backward passes in one.
Losses must not mix tasks.

The Gramian of gradients that are averages over ranks is not the average of the ranks' Gramians. Layers get the samples
of all ranks, gathered at once; that is as much as one rank would have for the whole batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lit_mtrl.core.ranks import Ranks

CHUNK = 2**24
"""Numbers of a layer's task gradients that are held at once: 64 MiB in single precision."""

_recording: Tape | None = None


class Tape:
    """Gramians of the task gradients of ``params``, which modules of ``root`` own, averaged over ``ranks``."""

    def __init__(self, root: nn.Module, params: Sequence[nn.Parameter], ranks: Ranks | None = None):
        self.ranks = ranks or Ranks()
        wanted = {id(p) for p in params}
        self.params = tuple(params)
        owners = Counter(id(p) for module in root.modules() for p in module.parameters(recurse=False))
        self.layers: set[nn.Module] = set()
        for module in root.modules():
            own = {id(p) for p in module.parameters(recurse=False)}
            # A subclass, or a layer with parametrised weights, may do more with them than the method of its base knows.
            known = "gramian" in type(module).__dict__
            if known and own and own <= wanted and all(owners[p] == 1 for p in own):
                self.layers.add(module)
        self._anchor = self.params[0].new_zeros(()).requires_grad_()
        self._called: set[nn.Module] = set()
        self._seen: dict[tuple[nn.Module, str], list[tuple[Tensor, Tensor]]] | None = None

    @contextmanager
    def record(self) -> Iterator[None]:
        """Losses computed inside can be asked for their `gramian` afterwards."""
        global _recording
        assert _recording is None, "one tape at a time"
        _recording = self
        self._called.clear()
        try:
            yield
        finally:
            _recording = None

    @torch.no_grad()
    def gramian(self, losses: Tensor, shared_only: bool = False) -> Tensor:
        """Inner products ``[T, T]`` of the gradients of ``losses [T]``, which `record` saw; the graph is kept.

        ``shared_only``: without the parameters that belong to one task each (heads, embeddings, columns of the
        one-hot). They change the diagonal alone.
        """
        self._seen = {}
        try:
            if self._called:
                torch.autograd.grad(losses, self._anchor, torch.ones_like(losses), retain_graph=True, allow_unused=True)
            seen = self._seen
        finally:
            self._seen = None
        tasks = len(losses)
        total = losses.new_zeros(tasks, tasks)
        pairs = []
        for uses in seen.values():
            rows = [_by_task(x.to(losses.dtype), delta.to(losses.dtype), tasks) for x, delta in uses]
            pairs.append(rows[0] if len(rows) == 1 else _joined(rows))
        for (layer, _), (x, delta) in zip(seen, self._of_all_ranks(pairs), strict=True):
            total += layer.gramian(x, delta, shared_only)  # pyright: ignore[reportCallIssue]
        own = {id(p) for layer in self._called for p in layer.parameters(recurse=False)}
        rest = [p for p in self.params if id(p) not in own]
        return total + _jacobian_gramian(losses, rest, self.ranks) if rest else total

    def _of_all_ranks(self, pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """``x [L | 1, T, m, in]``, ``delta [L, T, m, out]`` with the samples of all ranks, of losses that are means
        over the ranks.
        """
        if self.ranks.size == 1 or not pairs:
            return pairs
        tensors = [v for x, delta in pairs for v in (x, delta / self.ranks.size)]
        parts = self.ranks.stack(torch.cat([v.flatten() for v in tensors])).split([v.numel() for v in tensors], 1)
        joined = [torch.cat([each.view_as(v) for each in part], 2) for v, part in zip(tensors, parts, strict=True)]
        return list(zip(joined[::2], joined[1::2], strict=True))

    def take(self, layer: nn.Module, part: str, x: Tensor, y: Tensor) -> Tensor:
        """`watch`, for the tape that records."""
        if layer not in self.layers or not torch.is_grad_enabled():
            return y
        self._called.add(layer)
        return _Watch.apply(y, x.view(*[1] * (y.ndim - x.ndim), *x.shape), self._anchor, self, (layer, part))

    def keep(self, key: tuple[nn.Module, str], x: Tensor, delta: Tensor) -> None:
        """What came back to a layer, if this is the backward pass of `gramian`."""
        if self._seen is not None:
            self._seen.setdefault(key, []).append((x, delta))


def watch(layer: nn.Module, x: Tensor, y: Tensor, part: str = "") -> Tensor:
    """``y [*lead, n, out]``, which ``layer`` made of ``x [n, in]`` or ``[*lead, n, in]``; n is T or T times samples,
    task by task.

    ``part`` tells several products of one layer apart.
    """
    return y if _recording is None else _recording.take(layer, part, x, y)


@contextmanager
def constant() -> Iterator[None]:
    """Layers inside are not watched: their parameters are constants there."""
    global _recording
    before, _recording = _recording, None
    try:
        yield
    finally:
        _recording = before


class _Watch(torch.autograd.Function):
    """The identity on y; its backward pass hands x and the gradient of y to the tape."""

    @staticmethod
    def forward(y: Tensor, x: Tensor, anchor: Tensor, tape: Tape, key: tuple[nn.Module, str]) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, x, _, ctx.tape, ctx.key = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, delta: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.tape.keep(ctx.key, *ctx.saved_tensors, delta)
        return delta, None, delta.new_zeros(()), None, None

    @staticmethod
    def vmap(info, in_dims, y: Tensor, x: Tensor, anchor: Tensor, tape: Tape, key: tuple[nn.Module, str]):
        y, x = (
            v.unsqueeze(0) if dim is None else v.movedim(dim, 0) for v, dim in zip((y, x), in_dims[:2], strict=True)
        )
        return _Watch.apply(y, x, anchor, tape, key), 0


def weight_gramian(x: Tensor, delta: Tensor) -> Tensor:
    """Inner products ``[T, T]`` of ``x_t^T delta_t``, for ``x [L | 1, T, m, in]`` and ``delta [L, T, m, out]``, summed
    over L.
    """
    size, tasks, m, out = delta.shape
    rows, width = tasks * m, x.shape[-1]
    if rows * m * (width + out) <= (m + tasks) * width * out and size * rows * rows <= CHUNK:
        # sum_ij (x_si . x_tj) (delta_si . delta_tj), which needs no x^T delta.
        flat = x.flatten(1, 2), delta.flatten(1, 2)
        inner = [torch.bmm(v, v.mT) for v in flat]
        return (inner[0] * inner[1]).sum(0).view(tasks, m, tasks, m).sum((1, 3))
    total = delta.new_zeros(tasks, tasks)
    step = max(1, CHUNK // (size * tasks * out))
    delta = delta.flatten(0, 1)
    for part in x.split(step, -1):
        rows_t = part.expand(size, *part.shape[1:]).flatten(0, 1).mT  # [L T, step, m]
        total += gradient_gramian(torch.bmm(rows_t, delta).view(size, tasks, -1))
    return total


def gradient_gramian(gradients: Tensor) -> Tensor:
    """Inner products ``[T, T]`` of ``gradients [L, T, n]``, summed over L."""
    return torch.bmm(gradients, gradients.mT).sum(0)


def own_gramian(gradients: Tensor) -> Tensor:
    """``[T, T]`` of ``gradients [L, T, n]`` for parameters of which every task has its own: no task meets another."""
    return gradients.square().sum((0, 2)).diag()


def _by_task(x: Tensor, delta: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
    """``x [*lead | 1, n, in]``, ``delta [*lead, n, out]`` to ``[L | 1, T, m, in]``, ``[L, T, m, out]``."""
    assert x.shape[-2] == delta.shape[-2] and x.shape[-2] % tasks == 0, "a recorded layer's rows are those of T tasks"
    if any(size != 1 for size in x.shape[:-2]):
        x = x.expand(*delta.shape[:-2], *x.shape[-2:])
    return tuple(v.reshape(-1, tasks, v.shape[-2] // tasks, v.shape[-1]) for v in (x, delta))  # pyright: ignore


def _joined(uses: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Several uses of a layer as one with all samples."""
    size = len(uses[0][1])
    xs, deltas = zip(*uses, strict=True)
    return torch.cat([x.expand(size, *x.shape[1:]) for x in xs], -2), torch.cat(deltas, -2)


def _jacobian_gramian(losses: Tensor, params: list[nn.Parameter], ranks: Ranks) -> Tensor:
    """From the gradients themselves, ``[T, P]``."""
    grads = torch.autograd.grad(
        losses,
        params,
        torch.eye(len(losses), dtype=losses.dtype, device=losses.device),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    total = losses.new_zeros(len(losses), len(losses))
    for grad in grads:
        flat = ranks.mean(grad.flatten(1))
        total += flat @ flat.t()
    return total
