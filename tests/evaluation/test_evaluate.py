"""Evaluation of a recommender on item ids: exact numbers, the lists of `recommend`, and what is refused."""

import numpy as np
import pytest

from cost_hf.evaluation.evaluate import evaluate
from cost_hf.recommenders.rankers import ScoringRanker
from tests.evaluation.stand_ins import FixedOrder
from tests.recommenders.toys import TOY_IDS, toy_recommender

ITEMS = ["a", "b", "c", "d"]


class Fixed:
    """Scores a, b, c, d in this order for everybody."""

    def scores(self, histories):
        return np.tile([4.0, 3.0, 2.0, 1.0], (len(histories), 1))


@pytest.fixture
def ranker():
    return ScoringRanker(Fixed(), popularity=np.ones(4), item_ids=ITEMS)


@pytest.fixture(scope="module")
def recommender():
    return toy_recommender()


def values(found, part="metrics"):
    return {name: cell["value"] for name, cell in found[part].items()}


def test_metrics_are_those_of_the_ranks(ranker):
    # ranks of the targets, without the item of the history: 1, 3, 2
    found = evaluate(ranker, [["a"], ["a"], ["b"]], ["b", "d", "c"], cutoffs=[1, 3])

    assert values(found) == pytest.approx(
        {
            "recall@1": 1 / 3,
            "recall@3": 1.0,
            "ndcg@1": 1 / 3,
            "ndcg@3": (1 + 1 / np.log2(4) + 1 / np.log2(3)) / 3,
            "mrr@1": 1 / 3,
            "mrr@3": (1 + 1 / 3 + 1 / 2) / 3,
            "coverage@1": 2 / 4,
            "coverage@3": 1.0,
        }
    )
    assert (found["cases"], found["users"]) == (3, 3)
    assert "sid_metrics" not in found


def test_a_repeated_target_is_a_miss_where_seen_items_are_excluded(ranker):
    cases = ([["a"], ["b"]], ["a", "a"])

    excluded = evaluate(ranker, *cases, cutoffs=[1])
    allowed = evaluate(ranker, *cases, cutoffs=[1], exclude_seen=False)

    assert values(excluded)["recall@1"] == 0.5
    assert values(allowed)["recall@1"] == 1.0
    assert excluded["repeated_targets"] == allowed["repeated_targets"] == 0.5


def test_intervals_are_over_users(ranker):
    histories, targets = [["a"]] * 40, ["b", "d"] * 20

    alone = evaluate(ranker, histories, targets, cutoffs=[1])
    pairs = evaluate(ranker, histories, targets, cutoffs=[1], user_ids=np.arange(40) // 2)

    cell = alone["metrics"]["recall@1"]
    assert cell["low"] < cell["value"] == 0.5 < cell["high"]
    assert pairs["metrics"]["recall@1"] == {"value": 0.5, "low": 0.5, "high": 0.5}  # one hit for every user
    assert pairs["users"] == 20


def test_items_that_the_catalog_does_not_hold_are_named(ranker):
    with pytest.raises(
        KeyError, match=r"2 of 5 item ids are not in the catalog of 4 items: 'x', 'y'.*on_unknown='drop'"
    ):
        evaluate(ranker, [["a", "x"], ["a"]], ["y", "b"])


def test_dropped_items_leave_the_history_and_their_targets_are_misses(ranker):
    found = evaluate(ranker, [["x", "a"], ["a"]], ["b", "y"], cutoffs=[4], on_unknown="drop")

    assert values(found)["recall@4"] == 0.5
    assert found["unavailable_targets"] == 0.5


def test_the_lists_are_those_of_recommend(recommender):
    generator = np.random.default_rng(0)
    histories = [[TOY_IDS[row] for row in generator.integers(0, 20, size=3)] for _ in range(12)]
    targets = [TOY_IDS[row] for row in generator.integers(0, 20, size=12)]

    found = evaluate(recommender, histories, targets, cutoffs=[5])

    answers = recommender.recommend(histories, top_k=5)
    hits = [
        target in [answer.item_id for answer in answer_list]
        for target, answer_list in zip(targets, answers, strict=True)
    ]
    assert values(found)["recall@5"] == pytest.approx(np.mean(hits))
    listed = {answer.item_id for answer_list in answers for answer in answer_list}
    assert values(found)["coverage@5"] == len(listed) / 20
    assert values(found, "sid_metrics")["recall@5"] >= values(found)["recall@5"]


def test_removed_items_are_never_listed_and_targets_among_them_are_misses():
    recommender = toy_recommender()
    recommender.remove_items(TOY_IDS[:15])

    found = evaluate(recommender, [[TOY_IDS[0]]] * 6, [TOY_IDS[3], *TOY_IDS[15:]], cutoffs=[5])

    assert values(found)["recall@5"] == pytest.approx(5 / 6)
    assert values(found)["coverage@5"] == 1.0
    assert found["unavailable_targets"] == pytest.approx(1 / 6)


def test_empty_histories_are_answered_by_popularity_where_asked(recommender):
    with pytest.raises(ValueError, match=r"history 1 has no item that the catalog holds; .*on_empty='popularity'"):
        evaluate(recommender, [[TOY_IDS[0]], []], TOY_IDS[:2])

    found = evaluate(recommender, [[], []], [TOY_IDS[19], TOY_IDS[17]], cutoffs=[1, 2], on_empty="popularity")

    assert values(found)["recall@1"] == 0.5  # the last item has the most clicks
    assert values(found)["recall@2"] == 0.5


def test_a_ranker_without_ids_is_given_them():
    found = evaluate(FixedOrder([0, 1, 2, 3]), [["a"]], ["c"], cutoffs=[2], item_ids=ITEMS)

    assert values(found)["mrr@2"] == 0.5
    with pytest.raises(ValueError, match="FixedOrder ranks catalog rows without knowing their ids; pass item_ids="):
        evaluate(FixedOrder([0, 1, 2, 3]), [["a"]], ["c"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["b"]}, "one target per history and at least one case, got 2 histories and 1 targets"),
        ({"histories": [], "targets": []}, "at least one case, got 0 histories"),
        ({"histories": ["a", "b"]}, "history 0 must be a list of item ids, got the string 'a'"),
        ({"user_ids": ["u"]}, "one user id per case, got 1 for 2 cases"),
        ({"cutoffs": []}, "at least one list length"),
        ({"cutoffs": [0]}, "cutoffs must be at least 1, got 0"),
        ({"on_unknown": "ignore"}, "on_unknown must be one of error, drop, got 'ignore'"),
        ({"on_empty": None}, "on_empty must be one of error, popularity, got None"),
        ({"histories": [["a"], []]}, "history 1 has no item that the catalog holds; leave the case out$"),
        ({"bootstrap_draws": 0}, "bootstrap_draws must be at least 1"),
        ({"recommender": "a name"}, "expected a recommender or a ranker .*, got str"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_errors(ranker, changes, message):
    arguments = {"recommender": ranker, "histories": [["a"], ["b"]], "targets": ["b", "c"]} | changes
    with pytest.raises(ValueError, match=message):
        evaluate(arguments.pop("recommender"), arguments.pop("histories"), arguments.pop("targets"), **arguments)


def test_a_recommender_has_the_ids_of_its_own_catalog(recommender):
    with pytest.raises(ValueError, match="leave item_ids out"):
        evaluate(recommender, [[TOY_IDS[0]]], [TOY_IDS[1]], item_ids=TOY_IDS)
