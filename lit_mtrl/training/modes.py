"""How an update is executed: losses compiled by TorchInductor or in half precision, whole updates as CUDA graphs.

Modes do not change what is computed. Random numbers are drawn before an update
(`lit_mtrl.algos.base.Algorithm.on_sample`), so that it is a function of its batch, the parameters and the optimizers'
state.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_mtrl.core.errors import require
from lit_mtrl.core.suggest import unknown

log = logging.getLogger("lit_mtrl")

MODES = ("eager", "compile", "cudagraph", "compile+cudagraph")
PRECISIONS = ("fp32", "tf32", "bf16")
WARM_UP = 3
"""Updates of each kind that run eagerly before one is recorded: optimizers make their state, libraries their
workspaces.
"""

Loss = Callable[[TensorDictBase], TensorDict]


def resolve_mode(mode: str, precision: str, device: str) -> str:
    """The mode that ``mode`` (possibly ``auto``) is on a device of type ``device``; `ConfigError` if it, or the
    precision, does not exist there.
    """
    require(mode in ("auto", *MODES), unknown("engine.mode", mode, ("auto", *MODES)))
    require(precision in PRECISIONS, unknown("engine.precision", precision, PRECISIONS))
    gpu = device == "cuda"
    require(gpu or "cudagraph" not in mode, f"engine.mode={mode}: needs a GPU, and this run has none; use engine=eager")
    require(gpu or precision != "tf32", "engine.precision=tf32: exists on GPUs only; use fp32 or bf16")
    return ("cudagraph" if gpu else "eager") if mode == "auto" else mode


def in_mode(losses: Mapping[str, Loss], mode: str, watched: Collection[str]) -> dict[str, Loss]:
    """The objectives' ``losses``, compiled if ``mode`` says so, but for those whose layers are ``watched``."""
    if "compile" not in mode:
        return dict(losses)
    if watched:
        log.info("engine.mode=%s: %s not compiled, for their weightings' sake", mode, ", ".join(watched))
    compiler = Compiler()
    return {name: loss if name in watched else compiler.wrap(loss) for name, loss in losses.items()}


def in_precision(loss: Loss, precision: str, device: str) -> Loss:
    """``loss`` with its networks' products in ``precision`` on a device of type ``device``."""
    if precision != "bf16":
        return loss

    def call(batch: TensorDictBase) -> TensorDict:
        # Without its cache of cast weights, which would outlive a recorded graph's memory.
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            return loss(batch)

    return call


class Compiler:
    """Compiles losses; at the first that cannot be, one warning, and all of them run eagerly from then on."""

    def __init__(self, backend: str = "inductor"):
        self.backend, self.failed = backend, False

    def wrap(self, loss: Loss) -> Loss:
        """``loss``, compiled when it is called first."""
        from torch._dynamo.exc import TorchDynamoException

        compiled = torch.compile(loss, dynamic=False, backend=self.backend)

        def call(batch: TensorDictBase) -> TensorDict:
            if self.failed:
                return loss(batch)
            try:
                return compiled(batch)
            except TorchDynamoException as error:
                self.failed = True
                reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
                log.warning("engine.mode=compile: compilation failed, updates run eagerly instead (%s)", reason)
                return loss(batch)

        return call


class Graphs:
    """Updates as CUDA graphs: one graph for each set of objectives that are due together, replayed on buffers of its
    own.

    ``update(due, batch)`` is recorded after `WARM_UP` ordinary calls; it must not wait for the device, and leave its
    results in tensors that it made before. ``optimizers`` are those that it steps. If recording fails, one warning, and
    updates run eagerly from then on.
    """

    def __init__(
        self,
        update: Callable[[tuple[str, ...], TensorDictBase], None],
        optimizers: Iterable[torch.optim.Optimizer],
    ):
        self.update, self.optimizers = update, list(optimizers)
        self.failed = False
        self._side = SideStream()
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._replays: dict[tuple[str, ...], Callable[[], object]] = {}
        self._batch: TensorDictBase | None = None
        self._keys: list[Any] = []
        self._inputs: list[Tensor] = []

    def __call__(self, due: tuple[str, ...], batch: TensorDictBase) -> None:
        """One update on ``batch [T, b]``, whose shapes and keys are always the same."""
        self._calls[due] += 1
        if self.failed or self._calls[due] <= WARM_UP:
            self._side.run(lambda: self.update(due, batch))
            return
        if self._batch is None:
            self._keys = sorted(batch.keys(True, True), key=str)
            self._batch = batch.clone()
            self._inputs = [self._batch.get(key) for key in self._keys]
        if due not in self._replays and not self._try_to_record(due, self._batch):
            self._side.run(lambda: self.update(due, batch))
            return
        torch._foreach_copy_(self._inputs, [batch.get(key) for key in self._keys])
        self._replays[due]()

    def _try_to_record(self, due: tuple[str, ...], batch: TensorDictBase) -> bool:
        try:
            self._replays[due] = self._record(due, batch)
        except RuntimeError as error:
            self.failed = True
            # What ends a recording that went wrong hides what went wrong in it.
            reason = str(error.__context__ or error).strip().splitlines()[0]
            log.warning("engine.mode=cudagraph: recording failed, updates run eagerly instead (%s)", reason)
        return not self.failed

    def _record(self, due: tuple[str, ...], batch: TensorDictBase) -> Callable[[], object]:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        # Fused Adam keeps its step count on the device in any case; Adam asks for the flag while it is recorded, and
        # warns of it otherwise.
        for group in groups:
            group["capturable"] = True
        try:
            return self._side.record(lambda: self.update(due, batch))
        finally:
            for group in groups:
                group["capturable"] = False


class SideStream:
    """The CUDA stream on which updates are tried and recorded; libraries and autograd remember the one that they were
    first used on.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def run(self, call: Callable[[], None]) -> None:
        """``call``, after what the present stream has been given, and before what it will be."""
        present = torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            call()
        present.wait_stream(self._stream)

    def record(self, call: Callable[[], None]) -> Callable[[], object]:
        """What ``call`` does on the device, without doing it now."""
        graph = torch.cuda.CUDAGraph()
        # A recording that cannot be ended would leave its stream the present one. Other threads may go on using the
        # device: the one that collects data does.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            call()
        return graph.replay
