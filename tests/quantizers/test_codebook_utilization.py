import numpy as np
import pytest

from cost_hf.quantizers.codebook_utilization import check_collapse, code_health
from cost_hf.quantizers.fit import CodebookCollapse, CodesOptions


def record(*perplexities, **more):
    return {f"perplexity_{level}": value for level, value in enumerate(perplexities, start=1)} | more


def test_health_counts_use_perplexity_and_groups():
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 3]])

    health = code_health(codes, (4, 4))

    assert health["use_1"] == 0.5 and health["use_2"] == 0.5
    assert health["perplexity_1"] == pytest.approx(2)
    assert health["perplexity_2"] == pytest.approx(4 / 3**0.75)
    assert health["unique_share"] == pytest.approx(3 / 4)
    assert health["largest_group"] == 2


def test_a_giant_center_with_outliers_shows_in_perplexity_not_in_use():
    codes = np.concatenate([np.zeros(1000, dtype=np.int64), np.arange(16)])[:, None]

    health = code_health(codes, (16,))

    assert health["use_1"] == 1
    assert health["perplexity_1"] < 1.2


@pytest.mark.parametrize(
    ("perplexities", "sizes", "items"),
    [((1.0, 60.0, 60.0), (64, 64, 64), 1000), ((7.0, 2.0, 2.0), (64, 64, 64), 1000), ((1.2, 4.0), (4, 4), 1000)],
    ids=["first level", "all levels", "few codes"],
)
def test_a_collapse_is_an_error_with_what_was_seen(perplexities, sizes, items):
    with pytest.raises(CodebookCollapse, match=rf"after epoch 7 the perplexities are {perplexities[0]} of {sizes[0]}"):
        check_collapse([record(*perplexities, epoch=7.0)], sizes, num_items=items, options=CodesOptions())


@pytest.mark.parametrize(
    ("perplexities", "items"),
    [((55.0, 24.0, 12.0), 1000), ((20.0, 5.0, 4.0), 1000), ((9.0, 5.0, 5.0), 10)],
    ids=["uneven", "first level carries the mean", "few items can't use many codes"],
)
def test_poor_codes_are_not_a_collapse(perplexities, items):
    check_collapse([record(*perplexities)], (64, 64, 64), num_items=items, options=CodesOptions())


def test_one_good_epoch_among_the_last_is_no_collapse():
    records = [record(1.0), record(30.0), record(1.0)]

    check_collapse(records, (64,), num_items=1000, options=CodesOptions())


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (CodesOptions(initialization="none"), "set codes.initialization to full"),
        (CodesOptions(revival=False), "set codes.revival to true"),
        (CodesOptions(revival_share=0.0), "set codes.revival to true"),
        (CodesOptions(input_norm="standardize"), "set codes.input_norm to l2"),
        (CodesOptions(reduction="mean"), "set codes.reduction to sum"),
        (CodesOptions(learning_rate=0.3), r"lower codes.learning_rate \(now 0.3\)"),
        (CodesOptions(kind="rkmeans"), "lower codes.pca_dim"),
    ],
)
def test_the_advice_names_settings_that_are_not_at_their_safe_value(options, advice):
    with pytest.raises(CodebookCollapse, match=advice) as caught:
        check_collapse([record(1.0)], (64,), num_items=1000, options=options)

    if options.initialization == "full":
        assert "codes.initialization" not in str(caught.value)
