"""PaCo's reset touches the exploded tasks' w and nothing else; it counts what it does; it survives all tasks
exploding.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict

from lit_mtrl.algos.sac import SAC
from lit_mtrl.callbacks.paco_reset import PaCoReset, clear_moments, reset_rows
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.training.engine import Engine
from tests.helpers import sac as small
from tests.helpers.sac import SETS, T, exploded, make_paco, make_sac

TASKS = ["a", "b", "c"]


def make_batch(seed: int) -> TensorDict:
    return small.make_batch(seed, torch.float64)


def make_agent(sac: SAC) -> SimpleNamespace:
    return SimpleNamespace(algorithm=sac, tasks=TASKS, frames=0, engine=Engine(sac), iteration={}, ranks=Ranks())


def step(agent: SimpleNamespace, callback: PaCoReset, batch) -> None:
    metrics = agent.engine.update(batch)
    agent.iteration = {key: value.flatten().tolist() for key, value in metrics.items()}
    callback.on_train_batch_end(None, agent)  # pyright: ignore


@pytest.mark.parametrize("variant", ["original", "mclean"])
def test_reset_after_an_explosion(variant: str) -> None:
    part = {"variant": variant}
    agent = make_agent(make_paco(part, part, mask_out=3e3))
    callback = PaCoReset()
    callback.check(agent)  # pyright: ignore
    step(agent, callback, make_batch(0))
    assert not callback.counts
    untouched = copy.deepcopy(agent)
    torch.manual_seed(5)
    step(agent, callback, exploded(make_batch(1), task=1))
    torch.manual_seed(5)
    untouched.engine.update(exploded(make_batch(1), task=1))
    assert callback.counts == {"b": 1}
    ws = 0
    for (name, p), q in zip(agent.algorithm.named_parameters(), untouched.algorithm.parameters(), strict=True):
        if name.endswith("w.weight"):
            ws += 1
            others = [0, 2]
            assert torch.equal(p[..., others, :], q[..., others, :])
            assert not torch.equal(p[..., 1, :], q[..., 1, :])
            a, b, new = p[..., 0, :], p[..., 2, :], p[..., 1, :]
            beta = ((new - b) / (a - b)).mean(-1, keepdim=True)
            assert (0 <= beta).all() and (beta <= 1).all()
            torch.testing.assert_close(new, beta * a + (1 - beta) * b)
        else:
            assert torch.equal(p, q), name
    assert ws == (1 if variant == "original" else 3)  # deduplicated by named_parameters where it is one
    for key, optimizer in agent.engine.optimizers.items():
        theirs = untouched.engine.optimizers[key].state_dict()["state"]
        for index, state in optimizer.state_dict()["state"].items():
            assert all(torch.equal(state[k], theirs[index][k]) for k in state)  # moments are kept


def test_coefficients_are_uniform_on_the_simplex() -> None:
    torch.manual_seed(0)
    beta = PaCoReset()._coefficients(20_000, 3)
    torch.testing.assert_close(beta.sum(-1), torch.ones(20_000))
    assert (beta >= 0).all()
    # Dirichlet(1, 1, 1): mean 1/3, variance 1/18; U(0,1) divided by the sum has 0.036
    torch.testing.assert_close(beta.mean(0), torch.full((3,), 1 / 3), rtol=0, atol=0.005)
    torch.testing.assert_close(beta.var(0), torch.full((3,), 1 / 18), rtol=0, atol=0.002)
    copies = PaCoReset("copy")._coefficients(1000, 3)
    assert ((copies == 1).sum(-1) == 1).all() and (copies.sum(0) > 250).all()


def test_rows_by_hand() -> None:
    w = torch.tensor([[1.0, 2.0], [9.0, 9.0], [3.0, 6.0]])
    reset_rows(w, [1], [0, 2], torch.tensor([[0.25, 0.75]]))
    assert w.tolist() == [[1, 2], [2.5, 5], [3, 6]]


def test_all_exploded_resets_nothing() -> None:
    agent, callback = make_agent(make_paco(mask_out=1e-9)), PaCoReset()
    w = agent.algorithm.actor.net.w.weight
    before = w.detach().clone()
    step(agent, callback, make_batch(0))
    step(agent, callback, make_batch(1))
    assert callback.skipped == 2 and not callback.counts
    assert torch.equal(w, before) and w.isfinite().all()  # all losses masked: no gradient either


def test_moments_are_cleared_on_request() -> None:
    sac = make_paco(mask_out=3e3)
    agent, callback = make_agent(sac), PaCoReset(clear_moments=True)
    step(agent, callback, make_batch(0))
    w = sac.actor.net.w.weight
    state = agent.engine.optimizers["shared"].state[w]
    before = state["exp_avg"].clone()
    assert (before[1] != 0).any()
    clear_moments(list(agent.engine.optimizers.values()), [w], [1])
    assert (state["exp_avg"][1] == 0).all() and (state["exp_avg_sq"][1] == 0).all()
    assert torch.equal(state["exp_avg"][[0, 2]], before[[0, 2]])
    step(agent, callback, exploded(make_batch(1), task=1))
    assert (state["exp_avg"][1] == 0).all() and state["exp_avg"].shape == (T, SETS)


def test_counts_are_logged_and_saved() -> None:
    agent, callback = make_agent(make_paco(mask_out=3e3)), PaCoReset()
    for seed in (1, 2):
        step(agent, callback, exploded(make_batch(seed), task=1))
    logged: list[tuple] = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics, step)))
    agent.frames = 70
    callback.on_train_epoch_end(SimpleNamespace(loggers=[logger]), agent)  # pyright: ignore
    assert logged == [({"paco_reset/b": 2.0}, 70)]
    again = PaCoReset()
    again.load_state_dict(callback.state_dict())
    assert again.counts == {"b": 2}


def test_bad_use() -> None:
    with pytest.raises(ConfigError, match=r"paco_reset\.method=mix"):
        PaCoReset("mix")
    with pytest.raises(ConfigError, match="algo.mask_out"):
        PaCoReset().check(make_agent(make_paco()))  # pyright: ignore
    with pytest.raises(ConfigError, match="network=paco"):
        PaCoReset().check(make_agent(make_sac(mask_out=1.0)))  # pyright: ignore
