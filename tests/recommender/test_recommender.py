import math

import pytest
import torch

from cost_hf.recommender.recommender import Recommender
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from tests.recommender.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, toy_catalog, toy_causal, toy_recommender, toy_t5


@pytest.fixture(scope="module")
def mine() -> Recommender:
    return toy_recommender()


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def test_a_history_gets_items_with_scores_best_first(mine):
    answers = mine.recommend(["item001", "item002"], top_k=5)

    assert len(set(ids(answers))) == 5 and set(ids(answers)) <= set(TOY_IDS)
    scores = [score for _, score, _ in answers]
    assert scores == sorted(scores, reverse=True) and max(scores) < 0
    assert answers[0].fields == {"source": "generator"}


def test_titles_stand_in_the_fields():
    titled = toy_recommender(
        toy_catalog(TOY_ITEMS, (4, 5, 3), titles=[f"title {item}" for item in TOY_IDS[:-1]] + [None])
    )

    answers = titled.recommend(["item001"], top_k=TOY_ITEMS)

    fields = {answer.item_id: answer.fields for answer in answers}
    assert fields["item002"] == {"title": "title item002", "source": "generator"}
    assert fields[TOY_IDS[-1]] == {"source": "generator"}


@pytest.mark.parametrize("build", [toy_causal, toy_t5])
def test_a_batch_answers_like_one_history_at_a_time(build):
    system = toy_recommender(build=build)
    histories = [["item001"], ["item002", "item003", "item004"], ["item009", "item001"]]

    batch = system.recommend(histories, top_k=4)

    for history, answers in zip(histories, batch, strict=True):
        alone = system.recommend(history, top_k=4)
        assert ids(answers) == ids(alone)
        assert [answer.score for answer in answers] == pytest.approx([answer.score for answer in alone], abs=1e-5)


def test_a_batch_larger_than_one_step_keeps_its_order(mine):
    histories = [[TOY_IDS[row % TOY_ITEMS]] for row in range(70)]

    batch = mine.recommend(histories, top_k=1, exclude_seen=False)

    assert [ids(answers) for answers in batch[:TOY_ITEMS]] == [
        ids(answers) for answers in batch[TOY_ITEMS : 2 * TOY_ITEMS]
    ]
    assert len(batch) == 70


def test_a_batch_of_one_is_a_list_of_lists(mine):
    assert [ids(answers) for answers in mine.recommend([["item001"]])] == [ids(mine.recommend(["item001"]))]


def test_seen_items_come_back_only_where_asked(mine):
    history = ["item001", "item002"]

    assert not set(history) & set(ids(mine.recommend(history, top_k=TOY_ITEMS)))
    assert set(history) <= set(ids(mine.recommend(history, top_k=TOY_ITEMS, exclude_seen=False)))


def test_top_k_beyond_the_catalog_gives_every_legal_item_once(mine):
    answers = mine.recommend(["item001"], top_k=1000)

    assert sorted(ids(answers)) == sorted(set(TOY_IDS) - {"item001"})
    assert all(math.isfinite(answer.score) for answer in answers)


def test_more_answers_than_beams_widen_the_search(mine):
    assert len(mine.recommend(["item001"], top_k=15)) == 15 > mine.num_beams


def test_an_empty_history_is_an_error_or_popularity(mine):
    with pytest.raises(ValueError, match=r"history 0 is empty; .*on_empty='popularity'"):
        mine.recommend([])
    answers = mine.recommend([], top_k=3, on_empty="popularity")

    assert ids(answers) == ["item019", "item018", "item017"]
    assert all(answer.fields["source"] == "popularity" for answer in answers)
    assert answers[0].score == pytest.approx(math.log(20 / (TOY_CLICKS.sum() + TOY_ITEMS)))


def test_an_empty_history_in_a_batch_is_named_and_may_be_answered_alone(mine):
    with pytest.raises(ValueError, match="history 1 is empty"):
        mine.recommend([["item001"], []])
    first, second = mine.recommend([["item001"], []], top_k=2, on_empty="popularity")

    assert ids(first) == ids(mine.recommend(["item001"], top_k=2))
    assert ids(second) == ["item019", "item018"]


def test_an_unknown_item_is_an_error_or_dropped(mine):
    with pytest.raises(KeyError, match="1 of 2 item ids are not in the catalog of 20 items: 'gone'"):
        mine.recommend(["item001", "gone"])

    assert mine.recommend(["item001", "gone"], on_unknown="drop") == mine.recommend(["item001"])
    with pytest.raises(ValueError, match="history 0 is empty"):
        mine.recommend(["gone"], on_unknown="drop")
    assert mine.recommend(["gone"], on_unknown="drop", on_empty="popularity", top_k=1)[0].item_id == "item019"


def test_only_allowed_items_are_recommended(mine):
    allowed = ["item003", "item007", "item001"]

    assert set(ids(mine.recommend(["item001"], allowed=allowed))) == {"item003", "item007"}
    assert set(ids(mine.recommend(["item001"], allowed=allowed, exclude_seen=False))) == set(allowed)
    assert ids(mine.recommend([], allowed=allowed, on_empty="popularity")) == ["item007", "item003", "item001"]


def test_denied_items_are_never_recommended(mine):
    denied = TOY_IDS[5:]

    assert set(ids(mine.recommend(["item001"], denied=denied))) == {"item000", "item002", "item003", "item004"}
    assert ids(mine.recommend(["item001"], allowed=["item004", "item006"], denied=denied)) == ["item004"]
    assert ids(mine.recommend([], denied=denied, on_empty="popularity", top_k=1)) == ["item004"]


def test_one_mask_serves_many_calls(mine):
    stock = mine.mask(allowed=["item003", "item007", "item001"])

    assert set(ids(mine.recommend(["item001"], allowed=stock))) == {"item003", "item007"}
    assert set(ids(mine.recommend(["item003"], allowed=stock, denied=["item007"]))) == {"item001"}
    first, second = mine.recommend([["item003"], []], allowed=stock, on_empty="popularity", top_k=1)
    assert set(ids(first)) <= {"item001", "item007"} and ids(second) == ["item007"]


def test_a_mask_may_differ_from_request_to_request(mine):
    table = torch.zeros(3, TOY_ITEMS, dtype=torch.bool)
    table[0, 3] = table[1, 4:6] = table[2, 7] = True

    answers = mine.recommend(
        [["item001"], [], ["item001"]], allowed=CatalogMask(TOY_ITEMS, table), on_empty="popularity"
    )

    assert [set(ids(answer)) for answer in answers] == [{"item003"}, {"item004", "item005"}, {"item007"}]


def test_a_mask_of_another_catalog_or_batch_is_an_error(mine):
    with pytest.raises(ValueError, match="the mask covers 3 catalog rows, expected 20"):
        mine.recommend(["item001"], allowed=CatalogMask(3))
    with pytest.raises(ValueError, match="the mask is for 2 requests, got 1"):
        mine.recommend(["item001"], allowed=CatalogMask(TOY_ITEMS, denied=torch.tensor([[0], [1]])))


def test_a_mask_never_brings_removed_items_back():
    system = toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3)).without_items(["item019"]))
    mask = CatalogMask(TOY_ITEMS, torch.ones(TOY_ITEMS, dtype=torch.bool))

    assert "item019" not in ids(system.recommend([], top_k=TOY_ITEMS, allowed=mask, on_empty="popularity"))
    assert "item019" not in ids(system.recommend(["item001"], top_k=TOY_ITEMS, allowed=mask))


def test_nothing_legal_gives_an_empty_answer(mine):
    assert mine.recommend(["item001"], allowed=[]) == []
    assert mine.recommend(["item001"], allowed=["item001"]) == []
    assert mine.recommend(TOY_IDS) == []
    full, other = mine.recommend([TOY_IDS, ["item001"]], top_k=2)
    assert full == [] and ids(other) == ids(mine.recommend(["item001"], top_k=2))


def test_removed_items_stay_in_histories_and_leave_the_answers():
    system = toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3)).without_items(["item019", "item002"]))

    answers = ids(system.recommend(["item002"], top_k=TOY_ITEMS, exclude_seen=False))

    assert set(answers) == set(TOY_IDS) - {"item019", "item002"}
    assert ids(system.recommend([], top_k=1, on_empty="popularity")) == ["item018"]


def test_a_history_longer_than_the_model_reads_counts_from_its_end(mine):
    long = [TOY_IDS[row] for row in (9, 8, 7, 6, 5, 4, 3, 2, 1)]

    assert ids(mine.recommend(long, exclude_seen=False)) == ids(mine.recommend(long[-6:], exclude_seen=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"histories": "item001"}, r"got the string 'item001'; pass \['item001'\]"),
        ({"histories": ["item001", ["item002"]]}, "got 'item001' in a list of 2"),
        ({"histories": [1, 2]}, "got 1 in a list of 2; convert ids by str"),
        ({"histories": [["item001"], None]}, "got None in a list of 2"),
        ({"histories": ["item001"], "allowed": "item002"}, r"allowed must be a list .*pass \['item002'\]"),
        ({"histories": ["item001"], "denied": "item002"}, r"denied must be a list .*pass \['item002'\]"),
        ({"histories": ["item001"], "top_k": 0}, "top_k must be at least 1, got 0"),
        ({"histories": ["item001"], "on_unknown": "skip"}, "on_unknown must be one of error, drop, got 'skip'"),
        ({"histories": ["item001"], "on_empty": "none"}, "on_empty must be one of error, popularity, got 'none'"),
    ],
)
def test_what_cannot_be_meant_is_refused(mine, arguments, message):
    with pytest.raises(ValueError, match=message):
        mine.recommend(**arguments)


@pytest.mark.parametrize("name", ["allowed", "denied"])
def test_unknown_ids_in_filters_are_errors(mine, name):
    with pytest.raises(KeyError, match="'gone'"):
        mine.recommend(["item001"], **{name: ["gone"]})
