"""One SAC update against a plain float64 twin: two separate critics, explicit one-hots, per-sample loops over heads,
own Adam.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.nets.mlp import MLP
from lit_mtrl.nets.multi_head import MultiHead
from lit_mtrl.nets.paco import PaCo
from lit_mtrl.training.engine import Engine
from lit_mtrl.weighting.base import Weighting
from tests.helpers import sac as small
from tests.helpers.sac import ACT, B, T, exploded, make_double

GAMMA, TAU, LR, EPS, CLIP = 0.99, 0.005, 3e-4, 1e-5, 1.0


def make_batch(seed: int) -> TensorDict:
    return small.make_batch(seed, torch.float64)


def make_sac(net: type, **options: object) -> SAC:
    """With temperatures apart, and targets unlike the critics."""
    sac = make_double(partial(net, width=7, depth=3), **options)
    with torch.no_grad():
        sac.log_alpha.copy_(torch.linspace(-0.5, 0.3, len(sac.log_alpha)))
        for p in sac.target.parameters():
            p.add_(0.01 * torch.randn_like(p))
    return sac


class Twin:
    """Weights as plain lists; forward passes one sample at a time."""

    def __init__(self, sac: SAC):
        self.actor = self._read(dict(sac.actor.named_parameters()), None)
        self.critics = [self._read(dict(sac.critic.named_parameters()), i) for i in (0, 1)]
        self.targets = [self._read(dict(sac.target.named_parameters()), i) for i in (0, 1)]
        self.log_alpha = sac.log_alpha.detach().clone().requires_grad_()

    @staticmethod
    def _read(params: dict, copy: int | None) -> dict[str, torch.Tensor]:
        return {k: (p if copy is None else p[copy]).detach().clone().requires_grad_() for k, p in params.items()}

    @staticmethod
    def net(w: dict[str, torch.Tensor], x: torch.Tensor, task: int) -> torch.Tensor:
        pick = {key.split("net.", 1)[1]: value for key, value in w.items()}
        one_hot = torch.zeros(T, dtype=torch.float64)
        one_hot[task] = 1
        h = torch.cat([x, one_hot])
        for layer in ("torso.first", "torso.rest.0", "torso.rest.1"):
            h = (pick[f"{layer}.weight"] @ h + pick[f"{layer}.bias"]).relu()
        if "heads.weight" in pick:
            return h @ pick["heads.weight"][task] + pick["heads.bias"][task]
        return pick["head.weight"] @ h + pick["head.bias"]

    def act(self, s: torch.Tensor, task: int, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.net(self.actor, s, task)
        mean, std = out[:ACT], out[ACT:].clamp(-20, 2).exp()
        u = mean + std * noise
        log_n = -(((u - mean) / std) ** 2) / 2 - std.log() - math.log(2 * math.pi) / 2
        return u.tanh(), (log_n - torch.log(1 - u.tanh() ** 2)).sum()

    def q(self, w: dict[str, torch.Tensor], s: torch.Tensor, a: torch.Tensor, task: int) -> torch.Tensor:
        return self.net(w, torch.cat([a, s]), task)[0]

    def step(self, params: list[torch.Tensor], loss: torch.Tensor, clip: bool) -> tuple[list, float]:
        """Clip and first Adam step (bias-corrected moments are then g and g^2)."""
        grads = torch.autograd.grad(loss, params)
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        scale = CLIP / norm if clip and norm > CLIP else 1.0
        for p, g in zip(params, grads, strict=True):
            g = g * scale
            p.data = p.data - LR * g / ((g**2).sqrt() + EPS)
        return [g.clone() for g in grads], norm

    def alpha(self, task: int) -> torch.Tensor:
        return self.log_alpha[task % len(self.log_alpha)].detach().exp()

    def update(self, batch: TensorDict, noise: tuple[torch.Tensor, torch.Tensor], weights: torch.Tensor) -> dict:
        s, a, r = batch["observation"], batch["action"], batch["next", "reward"]
        s2, d = batch["next", "observation"], batch["next", "terminated"]
        critic_loss = torch.zeros((), dtype=torch.float64)
        for t in range(T):
            for i in range(B):
                with torch.no_grad():
                    a2, lp2 = self.act(s2[t, i], t, noise[0][t, i])
                    q2 = min(self.q(w, s2[t, i], a2, t) for w in self.targets)
                    y = r[t, i, 0] + GAMMA * (0 if d[t, i, 0] else 1) * (q2 - self.alpha(t) * lp2)
                for w in self.critics:
                    critic_loss = critic_loss + weights[t] * (self.q(w, s[t, i], a[t, i], t) - y) ** 2 / (2 * T * B)
        critic_params = [p for w in self.critics for p in w.values()]
        critic_grads, critic_norm = self.step(critic_params, critic_loss, clip=True)
        for target, critic in zip(self.targets, self.critics, strict=True):
            for key in target:
                target[key].data = TAU * critic[key].data + (1 - TAU) * target[key].data
        actor_loss = torch.zeros((), dtype=torch.float64)
        log_probs = torch.zeros(T, B, dtype=torch.float64)
        for t in range(T):
            for i in range(B):
                pi, lp = self.act(s[t, i], t, noise[1][t, i])
                q = torch.stack([self.q(w, s[t, i], pi, t) for w in self.critics]).min()
                actor_loss = actor_loss + weights[t] * (self.alpha(t) * lp - q) / (T * B)
                log_probs[t, i] = lp.detach()
        actor_grads, actor_norm = self.step(list(self.actor.values()), actor_loss, clip=True)
        alphas = self.log_alpha.expand(T)
        alpha_loss = -(alphas[:, None] * (log_probs - ACT)).mean()
        alpha_grads, alpha_norm = self.step([self.log_alpha], alpha_loss, clip=False)
        return {
            "critic": (critic_loss, critic_norm, critic_grads),
            "actor": (actor_loss, actor_norm, actor_grads),
            "temperature": (alpha_loss, alpha_norm, alpha_grads),
        }


@pytest.mark.parametrize("net", [MultiHead, MLP])
@pytest.mark.parametrize("options", [{}, {"shared_temperature": True}, {"task_weights": True}], ids=str)
def test_update_equals_float64_twin(net: type, options: dict) -> None:
    sac, batch = make_sac(net, **options), make_batch(1)
    twin = Twin(sac)
    weights = torch.ones(T, dtype=torch.float64)
    if options.get("task_weights"):
        weights = T * torch.softmax(-twin.log_alpha.detach(), 0)
    engine = Engine(sac)
    torch.manual_seed(42)
    noise = torch.randn(T, B, ACT, dtype=torch.float64), torch.randn(T, B, ACT, dtype=torch.float64)
    expected = twin.update(batch, noise, weights)

    torch.manual_seed(42)  # the critic's noise is drawn first, then the actor's
    metrics = engine.update(batch.clone())

    for name, (loss, norm, _) in expected.items():
        torch.testing.assert_close(metrics[f"{name}/loss"].mean(), loss.detach(), rtol=1e-6, atol=0)
        assert math.isclose(float(metrics[f"{name}/grad_norm"]), norm, rel_tol=1e-6), name
    close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-12)
    names = [name for name, _ in sac.critic.named_parameters()]
    scale = min(1.0, CLIP / expected["critic"][1])
    for j, (name, p) in enumerate(sac.critic.named_parameters()):
        for i in (0, 1):
            close(p[i].detach(), twin.critics[i][name].detach())
            close(p.grad[i], expected["critic"][2][i * len(names) + j] * scale)
            close(sac.target.get_parameter(name)[i], twin.targets[i][name].detach())
    scale = min(1.0, CLIP / expected["actor"][1])
    for j, (name, p) in enumerate(sac.actor.named_parameters()):
        close(p.detach(), twin.actor[name].detach())
        close(p.grad, expected["actor"][2][j] * scale)
    close(sac.log_alpha.detach(), twin.log_alpha.detach())
    close(sac.log_alpha.grad, expected["temperature"][2][0])
    assert expected["critic"][1] > CLIP  # the clipping was exercised


def test_targets_carry_no_graph() -> None:
    sac = make_sac(MultiHead)
    engine = Engine(sac)
    for seed in range(2):
        engine.update(make_batch(seed))
    assert all(p.is_leaf and not p.requires_grad for p in sac.target.parameters())


@pytest.mark.parametrize("net", [MultiHead, PaCo])
@pytest.mark.parametrize("reward", [1e4, math.inf, math.nan])
def test_mask_out_leaves_the_task_out_of_every_loss(net: type, reward: float) -> None:
    """The update is that of the healthy tasks alone: their sums still divided by T, the exploded task's own parameters
    untouched.
    """
    sac, plain = make_sac(net, mask_out=3e3), make_sac(net)
    torch.manual_seed(1)
    metrics = Engine(sac).update(exploded(make_batch(1), task=1, reward=reward))
    kept = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    assert metrics["critic/masked"].tolist() == [0, 1, 0]
    assert all(metrics[f"{name}/loss"][1] == 0 for name in ("critic", "actor", "temperature"))

    class Healthy(Weighting):
        def forward(self, losses, gramian):
            return kept / T

    torch.manual_seed(1)
    Engine(plain, {name: Healthy(T) for name in ("critic", "actor", "temperature")}).update(make_batch(1))
    for (name, a), b in zip(sac.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
        assert a.isfinite().all(), name


@pytest.mark.parametrize("net", [MultiHead, PaCo])
def test_mask_out_touches_nothing_of_the_masked_task(net: type) -> None:
    sac = make_sac(net, mask_out=3e3)
    trained = {name: p for name, p in sac.named_parameters() if not name.startswith("target")}
    before = {name: p.detach().clone() for name, p in trained.items()}
    Engine(sac).update(exploded(make_batch(1), task=1))
    own = 0
    for name, p in trained.items():
        rows = p.detach() if p.shape[:1] == (T,) else p.detach()[0] if p.ndim > 1 and p.shape[1] == T else None
        old = before[name] if p.shape[:1] == (T,) else before[name][0]
        if rows is not None and ("heads" in name or name.endswith("w.weight") or name == "log_alpha"):
            own += 1
            assert torch.equal(rows[1], old[1]), name
            assert not torch.equal(rows[0], old[0]), name
    assert own >= 2


def test_momentum_moves_a_masked_task() -> None:
    """As in PaCo's code: what earlier updates left in Adam still moves a masked task's own parameters."""
    sac = make_sac(MultiHead, mask_out=3e3)
    engine = Engine(sac)
    engine.update(make_batch(0))
    before = sac.log_alpha.detach().clone()
    engine.update(exploded(make_batch(1), task=1))
    assert sac.log_alpha[1] != before[1]


def test_mask_out_below_the_threshold_changes_nothing() -> None:
    one, two = make_sac(MultiHead, mask_out=1e9), make_sac(MultiHead)
    for sac in (one, two):
        torch.manual_seed(1)
        Engine(sac).update(make_batch(1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_mask_out_asks_for_the_critic_loss() -> None:
    """The threshold lies just above or just below a task's mean squared error over both critics."""
    for task in range(T):
        for factor, masked in ((0.999, True), (1.001, False)):
            fresh = Engine(make_sac(MultiHead))
            torch.manual_seed(42)
            size = fresh.update(make_batch(1))["critic/loss"]
            sac = make_sac(MultiHead, mask_out=float(size[task]) * factor)
            torch.manual_seed(42)
            assert bool(Engine(sac).update(make_batch(1))["critic/masked"][task]) == masked


def test_log_alpha_bounds() -> None:
    sac = make_sac(MultiHead, log_alpha_min=-0.1, log_alpha_max=0.0, temperature_lr=0.5)
    engine = Engine(sac)
    for seed in range(3):
        engine.update(make_batch(seed))
        assert sac.log_alpha.min() >= -0.1 and sac.log_alpha.max() <= 0.0
    assert set(sac.log_alpha.tolist()) & {0.0, -0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_out": 0.0}, "algo.mask_out=0"),
        ({"log_alpha_min": 1.0, "log_alpha_max": 0.0}, "algo.log_alpha_min=1"),
        ({"log_alpha_max": -1.0}, "algo.initial_temperature=1"),
    ],
    ids=str,
)
def test_bad_values(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sac(MultiHead, **options)
