"""Fused recommenders: weights, kinds and files; what all hybrids share is in `tests/recommenders/test_hybrid.py`."""

import numpy as np
import pytest
import torch

from cost_hf.methods.fusion.recommender import FusionRecommender
from cost_hf.methods.fusion.weights import part_values, weighted_sum
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import update_manifest
from tests.evaluation.stand_ins import pad
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion, toy_parts
from tests.near_ties import assert_same_rows

HISTORIES = torch.from_numpy(pad([[3], [4, 17, 9], [0, 1, 2, 3, 4]]))


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def test_its_lists_are_the_fused_lists_of_the_parts():
    system = toy_fusion()
    found = system.ranker_for(10).candidates(HISTORIES, top_k=10)
    items, scores = found.ranked(weighted_sum(part_values("reciprocal_rank", found), [0.5, 0.2, 0.3]), 10)

    ranking = system.ranker_for(10).rank(HISTORIES, top_k=10)

    assert_same_rows((ranking.items, ranking.scores), (torch.from_numpy(items), torch.from_numpy(scores)))


def test_kinds_order_candidates_differently():
    lists = {kind: ids(toy_fusion(kind=kind).recommend(["item003"])) for kind in ("reciprocal_rank", "score_sum")}

    assert lists["reciprocal_rank"] != lists["score_sum"]


def test_a_part_without_weight_is_left_out():
    parts = {"markov": toy_counting("markov"), "texts": toy_counting("text_last")}

    system = FusionRecommender.combine(parts, [1.0, 0.0])

    assert list(system.parts) == ["markov"] and not system.needs_vectors
    assert ids(system.recommend(["item003"], top_k=20)) == ids(parts["markov"].recommend(["item003"], top_k=20))


def test_effects_are_named_after_the_parts():
    answer = toy_fusion().recommend(["item003"], top_k=1, explain=True)[0]

    found = answer.fields["explanation"]
    assert found["base_value"] == 0.0 and set(found["effects"]) == {"sids", "markov", "texts"}
    assert found["effects"]["markov"] == pytest.approx(0.2 / (10 + found["parts"]["markov"]))


def test_weights_and_kind_return_from_disk(tmp_path):
    toy_fusion(kind="score_sum").save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is FusionRecommender
    assert loaded.weights == (0.5, 0.2, 0.3) and loaded.fusion == "score_sum"
    assert "FusionRecommender(fusion, 20 items, 4,784 weights" in repr(loaded)


@pytest.mark.parametrize("changes", [{"weights": [0.4, 0.2, 0.4]}, {"fusion": "score_sum"}])
def test_weights_of_another_fusion_are_refused(tmp_path, changes):
    toy_fusion().save_pretrained(tmp_path)
    update_manifest(tmp_path, **changes)

    with pytest.raises(ValueError, match=r"the list of parts in .* has digest \w+, recommender.json asks for"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0]}, "does not fit its parts: weights must be one number per part, 3, .*got"),
        ({"weights": [1.0, -1.0, 1.0]}, "does not fit its parts: weights must be"),
        ({"weights": "equal"}, "weights='equal', expected list"),
        ({"fusion": "median"}, "the kind of fusion must be one of reciprocal_rank, score_sum, got 'median'"),
        ({"fusion": 3}, "fusion=3, expected str"),
        ({"parts": []}, "holds the catalogs of"),
    ],
)
def test_entries_that_no_fusion_has_are_refused(tmp_path, changes, message):
    toy_fusion().save_pretrained(tmp_path)
    update_manifest(tmp_path, **changes)

    with pytest.raises(ValueError, match=message):
        Recommender.from_pretrained(tmp_path)


def test_weights_are_checked_before_anything_is_combined():
    with pytest.raises(ValueError, match="one number per part, 3"):
        FusionRecommender.combine(toy_parts(), [1.0, np.nan, 1.0])
