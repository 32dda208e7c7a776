"""Updates by the engine: what they lead to, and an algorithm that is worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn

from lit_mtrl.algos.base import Algorithm, Objective
from lit_mtrl.algos.sac import SAC
from lit_mtrl.training.engine import Engine
from tests.helpers.sac import T, make_chunk
from tests.helpers.weightings import make_weighting


def trained(sac: SAC, mode: str, weighting: str = "mean", chunks: int = 2, updates: int = 5, **options: Any) -> tuple:
    """Parameters, targets and metrics after ``chunks`` runs of ``updates`` updates each."""
    sac = copy.deepcopy(sac)
    device = sac.log_alpha.device
    torch.manual_seed(3)
    weightings = {name: make_weighting(weighting, T).to(device) for name in ("critic", "actor")}
    engine = Engine(sac, weightings, mode, **options)
    for i in range(chunks):
        chunk = make_chunk(updates, 100 * i)
        sac_draw = copy.deepcopy(chunk)
        sac.draw(sac_draw)  # on the CPU, whatever the device
        with_noise = sac_draw.to(device)
        sac.draw = lambda batch, noise=with_noise: batch.update(noise.select("target_noise", "actor_noise"))  # pyright: ignore
        per_task, scalar = engine.run(chunk.to(device))
        del sac.draw
    values = {f"parameter {n}": p.detach().cpu() for n, p in sac.named_parameters()}
    values |= {f"metric {k}": v.cpu() for td in (per_task, scalar) for k, v in td.items()}  # pyright: ignore
    return values, engine


def assert_close(got: dict, want: dict, rtol: float) -> None:
    """Relative to the size of each tensor, not of each entry: entries are sums of parts of either sign."""
    assert got.keys() == want.keys()
    for key, value in want.items():
        size = value.double().norm().clamp_min(1e-12)
        error = float((got[key].double() - value.double()).norm() / size)
        assert error <= rtol, (key, error)


UPDATES, SAMPLES = 6, 4


class Losses(Algorithm):
    """An algorithm that is never acted with."""

    policy: Any = None


class Toy(Losses):
    """Two parameters per task; the second objective's loss reaches both, but moves only its own."""

    def __init__(self, clip: float | None = None, every: int = 1):
        super().__init__()
        self.num_tasks = T
        self.a, self.b = nn.Parameter(torch.ones(T)), nn.Parameter(torch.ones(T))
        self.clip, self.every, self.log = clip, every, []

    def objectives(self) -> tuple[Objective, ...]:
        return (
            Objective("first", self.first, (self.a,), lr=0.1, max_grad_norm=self.clip),
            Objective("second", self.second, (self.b,), lr=0.1, every=self.every),
        )

    def first(self, batch: TensorDictBase) -> TensorDict:
        self.log.append("first")
        loss = (self.a[:, None] * batch["x"]).mean(-1)
        batch.set("seen", batch["x"] + 1)
        return TensorDict({"loss": loss, "twice": 2 * loss.detach()}, [T])

    def second(self, batch: TensorDictBase) -> TensorDict:
        self.log.append("second")
        assert torch.equal(batch["seen"], batch["x"] + 1)
        return TensorDict({"loss": self.a * self.b**2}, [T])

    def after_update(self) -> None:
        self.log.append("after")


def toy_chunk(scale: float = 1.0) -> TensorDict:
    sizes = [UPDATES, T, SAMPLES]
    return TensorDict({"x": torch.full(sizes, scale)}, sizes)
