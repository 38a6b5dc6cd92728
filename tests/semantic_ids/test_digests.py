"""Digests are a file format: a changed value makes every published recommender refuse its parts."""

import numpy as np

from cost_hf.semantic_ids.digests import assignment_digest, catalog_digest, codes_digest, vocabulary_digest
from tests.semantic_ids.sid_fakes import FakeQuantizer

CODES = np.array([[0, 1], [1, 0]])
NONE_REMOVED = np.zeros(2, dtype=bool)


def test_row_order_does_not_change_a_catalog_digest():
    assert catalog_digest(["a", "b"], CODES, NONE_REMOVED) == catalog_digest(["b", "a"], CODES[::-1], NONE_REMOVED)


def test_every_part_changes_a_catalog_digest():
    digests = {
        catalog_digest(["a", "b"], CODES, NONE_REMOVED),
        catalog_digest(["a", "c"], CODES, NONE_REMOVED),
        catalog_digest(["a", "b"], CODES[::-1], NONE_REMOVED),
        catalog_digest(["a", "b"], CODES, np.array([True, False])),
        codes_digest(["a", "b"], CODES, [2, 2]),
        codes_digest(["a", "b"], CODES, [2, 3]),
    }

    assert len(digests) == 6


def test_codebooks_make_the_assignment_digest():
    assert assignment_digest(FakeQuantizer(seed=0)) == assignment_digest(FakeQuantizer(seed=0))
    assert assignment_digest(FakeQuantizer(seed=0)) != assignment_digest(FakeQuantizer(seed=1))


def test_a_quantizer_without_code_vectors_is_known_by_its_weights():
    model, other = FakeQuantizer(seed=0), FakeQuantizer(seed=1)
    for quantizer in (model, other):
        quantizer.level_vectors = lambda level: None
        quantizer.state_dict = lambda books=quantizer.books: {"books": books[0]}

    assert assignment_digest(model) == assignment_digest(model)
    assert assignment_digest(model) != assignment_digest(other)


def test_code_vectors_that_are_computed_are_not_part_of_a_digest():
    model, elsewhere = FakeQuantizer(seed=0), FakeQuantizer(seed=0)
    elsewhere.level_vectors = lambda level: model.books[level] * (1 + 2**-23)  # as another machine may round them
    for quantizer in (model, elsewhere):
        quantizer.computes_level_vectors = True
        quantizer.state_dict = lambda books=quantizer.books: {"books": books[0]}

    assert assignment_digest(model) == assignment_digest(elsewhere)


def test_digests_do_not_change_from_release_to_release():
    assert catalog_digest(["a", "b"], CODES, NONE_REMOVED)[:16] == "d32fa8f399ad35ff"
    assert codes_digest(["a", "b"], CODES, [2, 2])[:16] == "d25ac0076ccfed26"
    assert vocabulary_digest("s", [2], ["<s_a_0>", "<s_a_1>"])[:16] == "c38761cbfd742693"
