"""Statistics of clicks: items that the catalog or the training does not know, and a change of what is popular."""

import numpy as np
import pytest

from cost_hf.experiments.drift.clicks import MAX_UNSEEN, click_values
from cost_hf.experiments.drift.statistics import statistic_of
from cost_hf.experiments.drift.thresholds import limits_of
from tests.recommenders.toys import TOY_IDS, toy_text_recommender


@pytest.fixture(scope="module")
def recommender():
    # item000 has no click, item019 the most; the head are the four most clicked items
    system = toy_text_recommender()
    system.add_items(["late"], ["football in lima"])
    return system


def results(*, unseen=0, head=300, cases=1000, recall=(0.2, 0.19, 0.21)) -> dict:
    value, low, high = recall
    slices = {
        "target_in_training": {"0": {"cases": unseen}, "6+": {"cases": cases - unseen}},
        "popularity": {"head": {"cases": head}, "tail": {"cases": cases - head}},
    }
    cell = {"recall@10": {"value": value, "low": low, "high": high}}
    return {
        "slices": {"recommender": {"seen_allowed": slices}},
        "rows": {"recommender": {"item": {"seen_allowed": cell}}},
    }


def status(found, name: str) -> str:
    limits = limits_of(found.samples, {own: statistic_of(own)[0].side for own in found.new})
    return limits[name].status(found.new[name])


def test_shares_are_those_of_clicks(recommender):
    clicks = ["gone", "late", "item000", "item019", "item019", "item001", "item002", "item003"]

    found = click_values(clicks, recommender, results(), seed=0)

    assert found.new == {"unknown_item_clicks": 1 / 8, "new_item_clicks": 3 / 8, "head_clicks": 2 / 5}
    assert found.unknown == ["gone"] and found.size == 8
    assert found.tolerance == pytest.approx(0.05)


def test_clicks_like_those_of_the_test_part_are_fine(recommender):
    generator = np.random.default_rng(0)
    head, tail = TOY_IDS[-4:], TOY_IDS[1:-4]
    clicks = [str(generator.choice(head if generator.random() < 0.3 else tail)) for _ in range(500)]
    found = click_values(clicks, recommender, results(), seed=0)

    assert {status(found, name) for name in found.new} == {"fine"}


def test_other_popular_items_are_a_shift_to_either_side(recommender):
    for item in ("item001", "item019"):
        found = click_values([item] * 500, recommender, results(), seed=0)
        assert status(found, "head_clicks") == "retrain"


def test_new_items_are_usual_where_the_test_part_had_them(recommender):
    clicks = ["late"] * 100 + ["item005"] * 400

    used_to_it = click_values(clicks, recommender, results(unseen=200), seed=0)
    not_used = click_values(clicks, recommender, results(unseen=0), seed=0)

    assert status(used_to_it, "new_item_clicks") == "fine" and status(not_used, "new_item_clicks") == "retrain"


def test_without_results_the_clicks_of_training_say_what_is_usual(recommender):
    found = click_values(["item019"] * 10, recommender, None, seed=0)

    head = recommender.popularity[16:].sum() / recommender.popularity.sum()
    assert found.tolerance is None and found.source == "clicks of the training"
    assert np.median(found.samples["head_clicks"]) == pytest.approx(head, abs=0.11)


@pytest.mark.parametrize(
    ("recall", "tolerance"), [((0.2, 0.1, 0.3), MAX_UNSEEN), ((0.0, 0.0, 0.0), None), ((0.5, 0.49, 0.51), 0.02)]
)
def test_the_tolerance_is_the_relative_width_of_the_interval(recommender, recall, tolerance):
    found = click_values(["item019"], recommender, results(recall=recall), seed=0).tolerance

    assert found == (None if tolerance is None else pytest.approx(tolerance))


def test_clicks_on_unknown_items_alone_have_no_popularity(recommender):
    assert set(click_values(["gone"] * 9, recommender, results(), seed=0).new) == {
        "unknown_item_clicks",
        "new_item_clicks",
    }
