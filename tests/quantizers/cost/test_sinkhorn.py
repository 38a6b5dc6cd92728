import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.quantizers.cost.sinkhorn_cost import balanced_codes
from tests.quantizers.cost.toys import item_vectors, tiny_model


def published_plan(distances, epsilon, iterations=50):
    """The published procedure on the whole plan: scale to [-1, 1], rows and columns in turn."""
    middle = (distances.max() + distances.min()) / 2
    plan = torch.exp(-((distances - middle) / (distances.max() - middle)).double() / epsilon)
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(1, keepdim=True) * len(plan)
        plan /= plan.sum(0, keepdim=True) * plan.shape[1]
    return plan


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 12), st.sampled_from([0.003, 0.01, 0.1]))
def test_codes_have_the_largest_shares_of_the_published_plan(seed, num_items, num_codes, epsilon):
    distances = torch.rand(num_items, num_codes, generator=torch.Generator().manual_seed(seed))

    codes = balanced_codes(distances, epsilon=epsilon)

    plan = published_plan(distances, epsilon)  # with few items several shares are equal up to rounding
    torch.testing.assert_close(plan.gather(1, codes[:, None])[:, 0], plan.max(1).values, rtol=1e-6, atol=0)


def test_a_crowd_around_one_code_is_spread_over_all():
    distances = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
    distances[:, 3] -= 0.5

    before = torch.bincount(distances.argmin(1), minlength=8)
    after = torch.bincount(balanced_codes(distances, epsilon=0.01), minlength=8)

    assert before[3] > 40 and before.min() == 0
    assert after.min() >= 6 and after.max() <= 12


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_the_distances_does_not_matter(scale):
    distances = torch.rand(30, 6, generator=torch.Generator().manual_seed(1))

    assert torch.equal(balanced_codes(distances * scale, epsilon=0.003), balanced_codes(distances, epsilon=0.003))


def test_equal_distances_and_far_outliers_stay_finite():
    assert balanced_codes(torch.ones(5, 4), epsilon=0.003).tolist() == [0] * 5
    distances = torch.rand(40, 4)
    distances[0] += 1e4
    assert set(balanced_codes(distances, epsilon=0.003).tolist()) <= set(range(4))


def crowded_model(**changes):
    """A model whose last level would give every item code 0."""
    model = tiny_model(**changes)
    model.quantizer.replace_codes(2, torch.arange(1, 4), model.level_vectors(2)[0].detach() + torch.eye(6)[:3] * 9)
    return model


def test_training_balances_the_last_level_and_no_other():
    model, items = crowded_model(sinkhorn_epsilon=0.003).train(), item_vectors(64)

    balanced, nearest = model(items).codes, model.encode(items)

    assert torch.equal(balanced[:, :2], nearest[:, :2])
    assert torch.bincount(nearest[:, 2], minlength=4).tolist() == [64, 0, 0, 0]
    assert torch.bincount(balanced[:, 2], minlength=4).min() >= 15


def test_encoding_takes_the_nearest_codes_whatever_the_mode():
    model, items = crowded_model(sinkhorn_epsilon=0.003), item_vectors(64)

    assert torch.equal(model.train().encode(items), model.eval().encode(items))
    assert torch.equal(model.eval()(items).codes, model.encode(items))


def test_without_an_epsilon_training_takes_the_nearest_codes():
    model, items = crowded_model().train(), item_vectors(64)

    assert torch.equal(model(items).codes, model.encode(items))
