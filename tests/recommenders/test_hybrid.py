"""Hybrids of every kind: lists of parts, masks, catalog changes that reach the parts, explanations, files."""

import copy
import json
import pickle
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.files import read_json, read_tensor_metadata
from cost_hf.generators.pretrained import BaseModel
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders import rankers
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.hybrid import (
    DEPTH,
    CandidateLists,
    HybridRanker,
    HybridRecommender,
    PartRanker,
    bare_parts,
    text_vectors_of,
)
from cost_hf.recommenders.hybrid_catalog import HybridCatalog
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.recommenders.repository import renew_files, update_manifest
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_list import ItemList
from tests.evaluation.stand_ins import FixedOrder
from tests.methods.cobra.cobra_toys import text_recommender as toy_cobra
from tests.methods.counting.counting_toys import toy_counting, toy_encoder
from tests.methods.fusion.fusion_toys import toy_fusion, toy_parts
from tests.methods.ranker.ranker_toys import ranker_of, toy_ranker
from tests.methods.sasrec.sasrec_toys import tiny_model
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, TOY_TEXTS, toy_recommender, toy_text_recommender
from tests.runs import child_environment

KINDS = {
    "fusion": toy_fusion,
    "score_sum": lambda **others: toy_fusion(kind="score_sum", **others),
    "ranker": toy_ranker,
}
HISTORIES = [["item003"], ["item004", "item017", "item009"], [f"item00{row}" for row in range(5)], ["item019"] * 2]


@pytest.fixture(params=list(KINDS))
def build(request):
    return KINDS[request.param]


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def toy_dense(inputs: str) -> SasRecRecommender:
    """Return a dense recommender over the toy items: of item ids, texts, or both."""
    vectors = None if inputs == "ids" else toy_encoder().encode(TOY_TEXTS)
    encoder = None if inputs == "ids" else toy_encoder()
    catalog = ItemList(tuple(TOY_IDS), np.zeros(TOY_ITEMS, dtype=bool), tuple(TOY_TEXTS), vectors)
    width = {} if vectors is None else {"text_dim": vectors.shape[1]}
    model = tiny_model(inputs=inputs, num_items=TOY_ITEMS, **width)
    return SasRecRecommender(model, catalog, popularity=TOY_CLICKS, encoder=encoder)


# --- lists of parts ---


class FixedScores:
    def __init__(self, scores):
        self.table = np.array([scores], dtype=np.float32)

    def scores(self, histories):
        return np.repeat(self.table, len(histories), axis=0)


def scoring(scores) -> ScoringRanker:
    names = [f"i{row}" for row in range(len(scores))]
    return ScoringRanker(FixedScores(scores), popularity=np.zeros(len(scores)), item_ids=names)


class Asked(FixedOrder):
    """Remembers what it was asked."""

    def rank(self, histories, *, top_k, mask=None, user_ids=None):
        self.histories = histories.tolist()
        self.users = user_ids
        return super().rank(histories, top_k=top_k, mask=mask)


def lists_of(*rankers, num_items=8, depth=DEPTH, known=None) -> CandidateLists:
    parts = {f"part{n}": PartRanker(ranker, known or num_items) for n, ranker in enumerate(rankers)}
    return CandidateLists(parts, num_items=num_items, depth=depth)


def one(*rows) -> torch.Tensor:
    return torch.tensor([list(rows)])


def test_candidates_are_the_items_of_all_lists():
    found = lists_of(FixedOrder([1, 2, 3]), FixedOrder([4, 3])).candidates(one(0), top_k=3)

    assert found.items.tolist() == [[1, 4, 2, 3]]
    np.testing.assert_array_equal(found.ranks[0], [[1, np.nan], [np.nan, 1], [2, np.nan], [3, 2]])


def test_parts_list_more_than_the_wanted_length_and_the_depth_is_no_limit():
    parts = FixedOrder(range(8)), FixedOrder([7, 6, 5])

    assert lists_of(*parts, depth=2).candidates(one(0), top_k=1).items.tolist() == [[0, 7, 1, 6]]
    assert lists_of(*parts, depth=2).candidates(one(0), top_k=100).items.shape == (1, 8)


def test_a_part_that_scores_the_catalog_scores_every_candidate():
    found = lists_of(FixedOrder([5, 2]), scoring([0, 1, 2, 3, 4, 5, -np.inf, 7]), depth=1).candidates(one(0), top_k=1)

    assert found.items.tolist() == [[5, 7]]
    np.testing.assert_array_equal(found.scores[0], [[0, 5], [np.nan, 7]])
    assert np.isnan(found.ranks[0, 0, 1])


def test_items_outside_the_mask_are_in_no_list():
    mask = CatalogMask(8, torch.tensor([True, True, True, False, True, True, True, False]))
    found = lists_of(FixedOrder([3, 1, 2]), scoring(range(8))).candidates(one(0), top_k=2, mask=mask)

    assert set(found.items[0].tolist()) == {0, 1, 2, 4, 5, 6}


def test_users_are_named_to_parts_that_take_them_alone():
    part = Asked([1, 2])

    lists_of(part, FixedOrder([2])).candidates(one(0), top_k=1, user_ids=["ann"])

    assert part.users == ["ann"]


def test_a_part_reads_a_history_without_the_items_that_it_does_not_know():
    part = Asked([1])
    histories = torch.tensor([[6, 1, 7, 2], [3, -1, -1, -1], [7, 6, -1, -1], [-1, -1, -1, -1]])

    found = lists_of(part, known=6).candidates(histories, top_k=1, user_ids=["a", "b", "c", "d"])

    # the third history holds nothing that the part knows; the last one is empty for everybody
    assert part.histories == [[1, 2, -1, -1], [3, -1, -1, -1], [-1, -1, -1, -1]] and part.users == ["a", "b", "d"]
    assert found.items.tolist() == [[1], [1], [-1], [1]]


def test_a_part_that_knows_nothing_of_any_history_is_not_asked():
    part = Asked([1])

    found = lists_of(part, known=6).candidates(one(6, 7), top_k=3)

    assert not hasattr(part, "histories") and found.items.shape == (1, 0)


def test_scores_of_a_part_stay_with_their_requests():
    histories = torch.tensor([[6], [2], [7]])

    found = lists_of(scoring(range(6)), known=6).candidates(histories, top_k=2)

    assert found.items[:, 0].tolist() == [-1, 5, -1]
    np.testing.assert_array_equal(found.scores[1, :, 0], [5, 4, 3, 2, 1, 0])
    assert np.isnan(found.scores[[0, 2]]).all()


def test_a_mask_of_every_request_stays_with_its_requests():
    histories = torch.tensor([[6], [2], [7], [0]])
    mask = CatalogMask(8, denied=torch.tensor([[0], [5], [0], [4]]))

    found = lists_of(scoring(range(6)), known=6).candidates(histories, top_k=2, mask=mask)

    assert [sorted(row) for row in found.items[[1, 3]].tolist()] == [[-1, 0, 1, 2, 3, 4][1:], [0, 1, 2, 3, 5]]


def test_a_hybrid_ranks_candidates_by_its_scores_and_equal_ones_by_their_lists():
    lists = {"a": PartRanker(FixedOrder([1, 2, 3]), 8), "b": PartRanker(FixedOrder([4, 3]), 8)}

    ranking = HybridRanker(lists, lambda rows, found: (found.items == 3) * 2.0, num_items=8).rank(one(0), top_k=5)

    assert ranking.items.tolist() == [[3, 1, 4, 2, -1]]
    assert ranking.scores.tolist() == [[2, 0, 0, 0, -torch.inf]]


# --- recommendations ---


def test_masks_and_seen_items_reach_every_part(build):
    system = build()
    allowed = ["item001", "item005", "item003"]

    assert set(ids(system.recommend(["item003"], top_k=20, allowed=allowed))) == {"item001", "item005"}
    assert "item003" not in ids(system.recommend(["item003"], top_k=20))
    assert "item003" in ids(system.recommend(["item003"], top_k=20, exclude_seen=False))
    assert "item006" not in ids(system.recommend(["item003"], top_k=20, denied=["item006"]))
    assert system.recommend(["item003"], top_k=1)[0].fields["title"] in TOY_TEXTS


def test_a_list_is_as_long_as_the_catalog_allows(build):
    assert len(set(ids(build().recommend(["item003"], top_k=500)))) == TOY_ITEMS - 1


def test_an_answer_does_not_depend_on_the_batch_that_it_is_in(build):
    system = build()
    together = system.recommend(HISTORIES, top_k=20, explain=True)

    for history, answers in zip(HISTORIES, together, strict=True):
        alone = system.recommend(history, top_k=20, explain=True)
        assert_same_list(alone, answers)
        ranks = [{entry.item_id: entry.fields["explanation"]["parts"] for entry in found} for found in (alone, answers)]
        assert ranks[0] == ranks[1]


def test_a_longer_list_begins_with_the_shorter_one(build):
    system = build()

    assert ids(system.recommend(["item003"], top_k=15))[:4] == ids(system.recommend(["item003"], top_k=4))


def test_explanations_name_the_lists_and_add_up_to_the_score(build):
    system = build()
    mask = CatalogMask(TOY_ITEMS, denied=torch.tensor([[3]]))
    rankers = {name: part.ranker_for(DEPTH) for name, part in system.parts.items()}
    lists = {name: part.rank(one(3), top_k=DEPTH, mask=mask).items[0].tolist() for name, part in rankers.items()}

    for answer in system.recommend(["item003"], top_k=20, explain=True):
        found = answer.fields["explanation"]
        row = TOY_IDS.index(answer.item_id)
        assert found["among"] == "all items"
        places = {name: own.index(row) + 1 for name, own in lists.items() if row in own}
        assert found["parts"].keys() == places.keys()
        assert found["parts"].get("sids") == places.get("sids")  # the others share ranks where their scores are equal
        assert found["base_value"] + sum(found["effects"].values()) == pytest.approx(answer.score, abs=1e-9)
        sizes = [abs(value) for value in found["effects"].values()]
        assert sizes == sorted(sizes, reverse=True) and any(sizes)


def test_reserved_cold_items_are_explained_among_cold_items(build):
    system = build()
    system.add_items(["new", "also"], ["football in oslo", "markets in lima"])

    answers = system.recommend(["item003"], top_k=4, cold_share=0.5, explain=True)

    cold = [answer for answer in answers if answer.item_id in ("item000", "new", "also")]
    assert len(cold) >= 2 and len({answer.item_id for answer in answers}) == 4
    for answer in answers:
        found = answer.fields["explanation"]
        assert found["parts"] and found["among"] in ("all items", "cold items")
        assert found["base_value"] + sum(found["effects"].values()) == pytest.approx(answer.score, abs=1e-6)


def test_an_empty_history_is_answered_by_popularity_without_an_explanation(build):
    answers = build().recommend([["item003"], []], top_k=2, on_empty="popularity", explain=True)

    assert "explanation" in answers[0][0].fields
    assert answers[1][0].item_id == "item019" and set(answers[1][0].fields) == {"title", "source"}


def test_an_empty_history_of_an_evaluation_is_ranked_as_its_parts_rank_it():
    system = ranker_of({name: toy_counting(name) for name in ("markov", "text_last")})

    ranking = system.ranker_for(5).rank(torch.full((2, 0), -1), top_k=5)
    padded = system.ranker_for(5).rank(torch.full((2, 3), -1), top_k=5)

    assert (ranking.items >= 0).all() and ranking.items.tolist() == padded.items.tolist()


def test_a_recommender_that_can_not_explain_refuses():
    with pytest.raises(ValueError, match="of kind counting can't explain its answers: it has neither"):
        toy_counting("markov").recommend(["item003"], explain=True)


def test_a_part_with_user_tokens_makes_the_hybrid_ask_for_users(build):
    system = build()
    system.needs_user_ids = True

    with pytest.raises(ValueError, match="needs one user id per history, got 0 for 1"):
        system.recommend(["item003"])
    assert system.recommend(["item003"], user_ids=["ann"], top_k=2)


# --- copies, devices, adapters ---


def test_copies_answer_alike_and_change_alone(build):
    system = build()
    expected = system.recommend(["item003"], top_k=20)

    for copied in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert copied.recommend(["item003"], top_k=20) == expected
        copied.remove_items(["item001"])
    assert system.recommend(["item003"], top_k=20) == expected
    bare = system.without_metadata()
    assert bare.catalog.titles is None and ids(bare.recommend(["item003"], top_k=20)) == ids(expected)


def test_a_hybrid_moves_with_its_parts(build):
    system = build()
    expected = system.recommend(["item003"], top_k=20)

    assert system.to("cpu") is system and system.recommend(["item003"], top_k=20) == expected
    with pytest.raises(ValueError, match="device must be one that torch has here"):
        system.to("abacus")


def test_an_adapter_of_a_part_is_known_and_merged(build):
    part = toy_text_recommender()
    part.base = BaseModel("org/base", None, "digest", 0)
    system = build(adapted=part)
    merged = []
    system.parts["adapted"].merge = lambda: merged.append("adapted")

    assert system.base == part.base
    assert system.merge().base is None and merged == ["adapted"]


def test_readers_see_the_catalog_before_a_change_or_after_it(build):
    system = build()
    batch = [f"batch{number}" for number in range(4)]
    texts = [f"football in oslo {number}" for number in range(4)]
    ends, faults = threading.Event(), []

    def read() -> None:
        while not ends.is_set():
            try:
                answers = ids(system.recommend(["item001"], top_k=TOY_ITEMS + 4, exclude_seen=False, explain=True))
                present = sum(item in answers for item in batch)
                if present not in (0, 4) or len(set(answers)) != TOY_ITEMS + present:
                    faults.append(answers)
            except Exception as error:  # whatever a reader meets is a fault
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(6):
        system.add_items(batch, texts)
        system.remove_items(batch)
        system.rollback()
        system.rollback()
    ends.set()
    for reader in readers:
        reader.join()

    assert faults == []


# --- changes of the catalog ---


def test_changes_of_the_catalog_reach_all_parts(build, tmp_path):
    system = build()
    before = system.recommend(["item003"], top_k=20)
    system.save_pretrained(tmp_path)
    system.add_items(["new", "also"], ["football in oslo", TOY_TEXTS[3]])
    system.remove_items(["item001"])
    system.update_items(["item004"], [TOY_TEXTS[11]])
    system.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    answers = loaded.recommend(["item003"], top_k=22)

    assert_same_list(answers, system.recommend(["item003"], top_k=22))
    assert {"new", "also"} < set(ids(answers)) and "item001" not in ids(answers)
    assert loaded.catalog.titles[4] == TOY_TEXTS[11]
    assert [change.action for change in loaded.journal] == ["add", "remove", "update"]
    for part in loaded.catalog.parts.values():
        assert part.item_ids == loaded.catalog.item_ids and part.removed.tolist() == loaded.catalog.removed.tolist()
    vectors = text_vectors_of(loaded.parts, loaded.catalog)
    assert np.array_equal(vectors[4], vectors[11])
    for _ in range(3):
        loaded.rollback()
    assert_same_list(loaded.recommend(["item003"], top_k=20), before)
    loaded.save_catalog(tmp_path)
    assert_same_list(Recommender.from_pretrained(tmp_path).recommend(["item003"], top_k=20), before)


def test_other_titles_leave_the_parts_as_they_are(build):
    system = build()
    before = dict(system.catalog.parts)

    system.update_items(["item004"], titles=["another title"])

    assert system.catalog.titles[4] == "another title"
    assert dict(system.catalog.parts) == before and system.rollback().action == "rollback"
    assert system.catalog.titles[4] == TOY_TEXTS[4]


def test_a_removed_item_returns_in_all_parts(build):
    system = build()
    before = system.recommend(["item003"], top_k=20)

    system.remove_items(["item001"])
    system.add_items(["item001"], ["any text"])

    assert system.recommend(["item003"], top_k=20) == before


def test_new_items_may_be_part_of_histories(build):
    system = build()
    system.add_items(["new"], ["football in oslo"])

    answers = ids(system.recommend(["new", "item003"], top_k=TOY_ITEMS + 1))

    assert len(answers) == TOY_ITEMS - 1 and "new" not in answers


FIXED = {"foreign": toy_recommender, "dense": lambda: toy_dense("ids"), "both": lambda: toy_dense("both")}


@pytest.mark.parametrize("fixed", list(FIXED))
def test_a_part_that_takes_no_new_items_keeps_its_rows_and_is_named(build, fixed, caplog, tmp_path):
    system = build(fixed=FIXED[fixed]())
    before = ids(system.recommend(["item003"], top_k=20))
    assert system.fixed_parts == ("fixed",)

    system.add_items(["new", "also"], ["football in oslo", "weather in lima"])
    system.remove_items(["item001", "also"])
    system.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    assert "'fixed' of the hybrid take no new items" in caplog.text
    for own in (system, loaded):
        assert {name: len(part) for name, part in own.catalog.parts.items()} == {
            "sids": 22,
            "markov": 22,
            "texts": 22,
            "fixed": 20,
        }
        assert own.catalog.parts["fixed"].removed.tolist() == own.catalog.removed[:20].tolist()
        answers = own.recommend(["item003", "new"], top_k=22, explain=True)
        assert set(ids(answers)) == set(TOY_IDS) - {"item001", "item003"}
        answers = own.recommend(["item003"], top_k=22, explain=True)
        (new,) = [answer for answer in answers if answer.item_id == "new"]
        assert "fixed" not in new.fields["explanation"]["parts"]
        # of this history the part knows no item
        only_new = own.recommend(["new"], top_k=22, explain=True)
        assert set(ids(only_new)) == set(TOY_IDS) - {"item001"}
        assert not any("fixed" in answer.fields["explanation"]["parts"] for answer in only_new)
    assert_same_list(system.recommend(["new"], top_k=5), loaded.recommend(["new"], top_k=5))
    system.rollback()
    system.rollback()
    assert ids(system.recommend(["item003"], top_k=20)) == before


def test_where_no_part_takes_new_items_the_hybrid_takes_none():
    parts = {"foreign": toy_recommender(), "dense": toy_dense("ids")}
    system = ranker_of(parts)

    assert system.new_item_inputs == ()
    with pytest.raises(ValueError, match="no part takes new items: foreign, dense; train a hybrid with a part that"):
        system.add_items(["new"], ["a text"])
    assert not system.journal and system.remove_items(["item003"]).item_ids == ("item003",)


def test_vectors_that_only_a_fixed_part_reads_stay_known():
    """An item that came later has no vector: features of its text are empty, and the old vectors are still there."""
    parts = {"both": toy_dense("both"), "markov": toy_counting("markov")}
    system = ranker_of(parts)
    before = ids(system.recommend(["item003"], top_k=20))
    assert not system.needs_vectors

    system.add_items(["new"], ["football in oslo"])

    assert len(text_vectors_of(system.parts, system.catalog)) == TOY_ITEMS and system.carries_text_vectors
    assert set(ids(system.recommend(["item003", "new"], top_k=21))) == set(before)
    assert "new" in ids(system.recommend(["item003"], top_k=21))
    assert system.update_items(["item004", "new"], [TOY_TEXTS[11], "weather in lima"]).action == "update"
    vectors = text_vectors_of(system.parts, system.catalog)
    assert np.array_equal(vectors[4], vectors[11])


def test_words_that_a_part_reads_are_no_text_vectors():
    words = toy_cobra("light")
    system = ranker_of({"words": words, "texts": toy_counting("text_last")})
    alone = ranker_of({"words": words, "markov": toy_counting("markov")})

    assert np.array_equal(text_vectors_of(system.parts, system.catalog), toy_encoder().encode(TOY_TEXTS))
    assert text_vectors_of(alone.parts, alone.catalog) is None and "cosine_last" not in alone.features
    assert system.carries_text_vectors and alone.carries_text_vectors


def test_a_change_that_a_part_can_not_take_names_it_and_changes_nothing(build):
    system = build()
    before = system.catalog
    many = [f"new{number}" for number in range(200)]

    with pytest.raises(ValueError, match=r"part 'sids' of the hybrid refuses the change: "):
        system.add_items(many, [TOY_TEXTS[0]] * 200)
    with pytest.raises(ValueError, match="a hybrid takes new items by texts or vectors, which all"):
        system.add_items(["new"], codes=np.array([[1, 1]]))

    assert system.catalog is before and not system.journal


def test_new_items_come_by_vectors_where_the_encoder_is_missing(build, tmp_path):
    system = build()
    vectors = system.encoder.encode(["football in oslo"])
    system.encoder = None
    system.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    assert loaded.new_item_inputs == ("vectors",)
    with pytest.raises(ValueError, match="has no text encoder"):
        loaded.add_items(["new"], ["football in oslo"])
    with pytest.raises(ValueError, match=r"part 'texts' of the hybrid refuses the change: .*has no text encoder"):
        loaded.update_items(["item003"], ["football in oslo"])
    loaded.add_items(["new"], vectors=vectors)

    assert "new" in ids(loaded.recommend(["item003"], top_k=21))


def test_the_catalog_of_the_training_is_known_beside_the_present_one(build, tmp_path):
    system = build()
    before = system.recommend(["item003"], top_k=20)
    system.add_items(["new"], ["football in oslo"])
    system.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    fitted = loaded.with_catalog(loaded.fitted_catalog(loaded.catalog))
    assert_same_list(fitted.recommend(["item003"], top_k=20), before)


# --- what can be combined ---


def test_only_parts_over_the_same_items_are_combined(build):
    other = toy_counting("markov")
    other.remove_items(["item003"])

    with pytest.raises(ValueError, match=r"catalog of part 'other' holds other items than those of the hybrid"):
        build(other=other)


def test_parts_with_different_text_encoders_are_refused(build):
    other = toy_counting("text_mean")
    other.encoder = ItemEncoder.of(LsaEncoder.fit([*TOY_TEXTS, "one more text"], dim=8), VectorOptions())

    with pytest.raises(ValueError, match="have different text encoders; fit all of them in one run"):
        build(other=other)


def test_a_hybrid_is_no_part(build):
    with pytest.raises(ValueError, match="part 'inner' is a hybrid itself; name its parts instead"):
        build(inner=toy_fusion())


def test_the_recommenders_that_are_combined_stay_as_they_are(build):
    parts = toy_parts()

    toy_fusion().remove_items(["item003"])
    ranker_of(parts).remove_items(["item003"])

    for part in parts.values():
        assert part.catalog.titles is not None and not part.catalog.removed.any()
    assert parts["texts"].encoder is not None and parts["markov"].encoder is None


def test_a_catalog_of_other_parts_is_refused():
    inputs = bare_parts(toy_parts())
    system = toy_fusion()

    with pytest.raises(ValueError, match=r"must be those of \['texts', .*\] and 20 items, got \['sids'.* and 3"):
        type(system)(
            dict(reversed(list(inputs["parts"].items()))),
            [1.0, 1.0, 1.0],
            inputs["catalog"],
            fusion="score_sum",
            popularity=inputs["popularity"][:3],
        )
    with pytest.raises(ValueError, match="no part holds all 2 items of the hybrid"):
        HybridCatalog(("a", "b"), np.zeros(2, dtype=bool), parts={"x": ItemList(("a",), np.zeros(1, dtype=bool))})


# --- files ---


def test_it_returns_whole_from_disk(build, tmp_path):
    system = build()
    system.remove_items(["item005"])
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path, device="cpu")

    assert type(loaded) is type(system)
    answers = [own.recommend(["item003", "item007"], top_k=20, explain=True) for own in (loaded, system)]
    assert_same_list(*answers)
    assert all(answer.fields["explanation"]["parts"] for answer in answers[0])
    assert loaded.catalog.version == system.catalog.version and loaded.catalog.titles == tuple(TOY_TEXTS)
    assert loaded.num_parameters == toy_text_recommender().num_parameters
    assert loaded.network is None and "20 items, 1 of them removed" in repr(loaded)


def test_a_new_process_finds_every_kind_of_part(build, tmp_path):
    system = build()
    system.save_pretrained(tmp_path)
    program = (
        "import sys; from cost_hf import Recommender; loaded = Recommender.from_pretrained(sys.argv[1]); "
        "print([answer.item_id for answer in loaded.recommend(['item003'], top_k=3)])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=child_environment(), capture_output=True, text=True
    )

    assert done.stdout.strip() == str(ids(system.recommend(["item003"], top_k=3))), done.stderr


def test_every_part_is_a_recommender_of_its_own(build, tmp_path):
    build().save_pretrained(tmp_path)

    part = Recommender.from_pretrained(tmp_path / "parts" / "markov")

    assert ids(part.recommend(["item003"])) == ids(toy_counting("markov").recommend(["item003"]))
    assert part.catalog.titles is None and not list(tmp_path.rglob("parts/*/encoder"))


def test_what_is_published(build, tmp_path):
    system = build()
    system.save_pretrained(tmp_path)

    assert system.carries_text_vectors and system.new_item_inputs == ("texts", "vectors")
    own = {name for name in read_json(tmp_path / "recommender.json")["files"] if not name.startswith("encoder/")}
    kept = {name for name in own if not re.fullmatch(r"(catalog|columns)-.*|popularity\.safetensors", name)}
    assert kept and all(re.fullmatch(type(system).published_files, name) for name in kept)
    for name in ("parts/x/../../secret.json", "parts/run.sh", "parts/x/notes.pickle"):
        assert not re.fullmatch(type(system).published_files, name)


def test_equal_vectors_of_several_parts_are_stored_once(tmp_path):
    system = toy_fusion(mean=toy_counting("text_mean"))
    system.save_pretrained(tmp_path)

    (path,) = tmp_path.glob("catalog-*.safetensors")
    tensors = load_file(path)

    assert sum(name.endswith("/vectors") for name in tensors) == 1
    loaded = Recommender.from_pretrained(tmp_path)
    for name in ("texts", "mean"):
        assert np.array_equal(loaded.catalog.parts[name].vectors, system.parts[name].catalog.vectors)
    assert all(part.item_ids is loaded.catalog.item_ids for part in loaded.snapshot.catalog.parts.values())


@pytest.mark.parametrize("name", ["catalog", "parts/sids/model.safetensors", "parts/markov/recommender.json"])
def test_a_damaged_part_is_refused(build, tmp_path, name):
    build().save_pretrained(tmp_path)
    path = next(tmp_path.glob("catalog-*.safetensors")) if name == "catalog" else tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(ValueError, match=r"sha256|digest"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"parts": []}, "entry parts of its header must map names to dict"),
        ({"parts": {"sids": {}}}, r"holds the catalogs of \['markov', 'sids', 'texts'\]"),
        ({"equal": {"texts/vectors": 3}}, "entry equal of its header must map names to str"),
        ({"equal": {"texts/vectors": "nowhere"}}, "has no tensor 'nowhere', which its header names"),
        ({"equal": {"other/vectors": "removed"}}, r"holds the catalogs of \['other', 'sids', 'texts'\]"),
        (None, "its header is no JSON"),
    ],
)
def test_a_header_that_no_hybrid_has_is_refused(tmp_path, entries, message):
    toy_fusion().save_pretrained(tmp_path)
    (path,) = tmp_path.glob("catalog-*.safetensors")
    header = json.loads(read_tensor_metadata(path)["hybrid"])
    text = "{" if entries is None else json.dumps(header | entries)
    save_file(load_file(path), path, metadata={"hybrid": text})
    renew_files(tmp_path)

    with pytest.raises(ValueError, match=f"{path.name}.*{message}"):
        Recommender.from_pretrained(tmp_path)


def test_parts_of_other_rows_are_refused(build, tmp_path):
    build().save_pretrained(tmp_path)
    update_manifest(tmp_path, parts=["sids", "texts", "markov"])

    with pytest.raises(ValueError, match=r"catalog-\w+\.safetensors and \.parquet .*hold .*copy the directory again"):
        Recommender.from_pretrained(tmp_path)


def test_a_part_outside_of_the_directory_is_refused(build, tmp_path):
    build().save_pretrained(tmp_path)
    update_manifest(tmp_path, parts=["sids", "..", "texts"])

    with pytest.raises(ValueError, match=r"names '\.\.', expected a plain file name"):
        Recommender.from_pretrained(tmp_path)


def test_it_takes_the_place_of_another_recommender_and_leaves_nothing(build, tmp_path):
    system = build()
    system.save_pretrained(tmp_path)
    toy_counting("markov").save_pretrained(tmp_path)

    names = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert names == {*read_json(tmp_path / "recommender.json")["files"], "recommender.json"}
    system.save_pretrained(tmp_path)
    assert type(Recommender.from_pretrained(tmp_path)) is type(system)


def test_every_hybrid_is_of_the_base_class(build):
    assert isinstance(build(), HybridRecommender) and build().can_explain


def test_items_of_equal_scores_share_the_mean_of_their_ranks():
    class Levels:
        def scores(self, histories):
            return np.array([[3.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])

    ranker = ScoringRanker(Levels(), popularity=np.zeros(7), item_ids=[f"i{number}" for number in range(7)])
    lists = CandidateLists({"levels": PartRanker(ranker, 7)}, num_items=7, depth=4)

    found = lists.candidates(torch.zeros((1, 1), dtype=torch.int64), top_k=4)

    # 1 alone; second and third; the fourth is one of four equals at ranks 4 to 7
    assert found.ranks[0, :, 0].tolist() == [1.0, 2.5, 2.5, 5.5]


@pytest.mark.parametrize("masked", [False, True])
def test_candidates_of_some_requests_at_a_time_are_those_of_all(monkeypatch, masked):
    draw = np.random.default_rng(0)
    table = draw.integers(0, 3, (20, 6)).astype(np.float32)  # many ties

    class ByFirstItem:
        def scores(self, histories):
            return table[histories[:, 0]]

    ranker = ScoringRanker(ByFirstItem(), popularity=np.zeros(6), item_ids=[f"i{number}" for number in range(6)])
    lists = lists_of(ranker, FixedOrder([5, 2]), num_items=20, depth=4, known=6)
    histories = torch.from_numpy(draw.integers(0, 20, (9, 3)))  # some of unknown items alone
    mask = CatalogMask(20, denied=torch.from_numpy(draw.integers(0, 20, (9, 2)))) if masked else None
    whole = lists.candidates(histories, top_k=3, mask=mask)

    monkeypatch.setattr(rankers, "TILE_SCORES", 12)
    parts = lists.candidates(histories, top_k=3, mask=mask)

    for name in ("items", "ranks", "scores"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
