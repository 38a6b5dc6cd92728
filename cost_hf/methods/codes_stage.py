"""From texts to semantic IDs: vectors, codes, catalog."""

import dataclasses
from typing import Any

import numpy as np
import torch

from cost_hf.data.coclicks import co_clicks
from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.item_texts import item_titles
from cost_hf.data.options import ItemVectorOptions
from cost_hf.data.prepare import PreparedData
from cost_hf.data.text_vectors import FORMAT, TextVectors
from cost_hf.files import content_digest
from cost_hf.methods.base import Workspace, collaborative_method
from cost_hf.methods.training_stages import ENCODER, training_clicks
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult, fit_codes, sparse_parts
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import CatalogOptions
from cost_hf.stages import Stages

VECTORS = "vectors"  # stage and folder


def vector_stage(stages: Stages, options: ItemVectorOptions, data: PreparedData) -> TextVectors:
    """Make the item vectors."""
    fit_rows = data.fit_rows
    return stages.run(
        VECTORS,
        digest=content_digest(FORMAT, *options.digest_parts(data, fit_rows)),
        folder=VECTORS,
        compute=lambda folder: options.fit(data, output_dir=folder, fit_rows=fit_rows),
        load=TextVectors.load,
        on_every_process=options.is_trained,
        shared_as=VECTORS,
    )


def codes_stage(workspace: Workspace, options: CodesOptions, *, seed: int) -> CodesResult:
    """Fit the quantizer and encode the items."""
    seed = seed if options.seed is None else options.seed
    data = workspace.data
    vectors = workspace.text_vectors()
    # codes without a model come from ids and columns that need not stand in the texts
    origin = data.tables.digest if options.needs_items or options.needs_item_ids else ""
    fit_rows = data.fit_rows
    collaborative = None
    if options.needs_collaborative_vectors:
        source = collaborative_method(options.collaborative_method)
        collaborative = source.item_vectors(workspace, options.collaborative_dim, seed=seed)
    coclicks = co_clicks(data.split.train, data.tables.num_items) if options.needs_coclicks else None
    popularity = training_clicks(workspace) if options.needs_popularity else None
    result = workspace.stages.run(
        workspace.stage_of("quantizer"),
        digest=content_digest(
            vectors.digest,
            origin,
            options.content(),
            seed,
            *_parts(fit_rows),
            *_parts(collaborative),
            *([] if coclicks is None else sparse_parts(coclicks)),
            *_parts(popularity),
        ),
        folder=workspace.folder_of("quantizer"),
        compute=lambda folder: fit_codes(
            vectors.vectors,
            options,
            output_dir=folder,
            seed=seed,
            items=data.tables.items,
            collaborative=collaborative,
            coclicks=coclicks,
            popularity=popularity,
            texts=vectors.texts if options.reads_texts else None,
            fit_rows=fit_rows,
            text_encoder=ItemEncoder.load(workspace.stages.output_dir / ENCODER).settings,
        ),
        load=CodesResult.load,
        on_every_process=True,
        shared_as="quantizer",
    )
    if options.reads_texts:
        return result
    table = torch.from_numpy(vectors.vectors)
    other = None if collaborative is None else torch.from_numpy(collaborative)
    return dataclasses.replace(result, encoded=options.encoded_vectors(table, other))


def build_catalog(
    workspace: Workspace, options: CatalogOptions, codes: CodesResult | None, *, has_parallel_levels: bool = False
) -> Catalog:
    """Assign a semantic ID to every item; columns of the item table stay with the catalog.

    Args:
        workspace: of the run.
        options: recipe section `catalog`.
        codes: of the items; None for those of a reference.
        has_parallel_levels: of codes that come without a model, which says it otherwise.
    """
    catalog = _catalog_of_codes(workspace, options, codes, is_parallel=has_parallel_levels)
    return catalog.with_columns(workspace.data.columns)


def _catalog_of_codes(
    workspace: Workspace, options: CatalogOptions, codes: CodesResult | None, *, is_parallel: bool
) -> Catalog:
    items = workspace.data.tables.items
    ids = items["item_id"].tolist()
    titles = item_titles(items)
    if options.reference is not None:
        return Catalog.from_reference(
            options.reference,
            collisions=options.collisions,
            item_ids=ids,
            titles=titles,
            append_size=options.append_size,
        )
    if codes is None:
        raise ValueError("a catalog needs learned codes or catalog.reference, got neither")
    if codes.model is None:
        return Catalog.from_codes(
            ids,
            codes.codes,
            level_sizes=codes.level_sizes,
            collisions=options.collisions,
            append_size=options.append_size,
            quantizer_digest=codes.quantizer_digest,
            titles=titles,
            has_parallel_levels=is_parallel,
        )
    vectors = workspace.text_vectors()
    return Catalog.from_embeddings(
        ids,
        torch.from_numpy(vectors.vectors) if codes.encoded is None else codes.encoded,
        codes.model,
        codes=codes.codes,
        collisions=options.collisions,
        append_size=options.append_size,
        titles=titles,
        text_digest=vectors.texts_digest,
    )


def _parts(array: np.ndarray | None) -> list[Any]:
    """Return what an optional input adds to a digest: nothing where it is not used."""
    return [] if array is None else [array]
