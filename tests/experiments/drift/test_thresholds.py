"""Limits: how often samples of the training are beyond them, and what is far beyond."""

import numpy as np
import pytest

from cost_hf.experiments.drift.thresholds import Limits, item_samples, limits_of, share_samples


def normal(names, *, draws=400, seed=0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(10, 1 + number, draws) for number, name in enumerate(names)}


@pytest.mark.parametrize("count", [1, 5, 20])
def test_the_chance_of_an_alarm_does_not_grow_with_the_number_of_statistics(count):
    names = [f"s{number}" for number in range(count)]
    limits = limits_of(normal(names), dict.fromkeys(names, "both"))
    others = normal(names, draws=4000, seed=1)

    alarms = np.any([[limits[name].status(value) != "fine" for value in others[name]] for name in names], axis=0)

    assert alarms.mean() < 0.03  # 1 % by construction, with spreads that are estimated from 400 samples


def test_rare_values_of_one_statistic_do_not_widen_the_limits_of_another():
    samples = normal(["x"]) | {"rare": (np.arange(400) % 100 == 0).astype(float)}

    limits = limits_of(samples, {"x": "high", "rare": "high"})

    assert limits["x"].status(14.0) == "watch"
    assert limits["rare"].status(1.0) == "fine"


def test_the_second_limit_is_twice_as_far_from_the_usual_value():
    limits = limits_of(normal(["x"]), {"x": "both"})["x"]

    for watch, retrain in zip(limits.watch, limits.retrain, strict=True):
        assert retrain - limits.usual == pytest.approx(2 * (watch - limits.usual))
        assert limits.distance(watch) == pytest.approx(1) and limits.distance(retrain) == pytest.approx(2)


@pytest.mark.parametrize(("side", "low", "high"), [("high", "fine", "retrain"), ("low", "retrain", "fine")])
def test_a_side_that_is_no_drift_gives_no_alarm(side, low, high):
    limits = limits_of(normal(["x"]), {"x": side})["x"]

    assert (limits.status(-90.0), limits.status(110.0)) == (low, high)
    assert limits.distance(-90.0 if low == "fine" else 110.0) == 0.0


def test_a_statistic_that_never_varies_allows_one_percent():
    limits = limits_of({"x": np.full(400, 50.0)}, {"x": "both"})["x"]

    assert limits.status(50.4) == limits.status(49.6) == "fine" and limits.status(53.0) == "retrain"


def test_limits_can_be_raised_and_are_never_lowered():
    limits = Limits(0.0, 0.0, 0.0, (None, 0.02), (None, 0.04))

    assert limits.at_least(0.1).watch[1] == 0.1 and limits.at_least(0.1).retrain[1] == 0.2
    assert limits.at_least(0.001) == limits


def test_half_of_the_samples_are_stretches_of_the_catalog():
    samples = item_samples(50, 20, draws=40)

    assert all(len(set(rows.tolist())) == 20 and set(rows.tolist()) <= set(range(50)) for rows in samples)
    is_stretch = [((np.diff(rows) % 50) == 1).all() for rows in samples]
    assert sum(is_stretch) == 20


def test_a_share_that_was_never_seen_may_still_be_small_and_rarely_large():
    few, many = (share_samples(0, total, 100) for total in (50, 50_000))

    assert 0 < np.quantile(few, 0.99) < 0.15 and np.quantile(many, 0.99) < 0.011
