"""Description of the semantic IDs of a run: utilization, quality without a generator, and examples of neighbours."""

from typing import Any

import numpy as np
import torch

from cost_hf.data.cells import cell_words
from cost_hf.data.text_vectors import TextVectors
from cost_hf.evaluation.semantic_ids import sid_quality, sid_utilization, top_neighbours
from cost_hf.methods.base import Workspace
from cost_hf.quantizers.fit import CodesResult
from cost_hf.semantic_ids.catalog import Catalog

EXAMPLES = 8
NEIGHBOURS = 4


def describe_semantic_ids(catalog: Catalog, codes: CodesResult | None, workspace: Workspace) -> dict[str, Any]:
    """Return section `semantic_ids` of results.json."""
    data = workspace.data
    column = data.tables.items.get("categories")
    quality = sid_quality(
        catalog.codes[:, : catalog.model_levels],
        level_sizes=catalog.level_sizes[: catalog.model_levels],
        categories=None if column is None else [cell_words(cell) for cell in column],
        train=data.split.train,
        targets=data.split.validation,
    )
    return describe_utilization(catalog, codes, workspace) | {"quality": quality}


def describe_utilization(catalog: Catalog, codes: CodesResult | None, workspace: Workspace) -> dict[str, Any]:
    """Return what section `semantic_ids` says of codes alone, whatever reads them."""
    vectors = workspace.text_vectors()
    own = catalog.codes[:, : catalog.model_levels]
    sizes = catalog.level_sizes[: catalog.model_levels]
    reconstruction = None
    decode = None if codes is None else getattr(codes.model, "decode", None)  # not every quantizer has a decoder
    if decode is not None:
        with torch.inference_mode():
            reconstruction = decode(torch.from_numpy(np.array(own))).float().numpy()
    utilization = sid_utilization(own, sizes, vectors=vectors.vectors, reconstruction=reconstruction)
    return utilization | {"catalog": catalog.report}


def neighbour_examples(catalog: Catalog, vectors: TextVectors, *, seed: int) -> list[dict[str, Any]]:
    """Return a few seeded items with their nearest texts and the items that share most of their SID, as titles.

    These are `same_prefix`, or `same_codes` where levels are parallel and equal codes count wherever they stand.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(catalog))[:EXAMPLES])
    nearest = top_neighbours(vectors.vectors, rows, width=min(NEIGHBOURS, len(catalog) - 1))
    names = catalog.item_ids if catalog.titles is None else _names(catalog)
    shared = "same_codes" if catalog.has_parallel_levels else "same_prefix"
    return [
        {
            "item": names[row],
            "sid": "-".join(map(str, catalog.codes[row])),
            "nearest_text": [names[other] for other in others],
            shared: [names[other] for other in _closest_sids(catalog, row)],
        }
        for row, others in zip(rows.tolist(), nearest.tolist(), strict=True)
    ]


def _names(catalog: Catalog) -> list[str]:
    titles = catalog.titles or ()
    return [title or item for item, title in zip(catalog.item_ids, titles, strict=True)]


def _closest_sids(catalog: Catalog, row: int) -> list[int]:
    """Return the items that share most codes of a SID, at least one, in row order among equals.

    Leading codes count, or any where levels are parallel.
    """
    common = catalog.num_shared_levels(catalog.codes[row])
    common[row] = 0
    order = np.argsort(-common, kind="stable")[:NEIGHBOURS]
    return [int(other) for other in order if common[other]]
