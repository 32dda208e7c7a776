"""Modes of the engine: compiled and recorded updates compute what eager ones do, nothing in an update waits for the
device, failures fall back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.training import engine as engine_module
from lit_mtrl.training import modes as execution
from lit_mtrl.training.engine import Engine, resolve_mode
from lit_mtrl.training.modes import Compiler
from tests.helpers.nets import CASES, ONE_EACH, Case, name_of
from tests.helpers.sac import PLAIN, T, make_batch, make_sac
from tests.helpers.updates import Toy, assert_close, toy_chunk, trained
from tests.helpers.weightings import WEIGHTINGS, make_weighting


class Here:
    """In place of a stream and its graphs: runs the same Python again, on the same buffers."""

    def run(self, call: Callable[[], None]) -> None:
        call()

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        return call


@pytest.fixture
def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "Lane", Here)
    monkeypatch.setattr(engine_module, "resolve_mode", lambda mode, precision, device: mode)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_replayed_updates_are_eager_ones(case: Case, pretend_cuda: None) -> None:
    sac = make_sac(case)
    got, engine = trained(sac, "cudagraph")
    want, _ = trained(sac, "eager")
    assert len(engine._execute._replays) == 1
    assert_close(got, want, 0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_replayed_updates_are_eager_ones_with_every_weighting(weighting: str, pretend_cuda: None) -> None:
    sac = make_sac(PLAIN, mask_out=1e3)
    assert_close(trained(sac, "cudagraph", weighting)[0], trained(sac, "eager", weighting)[0], 0)


def test_each_set_of_due_objectives_has_its_own_graph(pretend_cuda: None) -> None:
    def metrics(mode: str) -> tuple[dict, Engine]:
        engine = Engine(Toy(every=2), mode=mode)
        for scale in (1.0, 2.0, 3.0, 4.0):
            per_task, scalar = engine.run(toy_chunk(scale))
        return {**dict(per_task.items()), **dict(scalar.items())}, engine  # pyright: ignore

    got, engine = metrics("cudagraph")
    want, _ = metrics("eager")
    assert engine._execute._replays.keys() == {("first", "second"), ("first",)}  # pyright: ignore
    assert_close(got, want, 0)
    assert float(want["second/loss"].sum()) != 0


@pytest.mark.parametrize("case", ONE_EACH, ids=name_of)
def test_losses_are_traced_whole(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler sees computes the same, and no part of a loss is left to Python; code generation is another
    test's.
    """
    seen = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(engine_module, "Compiler", lambda: Compiler(backend))  # pyright: ignore
    torch._dynamo.reset()
    sac = make_sac(case)
    assert_close(trained(sac, "compile", chunks=1, updates=2)[0], trained(sac, "eager", chunks=1, updates=2)[0], 1e-6)
    assert len(seen) == 3, "one graph per objective"


@pytest.mark.slow
@pytest.mark.parametrize("case", ONE_EACH, ids=name_of)
def test_compiled_updates_equal_eager_ones(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    sac = make_sac(case)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    got, _ = trained(sac, "compile", chunks=10, updates=10)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3 and "run eagerly" not in caplog.text
    want, _ = trained(sac, "eager", chunks=10, updates=10)
    assert_close(got, want, 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["compile", "cudagraph", "compile+cudagraph"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_modes_equal_eager_on_a_gpu(case: Case, mode: str) -> None:
    sac = make_sac(case).cuda()
    torch._dynamo.reset()
    got, engine = trained(sac, mode, chunks=10, updates=10)
    assert "cudagraph" not in mode or (engine._execute._replays and not engine._execute.failed)
    assert_close(got, trained(sac, "eager", chunks=10, updates=10)[0], 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_graphs_equal_eager_on_a_gpu_with_every_weighting(weighting: str) -> None:
    sac = make_sac(PLAIN, mask_out=1e3).cuda()
    got, engine = trained(sac, "cudagraph", weighting, chunks=10, updates=10)
    assert engine._execute._replays and not engine._execute.failed
    assert_close(got, trained(sac, "eager", weighting, chunks=10, updates=10)[0], 1e-5)


class NoAdam(torch.optim.SGD):
    """PyTorch's fused Adam does not know tensors without values."""

    def __init__(self, params: list, lr: float, **_: object):
        super().__init__(params, lr=lr)


PAIRS = [(case, "pcgrad") for case in CASES] + [(PLAIN, weighting) for weighting in WEIGHTINGS]


@pytest.mark.gpu
def test_a_recording_that_fails_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that waits for the device while it is recorded, and only then."""
    sac = make_sac(("mlp", {})).cuda()
    loss = SAC.critic_loss

    def waits(self: SAC, batch: TensorDict) -> TensorDict:
        out = loss(self, batch)
        if torch.cuda.is_current_stream_capturing():
            out["loss"].sum().item()
        return out

    monkeypatch.setattr(SAC, "critic_loss", waits)
    monkeypatch.setattr(logging.getLogger("lit_mtrl"), "propagate", True)
    got, engine = trained(sac, "cudagraph", chunks=3)
    assert engine._execute.failed and torch.cuda.current_stream() == torch.cuda.default_stream()
    assert len([r for r in caplog.records if "recording failed" in r.message]) == 1
    assert_close(got, trained(sac, "eager", chunks=3)[0], 1e-5)


@pytest.mark.parametrize(("case", "weighting"), PAIRS, ids=str)
def test_nothing_in_an_update_waits_for_the_device(case: Case, weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without values: asking for one raises, and so does meeting a tensor of the host."""
    monkeypatch.setattr(torch.optim, "Adam", NoAdam)
    sac = make_sac(case, mask_out=1e3)
    batch = make_batch(0)
    sac.draw(batch)
    weightings = {name: make_weighting(weighting, T).to("meta") for name in ("critic", "actor")}
    shared = [next(n for n, p in sac.named_parameters() if p is mine) for mine in sac.shared]
    sac.to("meta")
    sac.shared = [sac.get_parameter(name) for name in shared]
    engine = Engine(sac, weightings)
    for _ in range(2):
        engine._add(engine._due(), batch.to("meta"))
    assert all(p.device.type == "meta" for p in sac.parameters())
    assert all(total.device.type == "meta" for _, total in engine._totals.values())
    with pytest.raises(RuntimeError):  # what this test relies on
        sac.log_alpha.sum().item()
    with pytest.raises(RuntimeError):
        sac.log_alpha + torch.ones(T)


def test_a_compiler_that_fails_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        raise OSError("no C++ compiler here\nand more")

    monkeypatch.setattr(engine_module, "Compiler", lambda: Compiler(broken))  # pyright: ignore
    monkeypatch.setattr(logging.getLogger("lit_mtrl"), "propagate", True)
    torch._dynamo.reset()
    sac = make_sac(("mlp", {}))
    got = trained(sac, "compile", chunks=1, updates=2)[0]
    assert_close(got, trained(sac, "eager", chunks=1, updates=2)[0], 0)
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "no C++ compiler here" in warnings[0] and "\n" not in warnings[0]


def test_a_graph_that_cannot_be_recorded_is_told_once(
    caplog: pytest.LogCaptureFixture, pretend_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(self: Here, call: Callable[[], None]) -> Callable[[], None]:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        finally:
            raise RuntimeError("operation failed due to a previous error")  # as the end of a recording does

    monkeypatch.setattr(Here, "record", record)
    monkeypatch.setattr(logging.getLogger("lit_mtrl"), "propagate", True)
    sac = make_sac(("mlp", {}))
    assert_close(trained(sac, "cudagraph")[0], trained(sac, "eager")[0], 0)
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "not permitted" in warnings[0] and "\n" not in warnings[0]


@pytest.mark.parametrize("case", ONE_EACH, ids=name_of)
def test_half_precision_changes_products_only(case: Case) -> None:
    """Near single precision, not equal to it; parameters and metrics stay in single precision, for weightings that
    watch layers, too.
    """
    for weighting in ("mean", "pcgrad"):
        sac = make_sac(case)
        got = trained(sac, "eager", weighting, chunks=1, updates=2, precision="bf16")[0]
        want = trained(sac, "eager", weighting, chunks=1, updates=2)[0]
        assert all(v.dtype == torch.float32 for v in got.values())
        assert not torch.equal(got["metric critic/loss"], want["metric critic/loss"])
        torch.testing.assert_close(got["metric critic/loss"], want["metric critic/loss"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("mode", "precision", "device", "message"),
    [
        ("cudagraph", "fp32", "cpu", "engine.mode=cudagraph: needs a GPU"),
        ("compile+cudagraph", "fp32", "cpu", "needs a GPU"),
        ("eager", "tf32", "cpu", "engine.precision=tf32: exists on GPUs only"),
        ("cudagrph", "fp32", "cuda", "cudagraph"),
        ("eager", "fp16", "cpu", "bf16"),
    ],
)
def test_modes_that_do_not_exist(mode: str, precision: str, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("+", "[+]")):
        resolve_mode(mode, precision, device)


def test_auto_records_graphs_on_gpus_only() -> None:
    assert resolve_mode("auto", "fp32", "cuda") == "cudagraph" and resolve_mode("auto", "fp32", "cpu") == "eager"
