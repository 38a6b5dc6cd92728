import numpy as np
import pytest

from cost_hf.semantic_ids.codebook_utilization import codebook_utilization, level_utilization


def test_use_perplexity_and_groups_are_counted():
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 3]])

    found = codebook_utilization(codes, (4, 4))

    assert found["use_1"] == 0.5 and found["use_2"] == 0.5
    assert found["perplexity_1"] == pytest.approx(2)
    assert found["perplexity_2"] == pytest.approx(4 / 3**0.75)
    assert found["unique_share"] == pytest.approx(3 / 4)
    assert found["largest_group"] == 2


def test_a_giant_center_with_outliers_shows_in_perplexity_not_in_use():
    codes = np.concatenate([np.zeros(1000, dtype=np.int64), np.arange(16)])[:, None]

    found = codebook_utilization(codes, (16,))

    assert found["use_1"] == 1
    assert found["perplexity_1"] < 1.2


def test_perplexity_tells_a_giant_code_from_an_even_level():
    giant = level_utilization(np.array([0] * 93 + list(range(1, 8))), 8)

    assert level_utilization(np.arange(8), 8) == (1.0, pytest.approx(8))
    assert giant[0] == 1.0 and giant[1] < 1.6
