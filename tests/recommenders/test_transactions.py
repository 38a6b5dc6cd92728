"""Several changes of a catalog that take effect together: in memory, in the journal, on disk and for readers."""

import pytest

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import KEPT_VERSIONS
from tests.recommenders.saved import KINDS, answers
from tests.recommenders.toys import toy_text_recommender, with_columns


def change_all(draft: Recommender, name: str) -> None:
    draft.add_items([name], ["football in lima"])
    draft.update_items(["item002"], columns={"price": [99.0]})
    draft.remove_items(["item003"])


def shop() -> Recommender:
    return with_columns(toy_text_recommender())


def test_readers_see_nothing_until_the_end_and_then_everything():
    system = shop()
    before = system.snapshot

    with system.transaction() as draft:
        change_all(draft, "new")
        assert system.snapshot is before and "new" in draft.catalog

    assert "new" in system.catalog and system.catalog.removed[3]
    assert system.catalog.columns.value("price", 2) == 99.0
    assert [change.action for change in system.journal[-3:]] == ["add", "update", "remove"]
    assert {answer.item_id for answer in system.recommend(["item001"], top_k=21, exclude_seen=False)} >= {"new"}


def test_where_one_change_fails_none_is_made():
    system = shop()
    state = (system.snapshot, system.journal, system.versions)

    with pytest.raises(KeyError, match="'gone'"), system.transaction() as draft:
        change_all(draft, "new")
        draft.remove_items(["gone"])

    assert (system.snapshot, system.journal, system.versions) == state


def test_one_rollback_undoes_all_of_it_and_names_its_items():
    system = shop()
    before = system.catalog.version
    with system.transaction() as draft:
        change_all(draft, "new")
    system.remove_items(["item007"])

    assert system.rollback().item_ids == ("item007",)
    assert set(system.rollback().item_ids) == {"new", "item002", "item003"}
    assert system.catalog.version == before


def test_changes_that_cancel_each_other_are_no_step():
    system = shop()
    state = (system.journal, system.versions)

    with system.transaction() as draft:
        draft.remove_items(["item003"])
        draft.add_items(["item003"], ["anything"])

    assert (system.journal, system.versions) == state


def test_as_many_transactions_as_single_changes_are_kept(tmp_path):
    system = shop()
    system.save_pretrained(tmp_path)
    for number in range(KEPT_VERSIONS + 2):
        with system.transaction() as draft:
            draft.add_items([f"new{number}"], ["football in lima"])
            draft.update_items([f"new{number}"], columns={"price": [float(number)]})
        system.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    for _ in range(KEPT_VERSIONS):
        loaded.rollback()
    assert "new1" in loaded.catalog and "new2" not in loaded.catalog
    with pytest.raises(ValueError, match="there is no older catalog"):
        loaded.rollback()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_changes_together(kind, tmp_path):
    system = with_columns(KINDS[kind]())
    system.save_pretrained(tmp_path)
    before = system.catalog.version
    with system.transaction() as draft:
        draft.remove_items(["item003"])
        draft.update_items(["item002"], columns={"price": [99.0]})
    system.save_catalog(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)
    assert loaded.catalog.version == system.catalog.version and loaded.catalog.removed[3]
    assert answers(loaded) == answers(system)
    assert loaded.rollback().after == before
