"""The statistics over seeds: by hand, by brute force, against SciPy and against rliable, the reference of their
authors.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from rliable import library, metrics
from scipy.stats import trim_mean

from lit_mtrl.core.errors import ConfigError
from lit_mtrl.evaluation import stats
from lit_mtrl.evaluation.stats import (
    STATISTICS,
    area_under_curve,
    estimate,
    estimate_improvement,
    estimate_profile,
    iqm,
    performance_profile,
    probability_of_improvement,
)

RLIABLE = {
    "iqm": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def agents(seeds: int, tasks: int, seed: int = 0) -> np.ndarray:
    """Scores ``[seeds, tasks]`` that go together within a seed, so that resampling whole seeds gives wider
    intervals.
    """
    rng = np.random.default_rng(seed)
    return 0.6 + 0.2 * rng.normal(size=(seeds, 1)) + 0.2 * rng.normal(size=(seeds, tasks)) + 0.3 * rng.random(tasks)


def assert_same_interval(ours: stats.Estimate, low, high, resamples: int, reference_resamples: int) -> None:
    """Bounds within what drawing anew explains.

    The p-quantile of R draws has the deviation sqrt(p (1 - p) / R) / density. At p = 0.025 of a normal distribution of
    deviation s that is 2.67 s / sqrt(R), and the interval is 3.92 s wide. Five deviations of the difference of two such
    bounds are allowed.
    """
    width = np.asarray(high) - low
    allowed = 5 * 2.67 * np.sqrt(1 / resamples + 1 / reference_resamples) * width / 3.92
    assert (width > 0).all()
    assert (allowed < 0.2 * width).all()
    assert (np.abs(ours.low - low) <= allowed).all()
    assert (np.abs(ours.high - high) <= allowed).all()


def test_by_hand() -> None:
    scores = [[0.0, 1.0], [0.5, 3.0]]
    assert {name: float(function(scores)) for name, function in STATISTICS.items()} == {
        "iqm": 0.75,
        "mean": 1.125,
        "median": 1.125,
        "optimality_gap": 0.375,
    }
    assert stats.median([[0.0, 1.0, 9.0], [1.0, 2.0, 9.0]]) == 1.5
    assert stats.optimality_gap(scores, target=2.0) == (2 + 1 + 1.5 + 0) / 4
    assert probability_of_improvement([[1.0], [2.0]], [[0.0], [1.0], [3.0]]) == (1.5 + 2) / 6
    assert performance_profile(scores, [-1, 0, 0.5, 2.9, 3]).tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_iqm_is_scipys_trimmed_mean() -> None:
    rng = np.random.default_rng(0)
    for seeds, tasks in itertools.product(range(1, 14), (1, 2, 3, 10)):
        scores = rng.normal(size=(3, seeds, tasks))
        expected = [trim_mean(matrix.ravel(), 0.25) for matrix in scores]
        np.testing.assert_allclose(iqm(scores), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "m", "tasks"), [(1, 1, 1), (4, 4, 2), (3, 7, 5), (8, 2, 1)])
def test_improvement_by_brute_force(n: int, m: int, tasks: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.integers(4, size=(n, tasks)) / 4, rng.integers(4, size=(m, tasks)) / 4
    wins = 0.0
    for task in range(tasks):
        for i in range(n):
            for j in range(m):
                wins += 1.0 if x[i, task] > y[j, task] else 0.5 if x[i, task] == y[j, task] else 0.0
    assert probability_of_improvement(x, y) == pytest.approx(wins / (n * m * tasks), abs=1e-12)
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("seeds", "tasks"), [(10, 1), (7, 10), (20, 50)])
def test_values_are_rliables(seeds: int, tasks: int) -> None:
    scores, other = agents(seeds, tasks), agents(seeds + 2, tasks, seed=1)
    for name, reference in RLIABLE.items():
        assert estimate(scores, name, resamples=10).value == pytest.approx(float(reference(scores)), abs=1e-12)
    expected = metrics.probability_of_improvement(scores, other)
    assert probability_of_improvement(scores, other) == pytest.approx(float(expected), abs=1e-12)
    taus = np.linspace(0, 1.5, 31)
    expected = library.score_distributions(scores, taus)
    np.testing.assert_allclose(performance_profile(scores, taus), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("seeds", "tasks"), [(10, 1), (10, 10)])
def test_intervals_are_rliables(seeds: int, tasks: int) -> None:
    scores, ours, theirs = agents(seeds, tasks), 20000, 3000
    np.random.seed(0)  # rliable draws from the global state.
    _, bounds = library.get_interval_estimates(
        {"a": scores}, lambda s: np.array([f(s) for f in RLIABLE.values()]), reps=theirs
    )
    for name, (low, high) in zip(RLIABLE, bounds["a"].T, strict=True):
        assert_same_interval(estimate(scores, name, resamples=ours), low, high, ours, theirs)


def test_interval_of_improvement_is_rliables() -> None:
    x, y, ours, theirs = agents(8, 3) + 0.05, agents(6, 3, seed=1), 20000, 1200
    np.random.seed(0)
    _, bounds = library.get_interval_estimates(
        {"a": [x, y]}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=theirs
    )
    (low,), (high,) = bounds["a"]
    got = estimate_improvement(x, y, resamples=ours)
    assert got.value == probability_of_improvement(x, y)
    assert_same_interval(got, low, high, ours, theirs)


def test_interval_of_profile_is_rliables() -> None:
    scores, ours, theirs = agents(10, 20), 20000, 3000
    taus = np.quantile(scores, [0.2, 0.4, 0.6, 0.8])
    np.random.seed(0)
    values, bounds = library.create_performance_profile({"a": scores}, taus, reps=theirs)
    got = estimate_profile(scores, taus, resamples=ours)
    np.testing.assert_allclose(got.value, values["a"], rtol=0, atol=1e-12)
    assert_same_interval(got, bounds["a"][0], bounds["a"][1], ours, theirs)


def test_every_task_is_a_stratum() -> None:
    """Of two seeds at 0 and 1 on two tasks, resampled means are binomial: 1/16 are 0, 4/16 are 1/4. Whole seeds would
    give 1/4 at 0.
    """
    scores = [[0.0, 0.0], [1.0, 1.0]]
    for level, low in ((0.9, 0), (0.8, 0.25), (0.4, 0.25), (0.3, 0.5)):
        got = estimate(scores, "mean", level, resamples=20000)
        assert (got.low, got.high) == (low, 1 - low)
        profile = estimate_profile(scores, [0.5], level, resamples=20000)
        assert (profile.low.item(), profile.high.item()) == (low, 1 - low)
        improvement = estimate_improvement(scores, np.full((2, 2), 0.5), level, resamples=20000)
        assert (improvement.low, improvement.high) == (low, 1 - low)


@pytest.mark.parametrize("statistic", ["iqm", "mean"])
def test_coverage(statistic: str) -> None:
    """Of 500 experiments with 10 seeds and 10 tasks, symmetric about 0.5, the share whose 95 % interval holds 0.5.

    A percentile interval of n seeds is sqrt((n - 1) / n) too narrow: 93.7 % are expected for the mean, +- 1.1 %.
    """
    scores = np.random.default_rng(0).random((500, 10, 10))
    got = estimate(scores, statistic, resamples=400)
    assert 0.90 < ((got.low <= 0.5) & (got.high >= 0.5)).mean() < 0.97


def test_coverage_of_improvement() -> None:
    x, y = np.random.default_rng(0).random((2, 200, 10, 5))
    got = [estimate_improvement(a, b, resamples=300) for a, b in zip(x, y, strict=True)]
    assert 0.88 < np.mean([e.low <= 0.5 <= e.high for e in got]) < 0.98


def test_leading_axes_are_one_by_one() -> None:
    scores = np.random.default_rng(0).random((2, 3, 5, 4))
    for name in STATISTICS:
        got = estimate(scores, name, resamples=50)
        assert got.low.shape == (2, 3)
        for at in np.ndindex(2, 3):
            one = estimate(scores[at], name, resamples=50)
            assert (got.value[at], got.low[at], got.high[at]) == (one.value, one.low, one.high)


@pytest.mark.parametrize("numbers", [1, 97, 1000])
def test_the_bound_on_memory_changes_no_number(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, other, curves = agents(5, 4), agents(7, 4, seed=1), np.random.default_rng(0).random((6, 5, 4))
    taus = np.linspace(0, 1, 11)

    def everything() -> list[stats.Estimate]:
        return [
            *(estimate(curves, name, resamples=60) for name in STATISTICS),
            estimate_improvement(scores, other, resamples=60),
            estimate_profile(scores, taus, resamples=60),
        ]

    whole = everything()
    sizes = []
    monkeypatch.setitem(STATISTICS, "mean", lambda s: sizes.append(s.size) or stats.mean(s))
    monkeypatch.setattr(stats, "NUMBERS", numbers)
    for a, b in zip(whole, everything(), strict=True):
        np.testing.assert_array_equal([a.value, a.low, a.high], [b.value, b.low, b.high])
    assert len(sizes) > 2
    assert max(sizes[1:]) <= max(numbers, scores.size)  # one resample of one matrix is the least


def test_seed_and_level() -> None:
    scores = agents(6, 4)
    assert estimate(scores, seed=1) == estimate(scores, seed=1)
    assert estimate(scores, seed=1) != estimate(scores, seed=2)
    narrow, wide = estimate(scores, level=0.5), estimate(scores, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert estimate_improvement(scores, scores[1:], seed=1) == estimate_improvement(scores, scores[1:], seed=1)


def test_one_seed_has_no_interval() -> None:
    one, many = agents(1, 4), agents(5, 4)
    for got in (
        *(estimate(one, name) for name in STATISTICS),
        estimate_improvement(one, many),
        estimate_improvement(many, one),
    ):
        assert np.isfinite(got.value)
        assert np.isnan(got.low)
        assert np.isnan(got.high)
    curves = estimate(np.ones((3, 1, 4)))
    assert curves.value.tolist() == [1, 1, 1]
    assert np.isnan([curves.low, curves.high]).all()
    profile = estimate_profile(one, [0.1, 0.2])
    assert profile.low.shape == profile.high.shape == (2,)
    assert np.isnan([profile.low, profile.high]).all()


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    got = estimate(np.full((5, 3), 0.25))
    assert (got.value, got.low, got.high) == (0.25, 0.25, 0.25)
    got = estimate_improvement(np.zeros((5, 3)), np.zeros((4, 3)))
    assert (got.value, got.low, got.high) == (0.5, 0.5, 0.5)


def test_area_by_hand() -> None:
    frames, values = [100, 200, 400], np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]])
    np.testing.assert_allclose(area_under_curve(frames, values), [250 / 300, 100 / 300], rtol=1e-15)
    np.testing.assert_allclose(area_under_curve(frames, values, until=300), [150 / 200, 62.5 / 200], rtol=1e-15)
    np.testing.assert_allclose(area_under_curve(frames, values, until=200), [0.5, 0.5], rtol=1e-15)
    assert area_under_curve(frames, values, until=100).tolist() == [0, 1]
    assert area_under_curve(frames, values, until=1e9).tolist() == area_under_curve(frames, values).tolist()
    assert area_under_curve([7], [[0.25], [0.5]]).tolist() == [0.25, 0.5]
    assert float(area_under_curve(frames, values[0])) == pytest.approx(250 / 300)
    gap = [1.0, 1.0, np.nan]
    assert np.isnan(area_under_curve(frames, gap))
    assert area_under_curve(frames, gap, until=200) == 1


@pytest.mark.parametrize(
    ("frames", "until"),
    [([2, 1], None), ([1, 1], None), ([1, 2, 3], None), ([], None), ([[1, 2]], None), ([1, 2], 0.5)],
)
def test_area_refuses(frames: list, until: float | None) -> None:
    with pytest.raises(ValueError, match="frames"):
        area_under_curve(frames, [0.0, 1.0] if frames else [], until)


@pytest.mark.parametrize("scores", [[[0.0, np.nan]], [0.0, 1.0], np.zeros((0, 3)), np.zeros((3, 0))])
def test_scores_that_are_none(scores) -> None:
    good = np.zeros((2, 2))
    for call in (
        *(lambda f=f: f(scores) for f in STATISTICS.values()),
        lambda: estimate(scores),
        lambda: probability_of_improvement(scores, good),
        lambda: estimate_improvement(good, scores),
        lambda: performance_profile(scores, [0.5]),
        lambda: estimate_profile(scores, [0.5]),
    ):
        with pytest.raises(ValueError, match="scores"):
            call()


def test_what_cannot_be_asked() -> None:
    good = np.zeros((2, 2))
    with pytest.raises(ConfigError, match=r"statistic=iqn: unknown; did you mean 'iqm'\?"):
        estimate(good, "iqn")
    for options, message in (
        ({"level": 95}, "level=95: "),
        ({"level": 0}, "level=0: "),
        ({"resamples": 0}, "resamples=0"),
    ):
        for call in (lambda o: estimate(good, **o), lambda o: estimate_improvement(good, good, **o)):
            with pytest.raises(ConfigError, match=message):
                call(options)
        with pytest.raises(ConfigError, match=message):
            estimate_profile(good, [0.5], **options)
    with pytest.raises(ValueError, match="3 tasks"):
        probability_of_improvement(np.zeros((2, 3)), good)
    with pytest.raises(ValueError, match=r"\[seeds, tasks\]"):
        performance_profile(np.zeros((2, 2, 2)), [0.5])
