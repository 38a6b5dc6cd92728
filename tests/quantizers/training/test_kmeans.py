import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from cost_hf.quantizers.cost.residual_cost import squared_distances
from cost_hf.quantizers.training.kmeans import kmeans_centers, nearest_centers, residual_kmeans, seeded_generator
from tests.quantizers.cost.toys import item_vectors


def inertia(x, centers):
    return float(squared_distances(x, centers).amin(1).sum())


def test_separate_clusters_are_found_whatever_the_seed():
    centers = 10 * torch.eye(6)
    x = (centers[:, None] + 0.1 * torch.randn(6, 20, 6, generator=seeded_generator("noise"))).reshape(-1, 6)

    for seed in range(5):
        found = kmeans_centers(x, 6, seed=seed)
        distances = squared_distances(centers, found)
        assert len(set(distances.argmin(1).tolist())) == 6 and distances.amin(1).max() < 0.1


@pytest.mark.parametrize("threads", [2, 4])
def test_the_number_of_threads_does_not_change_a_bit(threads):
    x = item_vectors(3000, 32, clusters=200)
    single = kmeans_centers(x, 64, seed=0)

    with threadpool_limits(threads):
        several = kmeans_centers(x, 64, seed=0)

    assert torch.equal(several, single)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(12, 60))
def test_every_center_is_the_mean_of_its_rows_or_a_row(seed, num_codes, num_items):
    x = item_vectors(num_items, seed=seed)

    centers = kmeans_centers(x, num_codes, seed=seed, iterations=100)

    nearest = nearest_centers(x, centers)
    for code in nearest.unique().tolist():
        torch.testing.assert_close(centers[code], x[nearest == code].mean(0), atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_start():
    x = item_vectors(200)

    first, again, other = kmeans_centers(x, 8, seed=1), kmeans_centers(x, 8, seed=1), kmeans_centers(x, 8, seed=2)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_chunks_do_not_change_the_nearest_center(monkeypatch):
    x = item_vectors(200)
    centers = x[:8]
    whole = nearest_centers(x, centers)

    monkeypatch.setattr("cost_hf.quantizers.training.kmeans.CHUNK_ENTRIES", 100)

    assert torch.equal(nearest_centers(x, centers), whole)


def test_fewer_items_than_codes_is_an_error_with_both_remedies():
    with pytest.raises(
        ValueError, match=r"level of 64 codes needs at least as many vectors, got 40; lower level_sizes"
    ):
        kmeans_centers(item_vectors(40), 64, seed=0)


def test_as_many_items_as_codes_become_the_centers():
    x = item_vectors(7)

    centers = kmeans_centers(x, 7, seed=0)

    assert inertia(x, centers) < 1e-5


@pytest.mark.parametrize("distinct", [1, 3])
def test_repeated_items_leave_codes_unused_without_an_error(distinct):
    x = item_vectors(distinct).repeat(10, 1)[:10]

    centers = kmeans_centers(x, 5, seed=0)

    assert centers.isfinite().all()
    assert inertia(x, centers) < 1e-5


def test_each_level_is_fitted_to_what_the_levels_before_it_left_over():
    x = item_vectors(300)

    codebooks = residual_kmeans(x, (8, 6, 4), seed=0)

    residual, errors = x, []
    for codebook in codebooks:
        residual = residual - codebook[nearest_centers(residual, codebook)]
        errors.append(float(residual.square().sum()))
    assert [len(codebook) for codebook in codebooks] == [8, 6, 4]
    assert errors == sorted(errors, reverse=True)
    assert torch.equal(codebooks[0], kmeans_centers(x, 8, seed=0))


def test_shared_codebooks_are_one_table_that_serves_all_levels():
    x = item_vectors(300)

    first, second = residual_kmeans(x, (16, 16), seed=0, share_codebooks=True)

    assert first is second
    residual = x - first[nearest_centers(x, first)]
    assert inertia(residual, second) < 0.9 * float(residual.square().sum())
