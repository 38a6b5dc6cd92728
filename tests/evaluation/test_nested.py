import numpy as np
import pytest

from cost_hf.evaluation.statistics import SystemValues, bootstrap_means, interval_of, nested_means

CASES = 500


def runs(generator, seeds, *, user=0.1, noise=0.25, seed_spread=0.01, case_effects=None):
    """Return values [S, M] of truth 0: a part of the user, one of the run, and one of each (run, user) cell."""
    shared = user * generator.normal(size=CASES) if case_effects is None else case_effects
    own = seed_spread * generator.normal(size=(seeds, 1))
    return shared + own + noise * generator.normal(size=(seeds, CASES))


def coverage(seeds, *, with_seeds=True, repetitions=200, **spreads):
    """Return how often the 95 % interval of a mean holds the truth, 0."""
    generator = np.random.default_rng(0)
    hits = 0
    for number in range(repetitions):
        values = runs(generator, seeds, **spreads)
        system = SystemValues(values if with_seeds else values.mean(axis=0)[None], range(seeds if with_seeds else 1))
        interval = interval_of(0.0, nested_means({"a": system}, draws=300, seed=number)["a"])
        hits += interval.low <= 0.0 <= interval.high
    return hits / repetitions


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_seeds_and_users_cover_the_truth(seeds):
    assert 0.90 <= coverage(seeds) <= 0.99


def test_intervals_without_the_seeds_are_too_narrow():
    assert coverage(3, with_seeds=False, seed_spread=0.02) < 0.75 < 0.85 < coverage(3, seed_spread=0.02)


@pytest.mark.parametrize("quantizers", [2, 3, 5])
def test_the_spread_of_draws_is_the_unbiased_error_of_quantizer_means(quantizers):
    levels = np.arange(quantizers) ** 2.0
    values = np.repeat(levels[:, None], 20, axis=1)  # users are all alike

    means = nested_means({"a": SystemValues(values, range(quantizers))}, draws=40_000)["a"]

    assert means.std() == pytest.approx(levels.std(ddof=1) / np.sqrt(quantizers), rel=0.03)
    assert means.mean() == pytest.approx(levels.mean(), rel=0.03)


def test_generators_of_a_quantizer_move_together():
    values = np.repeat(np.array([[1.0], [3.0], [7.0], [9.0]]), 20, axis=1)

    nested = nested_means({"a": SystemValues(values, [0, 0, 1, 1])}, draws=40_000)["a"]
    flat = nested_means({"a": SystemValues(values, [0, 1, 2, 3])}, draws=40_000)["a"]

    assert nested.std() == pytest.approx(np.std([2, 8], ddof=1) / np.sqrt(2), rel=0.03)
    assert nested.std() > 1.3 * flat.std()


def test_generators_are_resampled_where_there_is_one_quantizer():
    values = np.repeat(np.array([[1.0], [3.0]]), 20, axis=1)
    system = SystemValues(values, [4, 4])

    means = nested_means({"a": system}, draws=40_000)["a"]

    assert means.std() == pytest.approx(1.0, rel=0.03)
    assert system.covers == "users and generator seeds of one quantizer"


def test_one_run_varies_by_users_alone():
    values = np.random.default_rng(0).random((1, 60))
    users = np.arange(60) // 2

    means = nested_means({"a": SystemValues(values, [0])}, clusters=users, draws=50, seed=3)["a"]

    np.testing.assert_array_equal(means, bootstrap_means(values.T, clusters=users, draws=50, seed=3)[:, 0])
    assert SystemValues(values, [0]).covers == "users"


def test_draws_equal_a_plain_loop():
    generator = np.random.default_rng(0)
    values, quantizers = generator.random((5, 30)), np.array([7, 7, 2, 2, 2])

    means = nested_means({"a": SystemValues(values, quantizers.tolist())}, draws=40, seed=5)["a"]

    users = np.random.default_rng(5).integers(0, 30, size=(40, 30))
    picks = np.random.default_rng([5, *b"'a'"]).integers(0, 2, size=(40, 2))
    table = np.stack([values[quantizers == one].mean(axis=0) for one in (7, 2)])  # [Q, M]
    expected = [
        table.mean(axis=0)[user].mean() + np.sqrt(2) * (table.mean(axis=1)[pick].mean() - table.mean())
        for user, pick in zip(users, picks, strict=True)
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-12)


def test_a_quantizer_with_more_generators_does_not_weigh_more():
    values = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])

    assert SystemValues(values, [0, 0, 1]).per_case().tolist() == [0.5, 0.5]


def test_users_are_paired_between_systems():
    shared = np.random.default_rng(0).random((1, 200))

    means = nested_means({"a": SystemValues(shared + 0.1, [0]), "b": SystemValues(shared, [0])}, draws=100)

    np.testing.assert_allclose(means["a"] - means["b"], 0.1)


def test_metrics_of_a_system_share_their_draws():
    values = np.random.default_rng(0).random((3, 40))
    both = SystemValues(np.stack([values, 2 * values + 1], axis=2), [0, 1, 2])

    means = nested_means({"a": both}, draws=100)["a"]  # [draws, 2]

    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)
    np.testing.assert_allclose(means[:, 0], nested_means({"a": SystemValues(values, [0, 1, 2])}, draws=100)["a"])


def test_other_systems_and_their_order_move_no_draw():
    generator = np.random.default_rng(0)
    systems = {name: SystemValues(generator.random((3, 40)) / 3, [0, 1, 2]) for name in "abc"}

    alone = nested_means({"b": systems["b"]}, draws=50)["b"]
    among = nested_means(dict(reversed(systems.items())), draws=50)["b"]

    np.testing.assert_allclose(alone, among, rtol=1e-12)


def test_the_order_of_cases_changes_no_bit_of_nested_draws():
    generator = np.random.default_rng(0)
    values, users, order = generator.random((3, 60)) / 3, generator.integers(0, 20, size=60), generator.permutation(60)

    straight = nested_means({"a": SystemValues(values, [0, 1, 2])}, clusters=users, draws=50)["a"]
    shuffled = nested_means({"a": SystemValues(values[:, order], [0, 1, 2])}, clusters=users[order], draws=50)["a"]

    np.testing.assert_array_equal(straight, shuffled)


def test_systems_on_other_cases_are_an_error():
    systems = {"a": SystemValues(np.ones((1, 3)), [0]), "b": SystemValues(np.ones((1, 4)), [0])}

    with pytest.raises(ValueError, match=r"same cases, got cases \{'a': 3, 'b': 4\}; rank all"):
        nested_means(systems)


@pytest.mark.parametrize(
    ("values", "quantizers"), [(np.ones((2, 3)), [0]), (np.ones(3), [0]), (np.ones((0, 3)), [])], ids=str
)
def test_runs_without_their_quantizer_are_an_error(values, quantizers):
    with pytest.raises(ValueError, match="one quantizer per run, got shape"):
        SystemValues(values, quantizers)


def test_a_system_made_of_anothers_runs_moves_with_its_seeds():
    generator = np.random.default_rng(0)
    values = generator.random((3, 40)) + np.array([0.0, 0.1, 0.2])[:, None]
    systems = {
        "cost": SystemValues(values, [0, 1, 2]),
        "copy": SystemValues(values, [0, 1, 2], seeds_of="cost"),
        "other": SystemValues(values, [0, 1, 2]),
    }
    means = nested_means(systems, draws=100)

    np.testing.assert_array_equal(means["copy"], means["cost"])
    assert not np.array_equal(means["other"], means["cost"])
