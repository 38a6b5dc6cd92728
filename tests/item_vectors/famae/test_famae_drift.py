"""Drift of recommenders whose item vectors know ids: what new items lack is no drift, and values are no texts."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.experiments.drift.drift import drift
from cost_hf.experiments.drift.reference import TrainingItems
from cost_hf.experiments.drift.statistics import LETTERS, UNKNOWN_WORDS, WORDS
from cost_hf.recommenders.base import Recommender
from tests.item_vectors.famae.famae_toys import shop_items, untrained_recommender


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift") / "famae"
    untrained_recommender(shop_items()).save_pretrained(folder)
    return folder


def copies() -> pd.DataFrame:
    return shop_items().assign(item_id=lambda items: "copy of " + items["item_id"])


def test_copies_of_the_own_items_are_fine_and_so_are_the_items(directory):
    assert drift(directory, items=copies()).verdict == "fine"
    assert drift(directory, items=shop_items()).verdict == "fine"


def test_the_own_items_are_compared_as_new_ones_would_be(directory):
    recommender = Recommender.from_pretrained(directory)
    encoder = recommender.encoder

    training = TrainingItems.of(directory, recommender)

    np.testing.assert_array_equal(training.vectors, encoder.encode(encoder.render(copies())))
    assert (training.vectors != encoder.encode(encoder.render(shop_items()))).any()


def test_items_with_other_values_are_not(directory):
    strange = copies().assign(brand="unheard of", categories="Garden, Shed")

    assert drift(directory, items=strange).verdict != "fine"


def test_no_statistic_of_texts_is_made_of_ids_and_values(directory):
    found = drift(directory, items=copies())

    assert not {own.name for own in found.statistics} & {WORDS.name, UNKNOWN_WORDS.name, LETTERS.name}
    assert {own.group for own in found.statistics} == {"item vectors", "semantic IDs"}
    assert found.not_applicable["texts"].startswith("items are described by its id and the fields brand")
    assert "texts" in found.text()
