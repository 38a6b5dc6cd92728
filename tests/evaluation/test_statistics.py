import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.evaluation import statistics
from cost_hf.evaluation.statistics import Columns, bootstrap_interval, bootstrap_means


def test_the_interval_of_a_mean_matches_the_normal_approximation():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=2000)

    interval = bootstrap_interval(values, seed=1)

    spread = values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * spread, abs=0.2 * spread)
    assert interval.high == pytest.approx(values.mean() + 1.96 * spread, abs=0.2 * spread)


def test_a_constant_has_an_interval_without_width():
    interval = bootstrap_interval(np.full(50, 0.1))

    assert [interval.value, interval.low, interval.high] == pytest.approx([0.1, 0.1, 0.1], rel=1e-12)


def test_cases_of_one_user_are_drawn_together():
    values = np.random.default_rng(0).normal(size=200)
    repeated, users = np.repeat(values, 10), np.repeat(np.arange(200), 10)

    by_user = bootstrap_interval(repeated, clusters=users)

    assert by_user.low == pytest.approx(bootstrap_interval(values, clusters=np.arange(200)).low)
    assert by_user.high - by_user.low > 2.5 * (bootstrap_interval(repeated).high - bootstrap_interval(repeated).low)


def test_users_with_more_cases_weigh_more():
    values = np.array([1.0, 1.0, 1.0, 0.0])

    means = bootstrap_means(values[:, None], clusters=["ann", "ann", "ann", "bob"], draws=500)

    assert bootstrap_interval(values, clusters=["ann", "ann", "ann", "bob"]).value == 0.75
    assert set(np.round(means[:, 0], 6)) == {0.0, 0.75, 1.0}


def test_samples_equal_a_plain_loop_over_the_same_counts():
    values = np.random.default_rng(0).random((30, 2))

    means = bootstrap_means(values, draws=40, seed=5)

    picks = np.random.default_rng(5).integers(0, 30, size=(40, 30))
    np.testing.assert_allclose(means, [values[row].mean(axis=0) for row in picks], rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_cases_changes_no_bit(seed):
    generator = np.random.default_rng(seed)
    values, users = generator.random((60, 3)) / 3, generator.integers(0, 20, size=60)
    order = generator.permutation(60)

    straight = bootstrap_means(values, clusters=users, draws=50)
    shuffled = bootstrap_means(values[order], clusters=users[order], draws=50)

    np.testing.assert_array_equal(straight, shuffled)


def test_columns_share_their_samples():
    values = np.random.default_rng(0).random(40)

    means = bootstrap_means(np.stack([values, 2 * values + 1], axis=1), draws=100)

    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)


def test_samples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(0).random((50, 1))
    at_once = bootstrap_means(values, draws=30)

    monkeypatch.setattr("cost_hf.evaluation.statistics.CHUNK_ENTRIES", 120)

    np.testing.assert_array_equal(bootstrap_means(values, draws=30), at_once)


def test_a_paired_difference_is_narrower_than_two_intervals():
    generator = np.random.default_rng(0)
    shared = generator.normal(size=500)
    better, worse = shared + 0.1 + 0.01 * generator.normal(size=500), shared

    difference = bootstrap_interval(better - worse)

    assert difference.low > 0.09
    assert difference.high - difference.low < 0.1 * (bootstrap_interval(worse).high - bootstrap_interval(worse).low)


def test_seeds_change_the_samples_and_equal_seeds_repeat_them():
    values = np.random.default_rng(0).random(100)

    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_ranks_with_missing_values_are_refused():
    with pytest.raises(ValueError, match="expected finite values, got nan or inf; turn ranks into metrics"):
        bootstrap_interval(np.array([1.0, np.nan]))


def test_no_cases_are_an_error():
    with pytest.raises(ValueError, match=r"at least one case, got shape \(0, 1\)"):
        bootstrap_interval(np.array([]))


def test_labels_of_other_cases_are_an_error():
    with pytest.raises(ValueError, match="one cluster label per case, 3, got 2"):
        bootstrap_interval(np.ones(3), clusters=["ann", "bob"])


def test_no_draws_are_an_error():
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        bootstrap_interval(np.ones(3), draws=0)


def whole_table_means(values, clusters, *, draws, seed):
    """Draw all counts as one matrix, and multiply it with the table of the sums of all clusters."""
    exact = values if clusters is None else statistics._exactly_summed(values)
    groups = np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, groups, exact)
    picks = np.random.default_rng(seed).integers(0, len(sizes), size=(draws, len(sizes)))
    counts = np.stack([np.bincount(line, minlength=len(sizes)) for line in picks]).astype(np.float64)
    totals = counts @ np.column_stack([statistics._exactly_summed(sums), sizes])
    return totals[:, :-1] / totals[:, -1:]


@pytest.mark.parametrize("clusters", ["none", "cases", "users"])
@pytest.mark.parametrize("held", [1, 7, 2**22])
def test_parts_of_any_size_give_the_same_bits(monkeypatch, clusters, held):
    draw = np.random.default_rng(3)
    values = draw.normal(size=(60, 5))
    labels = {"none": None, "cases": draw.permutation(60), "users": draw.integers(0, 20, 60)}[clusters]
    expected = whole_table_means(values, labels, draws=30, seed=4)
    for name in ("CHUNK_ENTRIES", "COUNTED_ENTRIES", "TILE_ENTRIES"):
        monkeypatch.setattr(statistics, name, held)

    assert np.array_equal(bootstrap_means(values, clusters=labels, draws=30, seed=4), expected)
    apart = Columns([values[:, :2], values[:, 2:]])
    assert np.array_equal(bootstrap_means(apart, clusters=labels, draws=30, seed=4), expected)
