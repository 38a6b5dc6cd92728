"""A recipe from data to results: read → vectors → codes → catalog → generator → evaluation.

Each arrow is one function; each box lies on disk and is skipped when nothing that it depends on changed (`stages.py`).
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.data.text_vectors import TextVectors, encode_items, render_texts
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.files import content_digest, write_json
from cost_hf.judging import judge
from cost_hf.quantizer_training.fit import CodesResult, fit_codes
from cost_hf.recipe import Recipe
from cost_hf.recommender.backbones import build_backbone
from cost_hf.recommender.beam_ranker import BeamRanker
from cost_hf.recommender.bundle import update_protocol
from cost_hf.recommender.generator_training import Validate, remove_checkpoints, train_generator
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.recommender.recommender import Recommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.stages import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        recommender: loaded from the run directory, ready to recommend.
        results: content of `evaluation/results.json`.
        output_dir: the run directory.
        examples: a few test users: id, and history as item ids.
    """

    recommender: Recommender
    results: dict[str, Any]
    output_dir: Path
    examples: list[tuple[str, list[str]]]

    @property
    def is_main_process(self) -> bool:
        """True in the process that should print."""
        return PartialState().is_main_process


def train(
    *,
    items: Any = None,
    interactions: Any = None,
    recipe: str = "cost_quickstart",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    output_dir: str | Path | None = None,
) -> Run:
    """Train and judge a recommender; a killed or repeated call continues where the last one stopped.

    Args:
        items: catalog (`item_id` and text columns): DataFrame, `datasets.Dataset` or path; None reads `data.path`.
        interactions: clicks (`user_id`, `item_id`, `timestamp` or `position`), in the same forms.
        recipe: name of a shipped recipe or a YAML file.
        overrides: dotted fields, as on the command line, such as `{"training.epochs": 20}`.
        seed: of codes, generator and bootstrap; the split does not depend on it.
        output_dir: run directory; `runs/<recipe>-<seed>` by default.

    Raises:
        RecipeError: for an unknown recipe, field or value.
        DataError: for data that can't be used as it is; the message says what to change.
    """
    # the first call decides for the process: without `cpu` accelerate gives every process of a CPU run world size 1
    state = PartialState(cpu=not torch.cuda.is_available())
    resolved = Recipe.load(recipe, overrides)
    if (items is None) != (interactions is None):
        missing = "items" if items is None else "interactions"
        raise ValueError(f"items and interactions go together, {missing} is missing")
    if items is not None:
        resolved.data.reader = "tables"
        if "data.licence" not in (overrides or {}):
            resolved.data.licence = None  # the recipe's licence is not that of the caller's data
    resolved.validate()
    directory = Path(output_dir) if output_dir is not None else Path("runs") / f"{resolved.name}-{seed}"
    stages = Stages(directory)
    if state.is_main_process:
        directory.mkdir(parents=True, exist_ok=True)
        resolved.save(directory / "recipe.yaml")
    data = prepare_data(resolved.data, items=items, interactions=interactions, template=resolved.vectors.template)
    vectors = vector_stage(stages, resolved, data)
    codes = None if resolved.catalog.reference else codes_stage(stages, resolved, data, vectors, seed=seed)
    catalog = build_catalog(resolved, data, vectors, codes)
    recommender = generator_stage(stages, resolved, data, catalog, seed=seed)
    results = judge(stages, resolved, data, vectors, codes, recommender, seed=seed)
    first = zip(data.split.test.user_ids[:3], data.split.test.histories[:3], strict=True)
    examples = [(str(user), [catalog.item_ids[row] for row in history]) for user, history in first]
    return Run(recommender, results, directory, examples)


def vector_stage(stages: Stages, recipe: Recipe, data: PreparedData) -> TextVectors:
    """Encode the item texts; the vectors are shared between runs through the cache."""
    texts = render_texts(data.tables.items, recipe.vectors.template)
    return stages.run(
        "vectors",
        digest=content_digest(texts, dataclasses.asdict(recipe.vectors)),
        folder="vectors",
        compute=lambda folder: encode_items(data.tables.items, recipe.vectors, output_dir=folder),
        load=TextVectors.load,
    )


def codes_stage(stages: Stages, recipe: Recipe, data: PreparedData, vectors: TextVectors, *, seed: int) -> CodesResult:
    """Fit the quantizer and encode the items."""
    # codes without a model come from ids and columns that need not stand in the texts
    origin = data.tables.digest if recipe.codes.kind in ("random", "category") else ""
    return stages.run(
        "quantizer",
        digest=content_digest(vectors.digest, origin, dataclasses.asdict(recipe.codes), seed),
        folder="quantizer",
        compute=lambda folder: fit_codes(
            vectors.vectors, recipe.codes, output_dir=folder, seed=seed, items=data.tables.items
        ),
        load=CodesResult.load,
        on_every_process=True,
    )


def build_catalog(recipe: Recipe, data: PreparedData, vectors: TextVectors, codes: CodesResult | None) -> Catalog:
    """Give every item its semantic ID."""
    options, items = recipe.catalog, data.tables.items
    ids = items["item_id"].tolist()
    names = items.get("title")
    titles = None if names is None else [name if isinstance(name, str) else None for name in names]
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
            lineage=codes.lineage,
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


def generator_stage(stages: Stages, recipe: Recipe, data: PreparedData, catalog: Catalog, *, seed: int) -> Recommender:
    """Train the generator and write the whole recommender."""
    recommender = stages.run(
        "generator",
        digest=content_digest(
            catalog.digest,
            catalog.lineage,
            list(catalog.level_sizes),
            catalog.policy,
            data.split.digest,
            recipe.data.seed,
            dataclasses.asdict(recipe.generator),
            dataclasses.asdict(recipe.training),
            seed,
        ),
        folder="recommender",
        compute=lambda folder: _train_recommender(folder, recipe, data, catalog, seed=seed),
        load=lambda folder: Recommender.from_pretrained(folder).to(PartialState().device),
        on_every_process=True,
    )
    if recommender.num_beams != recipe.evaluation.num_beams:  # beams are no reason to train again
        recommender.num_beams = recipe.evaluation.num_beams
        if PartialState().is_main_process:
            update_protocol(stages.output_dir / "recommender", num_beams=recommender.num_beams)
    return recommender


def _train_recommender(folder: Path, recipe: Recipe, data: PreparedData, catalog: Catalog, *, seed: int) -> None:
    """Train in every process; the main one writes the recommender and the training log."""
    set_seed(seed)
    popularity = data.split.popularity(data.tables.num_items)
    backbone = build_backbone(recipe.generator, catalog, seed=seed)
    prompts = PromptBuilder.for_catalog(
        catalog,
        backbone.vocabulary,
        is_causal=recipe.generator.kind == "causal",
        max_history=recipe.generator.max_history,
    )
    trained = train_generator(
        backbone,
        prompts,
        data.split.train,
        list(data.split.train_user_ids),
        generator=recipe.generator,
        training=recipe.training,
        validate=_validation(recipe, data, catalog, prompts, popularity),
        output_dir=folder,
        seed=seed,
    )
    if not PartialState().is_main_process:
        return
    Recommender(
        trained.model,
        catalog,
        backbone.vocabulary,
        popularity=popularity,
        max_history=recipe.generator.max_history,
        num_beams=recipe.evaluation.num_beams,
        tokenizer=backbone.tokenizer,
    ).save_pretrained(folder)
    write_json(folder / "training_log.json", trained.history)
    remove_checkpoints(folder)


def _validation(
    recipe: Recipe, data: PreparedData, catalog: Catalog, prompts: PromptBuilder, popularity: np.ndarray
) -> Validate:
    """Return the function that ranks a fixed seeded sample of validation users."""
    sample = data.split.validation.sample(recipe.training.validation_users, seed=recipe.data.seed)
    trie = SidTrie.from_catalog(catalog, popularity=popularity)

    def validate(model: PreTrainedModel) -> dict[str, float]:
        ranked = evaluate_ranker(
            BeamRanker(model, prompts, trie, num_beams=recipe.training.validation_beams),
            sample,
            sid_keys=catalog.sid_keys,
            num_items=len(catalog),
            exclude_seen=False,
            top_k=recipe.training.validation_beams,
            batch_size=recipe.evaluation.batch_size,
            progress=False,
        )
        metrics = per_user_metrics(ranked.item_rank, cutoffs=[10])
        return {name: float(values.mean()) for name, values in metrics.items()}

    return validate
