"""Examples of neighbours: what items have in common depends on whether levels are parallel."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from cost_hf.methods.generative.sid_description import neighbour_examples
from tests.recommenders.toys import toy_catalog


def test_items_of_parallel_levels_share_codes_wherever_they_stand():
    plain = toy_catalog(30, (4, 5, 3), collisions="none")
    vectors = SimpleNamespace(vectors=np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))

    for catalog, key in ((plain, "same_prefix"), (replace(plain, has_parallel_levels=True), "same_codes")):
        for example in neighbour_examples(catalog, vectors, seed=0):
            row = catalog.row_of(example["item"])
            same = catalog.codes == catalog.codes[row]
            shared = (same if key == "same_codes" else np.logical_and.accumulate(same, axis=1)).sum(axis=1)
            shared[row] = 0
            best = sorted(np.flatnonzero(shared), key=lambda other: -shared[other])[:4]
            assert example[key] == [catalog.item_ids[other] for other in best]
