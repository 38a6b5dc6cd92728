import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, toy_catalog, toy_causal, toy_recommender, toy_t5


@pytest.fixture(scope="module")
def mine() -> GenerativeRecommender:
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
        assert_same_list(answers, system.recommend(history, top_k=4))


def test_a_batch_larger_than_one_step_keeps_its_order(mine):
    histories = [[TOY_IDS[row % TOY_ITEMS]] for row in range(70)]

    batch = mine.recommend(histories, top_k=1, exclude_seen=False)

    assert len(batch) == 70
    for number, answers in enumerate(batch):
        assert_same_list(answers, batch[number % TOY_ITEMS])


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
    with pytest.raises(ValueError, match="history 0 holds no item of the catalog"):
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


def test_a_table_of_catalog_rows_is_a_mask(mine):
    table = torch.zeros(TOY_ITEMS, dtype=torch.bool)
    table[[3, 7]] = True

    for allowed in (table, table[None]):
        answers = mine.recommend([["item001"], ["item003"]], allowed=allowed)
        assert [set(ids(answer)) for answer in answers] == [{"item003", "item007"}, {"item007"}]
    with pytest.raises(ValueError, match=r"allowed must be a list of item ids \(strings\), got ndarray of bool"):
        mine.recommend(["item001"], allowed=table.numpy())


class LargestResult(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that torch computes; views cost nothing."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {part.untyped_storage().data_ptr() for part in tree_leaves(args) if isinstance(part, torch.Tensor)}
        for part in tree_leaves(result):
            if isinstance(part, torch.Tensor) and part.untyped_storage().data_ptr() not in given:
                self.numel = max(self.numel, part.numel())
        return result


def test_a_mask_costs_nothing_of_the_size_of_the_catalog_at_a_call():
    items = 20_000
    system = toy_recommender(toy_catalog(items, (64, 63, 62), append_size=8), popularity=np.arange(items))
    stock = system.mask(denied=["item007"])
    expected = system.recommend(["item001"], allowed=stock)
    with LargestResult() as first:
        assert system.mask(denied=["item007"]).dense(1).sum() == items - 1

    with LargestResult() as largest:
        assert system.recommend(["item001"], allowed=stock) == expected

    assert largest.numel < items <= first.numel


def test_a_mask_that_allows_removed_items_is_narrowed_once():
    items = 20_000
    catalog = toy_catalog(items, (64, 63, 62), append_size=8).without_items(["item019"])
    system = toy_recommender(catalog, popularity=np.arange(items))
    mask = CatalogMask(items, torch.arange(items) > 16)
    expected = system.recommend(["item001"], allowed=mask)

    with LargestResult() as largest:
        assert system.recommend(["item001"], allowed=mask) == expected

    assert largest.numel < items and "item019" not in ids(expected)


@pytest.mark.parametrize("is_of_ids", [True, False])
def test_a_snapshot_keeps_no_mask_of_its_callers_alive(is_of_ids):
    system = toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3)).without_items(["item019"]))
    mask = system.mask(denied=["item007"]) if is_of_ids else CatalogMask(TOY_ITEMS, torch.arange(TOY_ITEMS) > 16)
    system.recommend(["item001"], allowed=mask)
    gone = weakref.ref(mask)

    del mask
    gc.collect()

    assert gone() is None


def test_items_are_put_in_order_of_popularity_once(mine):
    order = mine.snapshot.popularity_order

    answers = mine.recommend([[], []], top_k=2, denied=["item018"], on_empty="popularity")

    assert [ids(answer) for answer in answers] == [["item019", "item017"]] * 2
    assert mine.snapshot.popularity_order is order


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
        ({"histories": [1.0, 2.0]}, r"got 1.0 \(float\) at position 0 of the history; ids are strings, and a float"),
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
