"""A recommender in memory takes the catalog that its directory holds now, as if all of it had been loaded again."""

import shutil

import pytest

from cost_hf.files import DamagedFileError
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import differ_in_catalog_alone, read_manifest
from tests.near_ties import assert_same_list
from tests.recommenders.saved import KINDS
from tests.recommenders.toys import TOY_IDS

HISTORIES = [[TOY_IDS[1], TOY_IDS[4]], [TOY_IDS[7]], []]


def answers(recommender: Recommender) -> list[list[tuple[str, float]]]:
    lists = recommender.recommend(HISTORIES, top_k=4, on_empty="popularity")
    return [[(answer.item_id, answer.score) for answer in own] for own in lists]


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_catalog_is_that_of_a_whole_load(kind, tmp_path):
    KINDS[kind]().save_pretrained(tmp_path)
    writer = Recommender.from_pretrained(tmp_path)
    held = Recommender.from_pretrained(tmp_path)
    before = read_manifest(tmp_path)
    unchanged = answers(held)
    changes = [
        lambda: writer.add_columns(TOY_IDS[:3], {"price": [1.0, 2.0, 3.0]}),
        lambda: writer.remove_items([TOY_IDS[2], TOY_IDS[9]]),
        lambda: writer.rollback(),
    ]
    for change in changes:
        change()
        writer.save_catalog(tmp_path)
        manifest = read_manifest(tmp_path)

        assert differ_in_catalog_alone(manifest, before) and manifest != before
        found = held.with_saved_catalog(tmp_path, manifest)

        whole = Recommender.from_pretrained(tmp_path)
        assert (found.catalog.version, found.journal) == (whole.catalog.version, whole.journal)
        assert [version.stem for version in found.versions] == [version.stem for version in whole.versions]
        for own, expected in zip(answers(found), answers(whole), strict=True):
            assert_same_list(own, expected)
        assert found.model_digest == whole.model_digest
    assert answers(held) == unchanged and held.journal == ()  # it is another one that has the change
    assert found.rollback().after == writer.rollback().after


def test_a_damaged_catalog_is_refused(tmp_path):
    KINDS["causal"]().save_pretrained(tmp_path / "here")
    writer = Recommender.from_pretrained(tmp_path / "here")
    held = Recommender.from_pretrained(tmp_path / "here")
    writer.remove_items([TOY_IDS[2]])
    writer.save_catalog(tmp_path / "here")
    manifest = read_manifest(tmp_path / "here")
    for name in (f"{manifest['catalog']}.safetensors", "journal.jsonl"):
        damaged = shutil.copytree(tmp_path / "here", tmp_path / name)
        content = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content[:-3] + b"xxx")

        with pytest.raises(DamagedFileError, match=name):
            held.with_saved_catalog(damaged, manifest)


def test_other_weights_differ_in_more_than_the_catalog(tmp_path):
    recommender = KINDS["causal"]()
    recommender.save_pretrained(tmp_path)
    before = read_manifest(tmp_path)
    for weight in recommender.generator.parameters():
        weight.data += 1
    recommender.save_pretrained(tmp_path)

    assert not differ_in_catalog_alone(read_manifest(tmp_path), before)
