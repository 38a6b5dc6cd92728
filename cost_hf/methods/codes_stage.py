"""From texts to semantic IDs: vectors, codes, catalog."""

import dataclasses
from typing import Any

import numpy as np
import torch

from cost_hf.data.encoders import encoder_identity
from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.options import VectorOptions
from cost_hf.data.prepare import PreparedData
from cost_hf.data.text_vectors import TextVectors, encode_items
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import content_digest
from cost_hf.methods.training_stages import ENCODER, products_for, sasrec_stage
from cost_hf.products import EXACT, Products
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.fit import CodesResult, fit_codes, quantizer_config
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.stages import Stages


def vector_stage(stages: Stages, recipe: Recipe, data: PreparedData) -> TextVectors:
    """Encode the item texts."""
    texts = render_texts(data.tables.items, recipe.vectors.template)
    fit_rows = _fit_rows(data)
    return stages.run(
        "vectors",
        digest=content_digest(
            texts, dataclasses.asdict(recipe.vectors), *encoder_parts(recipe.vectors), *_parts(fit_rows)
        ),
        folder="vectors",
        compute=lambda folder: encode_items(data.tables.items, recipe.vectors, output_dir=folder, fit_rows=fit_rows),
        load=TextVectors.load,
        is_shared=True,
    )


def encoder_parts(options: VectorOptions) -> list[list[str]]:
    """Return what the name of a text encoder stands for: its content is an input, not its name; nothing for lsa."""
    return [] if options.model == "lsa" else [encoder_identity(options.model, options.revision)]


def collaborative_vectors(stages: Stages, recipe: Recipe, data: PreparedData, *, seed: int) -> np.ndarray:
    """Return item vectors of a SASRec trained on the training part, `[N, D]`; zero for items without a click there."""
    options = dataclasses.replace(
        recipe.sasrec, inputs="ids", loss="cross_entropy", hidden_size=recipe.codes.latent_dim
    )
    trained = sasrec_stage(stages, recipe, data, None, options, name="collaborative", folder="collaborative", seed=seed)
    with torch.inference_mode():
        table = trained.model.item_table().float().cpu().numpy()
    table[data.split.popularity(data.tables.num_items) == 0] = 0.0
    return table


def codes_stage(stages: Stages, recipe: Recipe, data: PreparedData, vectors: TextVectors, *, seed: int) -> CodesResult:
    """Fit the quantizer and encode the items."""
    seed = seed if recipe.codes.seed is None else recipe.codes.seed
    # codes without a model come from ids and columns that need not stand in the texts
    origin = data.tables.digest if recipe.codes.kind in ("random", "category") else ""
    fit_rows = _fit_rows(data)
    collaborative = None
    if recipe.codes.needs_collaborative:
        collaborative = collaborative_vectors(stages, recipe, data, seed=seed)
    return stages.run(
        "quantizer",
        digest=content_digest(
            vectors.digest, origin, dataclasses.asdict(recipe.codes), seed, *_parts(fit_rows), *_parts(collaborative)
        ),
        folder="quantizer",
        compute=lambda folder: fit_codes(
            vectors.vectors,
            recipe.codes,
            output_dir=folder,
            seed=seed,
            items=data.tables.items,
            collaborative=collaborative,
            fit_rows=fit_rows,
            text_encoder=ItemEncoder.load(stages.output_dir / ENCODER).settings,
        ),
        load=CodesResult.load,
        on_every_process=True,
        is_shared=True,
        products=_codes_products(recipe, vectors, seed=seed),
    )


def _codes_products(recipe: Recipe, vectors: TextVectors, *, seed: int) -> Products:
    if recipe.codes.kind in ("random", "category"):  # nothing is multiplied
        return EXACT
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return products_for(recipe, lambda: CostModel(quantizer_config(recipe.codes, vectors.vectors.shape[1])))


def build_catalog(recipe: Recipe, data: PreparedData, vectors: TextVectors, codes: CodesResult | None) -> Catalog:
    """Give every item its semantic ID."""
    options = recipe.catalog
    ids, titles = data.tables.items["item_id"].tolist(), item_titles(data.tables.items)
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
        )
    return Catalog.from_embeddings(
        ids,
        torch.from_numpy(vectors.vectors),
        codes.model,
        codes=codes.codes,
        collisions=options.collisions,
        append_size=options.append_size,
        titles=titles,
        text_digest=vectors.texts_digest,
    )


def _fit_rows(data: PreparedData) -> np.ndarray | None:
    """Return the items that fitting may see, bool `[N]`; None without a cold-start protocol."""
    return data.split.fit_rows(data.tables.num_items) if len(data.split.cold_items) else None


def _parts(array: np.ndarray | None) -> list[Any]:
    """Return what an optional input adds to a digest: nothing where it is not used."""
    return [] if array is None else [array]
