"""Two real ranks: what they tell each other, and updates that equal one rank's with the batches joined."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tensordict import TensorDict, TensorDictBase

from lit_mtrl.algos.sac import SAC
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.core.ranks import Ranks
from lit_mtrl.data.replay import PerTaskReplay
from lit_mtrl.envs.probes import Probes
from lit_mtrl.evaluation.evaluator import Episodes, Evaluator
from lit_mtrl.training.engine import Engine
from lit_mtrl.training.strategies import require_same
from tests.helpers.actors import make_actor
from tests.helpers.nets import ONE_EACH, Case
from tests.helpers.sac import PLAIN, T, make_batch, make_chunk, make_sac
from tests.helpers.two_ranks import SIZE, TwoRanks, two_ranks
from tests.helpers.updates import assert_close
from tests.helpers.updates import trained as updated
from tests.helpers.weightings import WEIGHTINGS, make_weighting

LOSSES = 3
"""Objectives of SAC with a loss: critic, actor, temperature."""


@pytest.fixture(scope="module")
def pair() -> Iterator[TwoRanks]:
    with two_ranks() as both:
        yield both


def shared_out(updates: int, dtype: torch.dtype) -> tuple[list[TensorDictBase], list[list[TensorDictBase]]]:
    """``updates`` batches with their noise, and the part of each rank."""
    wholes, parts = [], []
    for i in range(updates):
        own = [make_batch(SIZE * i + rank) for rank in range(SIZE)]
        whole = torch.cat(own, 1)  # pyright: ignore[reportArgumentType, reportCallIssue]
        generator = torch.Generator().manual_seed(i)
        for key in ("target_noise", "actor_noise"):
            whole[key] = torch.randn(whole["action"].shape, generator=generator)
        whole = whole.apply(lambda x: x.to(dtype) if x.is_floating_point() else x)
        wholes.append(whole)
        parts.append(list(whole.chunk(SIZE, 1)))
    return wholes, parts


def trained(sac: SAC, names: dict[str, str], batches: list, ranks: Ranks, backward: Any = None) -> dict:
    """Parameters, and what the weightings remember, after one update on each of ``batches``, whose noise is in them."""
    sac.on_sample = lambda batch: None  # pyright: ignore[reportAttributeAccessIssue]
    dtype = sac.log_alpha.dtype
    weightings = {objective: make_weighting(name, T).to(dtype) for objective, name in names.items()}
    engine = Engine(sac, weightings, ranks=ranks, backward=backward)
    for batch in batches:
        engine.update(batch)
    values = {name: p.detach() for name, p in sac.named_parameters()}
    for objective, weighting in weightings.items():
        values |= {f"{objective}: {k}": v for k, v in weighting.state_dict().items()}
    return values


def train_part(case: tuple, options: dict, names: dict, parts: list, dtype: torch.dtype) -> tuple[dict, list[str]]:
    ranks = Ranks.here()
    sac = make_sac(case, **options).to(dtype)
    values = trained(sac, names, [part[ranks.rank] for part in parts], ranks)
    return values, ranks.different(values)


ONCE, PRECISELY = (torch.float32, 1, 1e-6), (torch.float64, 4, 1e-9)
"""Precision, updates and tolerance."""


@pytest.mark.parametrize(
    "case, weighting, options, how",
    [
        *((PLAIN, name, {}, PRECISELY) for name in WEIGHTINGS),
        *((case, "pcgrad", {}, PRECISELY) for case in ONE_EACH if case != PLAIN),
        (PLAIN, "mean", {"mask_out": 9.0}, PRECISELY),
        (PLAIN, "famo", {"mask_out": 9.0}, PRECISELY),
        (PLAIN, "cagrad", {"task_weights": True}, PRECISELY),
        (PLAIN, "mean", {"shared_temperature": True}, PRECISELY),
        (PLAIN, "mean", {}, ONCE),
        (PLAIN, "famo", {"mask_out": 9.0}, ONCE),
        (("paco", {}), "pcgrad", {}, ONCE),
    ],
    ids=str,
)
def test_two_ranks_do_what_one_does_with_their_batches_joined(
    pair: TwoRanks, case: Case, weighting: str, options: dict, how: tuple[torch.dtype, int, float]
) -> None:
    dtype, updates, tolerance = how
    wholes, parts = shared_out(updates, dtype)
    names = {"critic": weighting} if weighting == "famo" else {"critic": weighting, "actor": weighting}
    want = trained(make_sac(case, **options).to(dtype), names, wholes, Ranks())
    start = dict(make_sac(case, **options).to(dtype).named_parameters())
    results = pair.run(train_part, case, options, names, parts, dtype)
    for values, differ in results:
        assert not differ
        for part in {name.split(".")[0] for name in want}:
            keys = [name for name in want if name.split(".")[0] == part]
            got, wanted = (torch.cat([found[key].double().flatten() for key in keys]) for found in (values, want))
            # What a weighting learns comes from small differences of losses.
            allowed = 100 * tolerance if ": " in part else tolerance
            assert float((got - wanted).norm() / wanted.norm().clamp_min(1e-12)) < allowed, part
    # And the two parts alone lead elsewhere.
    moved = {name: float((want[name] - p.detach()).norm()) for name, p in start.items()}
    alone = trained(make_sac(case, **options).to(dtype), names, [part[0] for part in parts], Ranks())
    assert any(float((alone[name] - want[name]).norm()) > 0.01 * moved[name] > 0 for name in moved)


def train_chunks(case: tuple, names: dict, options: dict) -> tuple[list[str], bool, dict]:
    """Two chunks of three updates on data and noise of the rank's own."""
    ranks = Ranks.here()
    sac = make_sac(case, **options)
    before = copy.deepcopy(sac.state_dict())
    torch.manual_seed(ranks.rank)
    engine = Engine(sac, {objective: make_weighting(name, T) for objective, name in names.items()}, ranks=ranks)
    metrics = {}
    for i in range(2):
        per_task, scalar = engine.run(make_chunk(3, 100 * ranks.rank + 10 * i))
        metrics = {**per_task, **scalar}
    state = {
        **sac.state_dict(),
        **{f"{k}/{n}": v for k, w in engine.weightings.items() for n, v in w.state_dict().items()},
    }
    return ranks.different(state), not torch.equal(before["log_alpha"], sac.log_alpha), metrics


BOTH = ("critic", "actor")
OPTIONS = ({"mask_out": 9.0}, {"task_weights": True}, {"shared_temperature": True})


@pytest.mark.parametrize(
    "case, weighting, objectives, options",
    [
        *((PLAIN, name, BOTH, {}) for name in WEIGHTINGS),
        *((case, "pcgrad", BOTH, {}) for case in ONE_EACH if case != PLAIN),
        *((PLAIN, name, (one,), {}) for name in ("pcgrad", "famo") for one in BOTH),
        *((PLAIN, name, BOTH, options) for name in ("pcgrad", "famo", "gradnorm") for options in OPTIONS),
    ],
    ids=str,
)
def test_ranks_stay_equal_to_the_bit(
    pair: TwoRanks, case: Case, weighting: str, objectives: tuple[str, ...], options: dict
) -> None:
    """With different data and noise on each rank: every weighting, and with one that reads Gramians every network, and
    every variant of the algorithm.
    """
    (differ, moved, metrics), (_, _, others) = pair.run(
        train_chunks, case, dict.fromkeys(objectives, weighting), options
    )
    assert not differ and moved
    assert all(torch.equal(metrics[key], others[key]) for key in metrics)


def count_calls(weighting: str, updates: int) -> tuple[dict[str, int], dict]:
    calls: dict[str, int] = {}
    originals = {name: getattr(dist, name) for name in ("all_reduce", "all_gather")}

    def counting(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return originals[name](*args, **kwargs)

        return call

    ranks = Ranks.here()
    engine = Engine(make_sac(PLAIN), {name: make_weighting(weighting, T) for name in ("critic", "actor")}, ranks=ranks)
    for name in originals:
        setattr(dist, name, counting(name))
    try:
        engine.run(make_chunk(updates, ranks.rank))
    finally:
        for name, call in originals.items():
            setattr(dist, name, call)
    steps = {key: int(next(iter(o.state.values()))["step"]) for key, o in engine.optimizers.items()}
    return calls, steps


@pytest.mark.parametrize(
    "weighting, losses, gramians",
    [("mean", 0, 0), ("pcgrad", 0, 2), ("cagrad", 0, 2), ("dwa", 2, 0), ("famo", 4, 0), ("gradnorm", 2, 2)],
)
def test_one_all_reduce_for_each_optimizer_step(pair: TwoRanks, weighting: str, losses: int, gramians: int) -> None:
    """Of the gradients; per update ``losses`` more of T losses where the weightings look at them, and ``gramians``
    all-gathers; one for all metrics.
    """
    updates = 5
    for calls, steps in pair.run(count_calls, weighting, updates):
        assert {steps[name] for name in ("critic", "actor", "temperature")} == {updates}
        assert calls["all_reduce"] == updates * (LOSSES + losses) + 1
        assert calls.get("all_gather", 0) == updates * gramians


@pytest.mark.gpu
def test_all_reduces_are_recorded_in_graphs(tmp_path: Path) -> None:
    """In a group of one NCCL rank that takes itself for one of two: averages are halves, in both modes."""
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        ranks: Any = Ranks(0, 2)
        eager, graph = (updated(make_sac(PLAIN).to("cuda"), mode, ranks=ranks)[0] for mode in ("eager", "cudagraph"))
        alone, _ = updated(make_sac(PLAIN).to("cuda"), "eager")
    finally:
        dist.destroy_process_group()
    assert_close(graph, eager, 1e-5)
    assert float(eager["metric critic/loss"].sum()) < float(alone["metric critic/loss"].sum())


def mask_of(threshold: float) -> tuple[list[float], list[float]]:
    ranks = Ranks.here()
    sac = make_sac(PLAIN, mask_out=threshold)
    sac.ranks = ranks
    batch = make_batch(ranks.rank)
    sac.on_sample(batch)
    free = make_sac(PLAIN)
    return sac.critic_loss(batch)["masked"].tolist(), free.critic_loss(batch)["loss"].detach().tolist()


def test_mask_out_asks_for_the_mean_over_ranks(pair: TwoRanks) -> None:
    (_, first), (_, second) = pair.run(mask_of, 1e9)
    low, high = sorted((first[0], second[0]))
    assert high > 1.1 * low
    # The mean of both is below this threshold, the larger above it.
    threshold = 0.25 * low + 0.75 * high
    for masked, _ in pair.run(mask_of, threshold):
        assert masked[0] == 0
    for masked, _ in pair.run(mask_of, 0.75 * low + 0.25 * high):
        assert masked[0] == 1


def talk() -> dict[str, Any]:
    ranks = Ranks.here()
    own = torch.full((2, 3), float(ranks.rank))
    tensors = {"same": torch.ones(3), "other": torch.tensor([1.0 + ranks.rank * 1e-7]), "flag": torch.tensor([True])}
    return {
        "mean": ranks.mean(own),
        "transposed": ranks.mean(torch.arange(6.0).view(2, 3).t() + ranks.rank),
        "kept": own,
        "stack": ranks.stack(own),
        "joined": ranks.joined(own, 1),
        "sum": ranks.sum(own),
        "all": (ranks.all(True), ranks.all(ranks.rank == 0)),
        "gather": ranks.gather({"rank": ranks.rank}),
        "first": ranks.first(ranks.rank),
        "different": ranks.different(tensors),
    }


def test_what_ranks_tell_each_other(pair: TwoRanks) -> None:
    for rank, said in enumerate(pair.run(talk)):
        assert said["mean"].tolist() == [[0.5] * 3] * 2
        assert said["transposed"].tolist() == (torch.arange(6.0).view(2, 3).t() + 0.5).tolist()
        assert said["kept"].tolist() == [[float(rank)] * 3] * 2
        assert said["stack"].tolist() == [[[0.0] * 3] * 2, [[1.0] * 3] * 2]
        assert said["joined"].tolist() == [[0.0] * 3 + [1.0] * 3] * 2
        assert said["sum"].tolist() == [[1.0] * 3] * 2
        assert said["all"] == (True, False)
        assert said["gather"] == [{"rank": 0}, {"rank": 1}]
        assert said["first"] == 0
        assert said["different"] == ["other"]


def test_one_rank_talks_to_itself() -> None:
    alone, x = Ranks(), torch.ones(2, 3)
    assert alone.mean(x) is x and alone.sum(x) is x and alone.joined(x, 1) is x
    assert alone.stack(x).shape == (1, 2, 3)
    assert alone.gather(7) == [7] and alone.first(7) == 7 and alone.all(True) and not alone.all(False)
    assert alone.different({"x": x}) == []


def play(episodes: int, workers: int) -> tuple[Episodes, int]:
    suite = Probes(["a", "b", "c"], goals=4)
    torch.manual_seed(0)
    evaluator = Evaluator(suite, episodes, workers, ranks=Ranks.here())
    try:
        return evaluator.run(make_actor(suite)), sum(p.stop - p.first for share in evaluator._shares for p in share)
    finally:
        evaluator.close()


def test_evaluation_is_shared_out(pair: TwoRanks) -> None:
    alone, whole = play(5, 1)
    assert whole == 15
    both = pair.run(play, 5, 1)
    assert sorted(played for _, played in both) == [7, 8]
    for got, _ in both:
        for name in ("success", "returns", "lengths"):
            np.testing.assert_array_equal(getattr(got, name), getattr(alone, name))
    with pytest.raises(ConfigError, match=r"eval.episodes=1: 3 episodes cannot be shared by 4 ranks"):
        Evaluator(Probes(["a", "b", "c"]), 1, ranks=Ranks(0, 4))


def slices(first: int, number: int) -> TensorDict:
    return TensorDict({"x": torch.arange(first, first + number).expand(2, 1, number).clone()}, [2, 1, number])


@pytest.mark.parametrize("parts", [1, 3, 4])
def test_replays_are_dealt_anew(tmp_path: Path, parts: int) -> None:
    """Two full replays of capacity 5, whose rings hold 2 .. 6 and 102 .. 106."""
    for rank in range(2):
        old = PerTaskReplay(2, 5, 1, 0)
        old.extend(slices(100 * rank, 4))
        old.extend(slices(100 * rank + 4, 3))
        old.dumps(tmp_path / str(rank))
    row = [2, 102, 3, 103, 4, 104, 5, 105, 6, 106]
    total = 12
    for part in range(parts):
        new = PerTaskReplay(2, total // parts, 1, 0)
        new.deal([tmp_path / "0", tmp_path / "1"], part, parts)
        want = row[10 % parts :][part::parts]
        assert new.buffer.storage[: len(new)]["x"][:, 1].tolist() == want
    small = PerTaskReplay(2, 2, 1, 0)
    small.deal([tmp_path / "0", tmp_path / "1"], 0, 1)
    assert sorted(small.buffer.storage[:2]["x"][:, 0].tolist()) == [6, 106]  # the newest


def test_ranks_must_have_the_same_configuration() -> None:
    one = {"seed": 0, "algo.gamma": 0.99, "collector.policy_device": "cpu"}
    require_same([one, {**one, "collector.policy_device": "cuda"}])
    message = (
        r"different configurations: algo.gamma \(0.99 on rank 0, None on rank 2\), seed \(0 on rank 0, 1 on rank 2\)"
    )
    with pytest.raises(ConfigError, match=message):
        require_same([one, one, {"seed": 1, "collector.policy_device": "cpu"}])


def diverge() -> tuple[bool, float]:
    """One rank's data is not finite: all ranks see it."""
    ranks = Ranks.here()
    engine = Engine(make_sac(PLAIN), ranks=ranks)
    chunk = make_chunk(2, ranks.rank)
    if ranks.rank:
        chunk["next", "reward"][1, 2] = math.inf
    per_task, _ = engine.run(chunk)
    return bool(per_task["critic/loss"].isfinite().all()), float(per_task["critic/finite"][2])


def test_a_loss_that_is_not_finite_on_one_rank_is_seen_by_all(pair: TwoRanks) -> None:
    assert pair.run(diverge) == [(False, 0.75), (False, 0.75)]
