"""New texts and new items where the codes of the trained items were made of collaborative vectors, too."""

import logging

import numpy as np
import pytest
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.experiments.drift.reference import TrainingItems
from cost_hf.methods.prism.recommender import PrismRecommender
from cost_hf.quantizers.base import nearest_levels
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.liger.liger_toys import spread
from tests.methods.prism.prism_toys import toy_prism
from tests.quantizers.cost.toys import item_vectors
from tests.quantizers.prism.prism_toys import COLLABORATIVE, tiny_prism
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_TEXTS, toy_recommender

SIZES = (4, 5)


def parts(**catalog_options):
    """A fitted lsa, its text vectors beside collaborative ones, a quantizer of both, and the catalog of its codes."""
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    clicks = 3 * item_vectors(len(TOY_IDS), COLLABORATIVE, clusters=10, seed=7)
    quantizer = tiny_prism(item_dim=vectors.shape[1], level_sizes=SIZES).eval()
    both = torch.cat([vectors, clicks], 1)
    catalog = Catalog.from_embeddings(TOY_IDS, both, quantizer, titles=TOY_TEXTS, **catalog_options)
    assert (quantizer.encode(vectors) != quantizer.encode(both)).any(1).sum() > 3  # what the tests are about
    encoder = ItemEncoder.of(lsa, VectorOptions())
    return quantizer, encoder, catalog, both.numpy()


def plain() -> GenerativeRecommender:
    quantizer, encoder, catalog, _ = parts()
    return toy_recommender(catalog, quantizer=quantizer, encoder=encoder)


def fused() -> PrismRecommender:
    quantizer, encoder, catalog, both = parts()
    catalog = catalog.with_vectors(TOY_IDS, both)
    isr = {"collaborative_method": "sasrec", "collaborative_dim": COLLABORATIVE}
    levels = [quantizer.level_vectors(level) for level in range(len(SIZES))]
    backbone = spread(toy_prism("seq2seq", catalog, levels=levels, **isr))
    return PrismRecommender(backbone, catalog, popularity=TOY_CLICKS, num_beams=5, quantizer=quantizer, encoder=encoder)


def test_no_code_of_a_catalog_depends_on_vectors_alone_where_collaborative_ones_are_read():
    assert nearest_levels(tiny_prism()) == 0
    content = {"collaborative_dim": 0, "collaborative_weight": 0.0, "gate_weight": 0.0}
    assert nearest_levels(tiny_prism(**content)) == 3


def test_an_update_with_the_same_texts_finds_no_other_codes_and_says_where_it_can_not_know(caplog):
    caplog.set_level(logging.WARNING)

    assert plain().update_items(TOY_IDS, TOY_TEXTS).would_differ == 0
    assert "would have other codes is not known" in caplog.text


def test_with_vectors_in_the_catalog_codes_of_the_old_and_the_new_text_are_compared(caplog):
    caplog.set_level(logging.WARNING)
    system = fused()
    vectors = system.encoder.encode(TOY_TEXTS)
    codes = system.quantizer.encode(torch.from_numpy(vectors)).numpy()
    other = next(row for row in range(len(TOY_IDS)) if (codes[row] != codes[0]).any())
    before = system.catalog

    assert system.update_items(TOY_IDS, TOY_TEXTS).would_differ == 0
    assert system.update_items(TOY_IDS[:2], [TOY_TEXTS[other], TOY_TEXTS[1]]).would_differ == 1
    assert np.array_equal(system.catalog.codes, before.codes) and not caplog.text
    # the text's part of the vector is new, the collaborative part stays
    width = vectors.shape[1]
    assert np.array_equal(system.catalog.vectors[0, :width], vectors[other])
    assert np.array_equal(system.catalog.vectors[:, width:], before.vectors[:, width:])


@pytest.mark.parametrize("keeps_texts", [True, False])
def test_drift_compares_codes_of_texts_with_codes_of_texts(keeps_texts, tmp_path):
    quantizer, encoder, catalog, _ = parts()
    if not keeps_texts:
        catalog = Catalog.from_codes(
            TOY_IDS,
            catalog.codes[:, : catalog.model_levels],
            level_sizes=SIZES,
            collisions="append",
            quantizer_digest=catalog.quantizer_digest,
        )
    system = toy_recommender(catalog, quantizer=quantizer, encoder=encoder)
    system.save_pretrained(tmp_path)

    training = TrainingItems.of(tmp_path, system)

    assert (training.vectors is not None) == keeps_texts == bool(training.codings)
    assert keeps_texts or "more than the texts" in training.missing["codes"]
