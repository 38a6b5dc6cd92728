"""Fused recommenders: the ranker, catalog changes that reach all members, files."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from cost_hf.evaluation.rank_fusion import fuse_lists
from cost_hf.generators.pretrained import BaseModel
from cost_hf.methods.fusion.recommender import FusionRanker, FusionRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import update_manifest
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from tests.evaluation.stand_ins import FixedOrder, pad
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.recommenders.toys import TOY_ITEMS, TOY_TEXTS, toy_recommender, toy_text_recommender
from tests.runs import child_environment


class TakesUsers(FixedOrder):
    def rank(self, histories, *, top_k, mask=None, user_ids=None):
        self.users = user_ids
        return super().rank(histories, top_k=top_k, mask=mask)


class NeverCalled:
    def rank(self, histories, *, top_k, mask=None):
        raise AssertionError("a member of weight 0 was called")


def test_a_fusion_ranker_fuses_the_lists_of_its_members():
    parts = [FixedOrder([1, 2, 3]), FixedOrder([4, 3, 5])]

    ranking = FusionRanker(parts, [0.5, 0.5]).rank(torch.zeros((2, 1), dtype=torch.int64), top_k=3)

    assert ranking.items.tolist() == [[3, 1, 4]] * 2
    assert ranking.scores[0].tolist() == pytest.approx([0.5 / 13 + 0.5 / 12, 0.5 / 11, 0.5 / 11])


def test_a_fusion_ranker_hands_the_mask_to_its_members():
    mask = CatalogMask(4, torch.tensor([True, True, True, False]))

    ranking = FusionRanker([FixedOrder([3, 1, 2]), FixedOrder([3, 2])], [0.5, 0.5]).rank(
        torch.zeros((1, 1), dtype=torch.int64), top_k=3, mask=mask
    )

    assert ranking.items.tolist() == [[2, 1, -1]]
    assert ranking.scores[0, 2] == -torch.inf


def test_a_fusion_ranker_gives_users_to_members_that_take_them():
    part = TakesUsers([1, 2])

    FusionRanker([part, FixedOrder([2])], [0.5, 0.5]).rank(
        torch.zeros((1, 1), dtype=torch.int64), top_k=1, user_ids=["ann"]
    )

    assert part.users == ["ann"]


def test_members_without_weight_are_never_called():
    ranker = FusionRanker([NeverCalled(), FixedOrder([2, 1])], [0, 1])

    assert ranker.rank(torch.zeros((1, 1), dtype=torch.int64), top_k=2).items.tolist() == [[2, 1]]


def test_members_list_more_than_the_wanted_length():
    # 3 is in third place of both lists, and first of all
    parts = [FixedOrder([1, 2, 3]), FixedOrder([4, 5, 3])]
    histories = torch.zeros((1, 1), dtype=torch.int64)

    assert FusionRanker(parts, [0.5, 0.5]).rank(histories, top_k=1).items.tolist() == [[3]]
    assert FusionRanker(parts, [0.5, 0.5], depth=1).rank(histories, top_k=1).items.tolist() == [[1]]


HISTORIES = torch.from_numpy(pad([[3], [4, 17, 9], [0, 1, 2, 3, 4]]))


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.mark.parametrize("exclude", [False, True])
def test_its_lists_are_the_fused_lists_of_the_members(exclude):
    system = toy_fusion()
    mask = CatalogMask(TOY_ITEMS, denied=HISTORIES) if exclude else None
    parts = [toy_text_recommender(), toy_counting("markov"), toy_counting("text_last")]
    lists = [part.ranker_for(50).rank(HISTORIES, top_k=50, mask=mask).items.numpy() for part in parts]

    ranking = system.ranker_for(10).rank(HISTORIES, top_k=10, mask=mask)

    assert ranking.items.tolist() == fuse_lists(lists, [0.5, 0.2, 0.3], top_k=10).tolist()


def test_masks_and_seen_items_reach_every_member():
    system = toy_fusion()
    allowed = ["item001", "item005", "item003"]

    assert set(ids(system.recommend(["item003"], top_k=20, allowed=allowed))) == {"item001", "item005"}
    assert "item003" not in ids(system.recommend(["item003"], top_k=20))
    assert system.recommend(["item003"], top_k=1)[0].fields["title"] in TOY_TEXTS


def test_a_member_without_weight_is_left_out():
    members = {"markov": toy_counting("markov"), "texts": toy_counting("text_last")}

    system = FusionRecommender.combine(members, [1.0, 0.0])

    assert list(system.members) == ["markov"] and not system.needs_vectors
    assert ids(system.recommend(["item003"], top_k=20)) == ids(members["markov"].recommend(["item003"], top_k=20))


def test_the_members_that_are_combined_stay_as_they_are():
    member = toy_counting("text_last")

    FusionRecommender.combine({"texts": member, "markov": toy_counting("markov")}, [0.5, 0.5]).remove_items(["item003"])

    assert member.catalog.titles is not None and not member.catalog.removed.any()


def test_it_returns_whole_from_disk(tmp_path):
    system = toy_fusion()
    system.remove_items(["item005"])
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path, device="cpu")

    assert type(loaded) is FusionRecommender
    assert loaded.recommend(["item003", "item007"], top_k=20) == system.recommend(["item003", "item007"], top_k=20)
    assert loaded.catalog.version == system.catalog.version and loaded.catalog.titles == tuple(TOY_TEXTS)
    assert loaded.weights == (0.5, 0.2, 0.3)
    assert loaded.num_parameters == toy_text_recommender().num_parameters
    assert loaded.network is None and "FusionRecommender(fusion, 20 items, 1 of them removed" in repr(loaded)


def test_a_new_process_finds_every_kind_of_member(tmp_path):
    system = toy_fusion()
    system.save_pretrained(tmp_path)
    program = (
        "import sys; from cost_hf import Recommender; loaded = Recommender.from_pretrained(sys.argv[1]); "
        "print([answer.item_id for answer in loaded.recommend(['item003'], top_k=3)])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=child_environment(), capture_output=True, text=True
    )

    assert done.stdout.strip() == str(ids(system.recommend(["item003"], top_k=3))), done.stderr


def test_every_member_is_a_recommender_of_its_own(tmp_path):
    toy_fusion().save_pretrained(tmp_path)

    member = Recommender.from_pretrained(tmp_path / "members" / "markov")

    assert ids(member.recommend(["item003"])) == ids(toy_counting("markov").recommend(["item003"]))
    assert member.catalog.titles is None and not list(tmp_path.rglob("members/*/encoder"))


def test_changes_of_the_catalog_reach_all_members(tmp_path):
    system = toy_fusion()
    before = system.recommend(["item003"], top_k=20)
    system.save_pretrained(tmp_path)
    system.add_items(["new", "also"], ["football in oslo", TOY_TEXTS[3]])
    system.remove_items(["item001"])
    system.update_items(["item004"], [TOY_TEXTS[11]])
    system.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    answers = loaded.recommend(["item003"], top_k=22)

    assert answers == system.recommend(["item003"], top_k=22)
    assert {"new", "also"} < set(ids(answers)) and "item001" not in ids(answers)
    assert loaded.catalog.titles[4] == TOY_TEXTS[11]
    assert [change.action for change in loaded.journal] == ["add", "remove", "update"]
    for part in loaded.catalog.members.values():
        assert part.item_ids == loaded.catalog.item_ids and part.removed.tolist() == loaded.catalog.removed.tolist()
    assert np.array_equal(loaded.catalog.vectors[4], loaded.catalog.vectors[11])
    for _ in range(3):
        loaded.rollback()
    assert loaded.recommend(["item003"], top_k=20) == before
    loaded.save_catalog(tmp_path)
    assert Recommender.from_pretrained(tmp_path).recommend(["item003"], top_k=20) == before


def test_other_titles_leave_the_members_as_they_are():
    system = toy_fusion()
    before = dict(system.catalog.members)

    system.update_items(["item004"], titles=["another title"])

    assert system.catalog.titles[4] == "another title"
    assert dict(system.catalog.members) == before and system.rollback().action == "rollback"
    assert system.catalog.titles[4] == TOY_TEXTS[4]


def test_a_removed_item_returns_in_all_members():
    system = toy_fusion()
    before = system.recommend(["item003"], top_k=20)

    system.remove_items(["item001"])
    system.add_items(["item001"], ["any text"])

    assert system.recommend(["item003"], top_k=20) == before


def test_a_member_that_takes_no_new_items_is_named_and_nothing_changes():
    system = toy_fusion(given=toy_recommender())  # codes from elsewhere
    before = system.catalog

    with pytest.raises(ValueError, match=r"member 'given' of the fusion refuses the change: .*has no quantizer"):
        system.add_items(["new"], ["a text"])
    with pytest.raises(ValueError, match=r"member 'markov' of the fusion refuses the change: markov has no codes"):
        system.add_items(["new"], codes=np.array([[1, 1]]))

    assert system.catalog is before and not system.journal


def test_new_items_come_by_vectors_where_the_encoder_is_missing(tmp_path):
    system = toy_fusion()
    vectors = system.encoder.encode(["football in oslo"])
    system.encoder = None
    system.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    with pytest.raises(ValueError, match="has no text encoder"):
        loaded.add_items(["new"], ["football in oslo"])
    loaded.add_items(["new"], vectors=vectors)

    assert "new" in ids(loaded.recommend(["item003"], top_k=21))


def test_the_catalog_of_the_training_is_kept_beside_the_present_one(tmp_path):
    system = toy_fusion()
    before = system.recommend(["item003"], top_k=20)
    system.add_items(["new"], ["football in oslo"])
    system.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)

    assert loaded.with_catalog(loaded.fitted_catalog(TOY_TEXTS)).recommend(["item003"], top_k=20) == before


def test_only_members_over_the_same_items_are_fused():
    other = toy_counting("markov")
    other.remove_items(["item003"])

    with pytest.raises(ValueError, match=r"catalog of member 'other' holds other items than those of the fusion"):
        toy_fusion(other=other)


def test_a_member_of_another_fusion_is_refused(tmp_path):
    toy_fusion().save_pretrained(tmp_path)
    update_manifest(tmp_path, weights=[0.4, 0.2, 0.4])

    with pytest.raises(ValueError, match=r"the list of members in .* has digest \w+, recommender.json asks for"):
        Recommender.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["catalog", "members/sids/model.safetensors", "members/markov/recommender.json"])
def test_a_damaged_part_is_refused(tmp_path, name):
    toy_fusion().save_pretrained(tmp_path)
    path = next(tmp_path.glob("catalog-*.safetensors")) if name == "catalog" else tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(ValueError, match=r"sha256|digest"):
        Recommender.from_pretrained(tmp_path)


def test_a_fusion_takes_the_place_of_another_recommender_and_leaves_nothing(tmp_path):
    toy_fusion().save_pretrained(tmp_path)
    toy_counting("markov").save_pretrained(tmp_path)

    assert not (tmp_path / "members").exists()
    toy_fusion().save_pretrained(tmp_path)
    assert type(Recommender.from_pretrained(tmp_path)) is FusionRecommender


def test_what_is_published_and_what_a_new_item_may_bring(tmp_path):
    system = toy_fusion()

    assert system.carries_text_vectors and system.new_item_inputs == ("texts", "vectors")
    copy = system.without_titles()
    assert copy.catalog.titles is None and ids(copy.recommend(["item003"])) == ids(system.recommend(["item003"]))
    system.save_pretrained(tmp_path)
    paths = [path for path in (tmp_path / "members").rglob("*") if path.is_file() and path.name != ".lock"]
    own = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert own and all(re.fullmatch(FusionRecommender.published_files, name) for name in own)


def test_an_adapter_of_a_member_is_known_and_merged():
    member = toy_text_recommender()
    member.base = BaseModel("org/base", None, "digest", 0)
    system = FusionRecommender.combine({"sids": member, "markov": toy_counting("markov")}, [0.5, 0.5])
    merged = []
    system.members["sids"].merge = lambda: merged.append("sids")

    assert system.base == member.base
    assert system.merge().base is None and merged == ["sids"]
