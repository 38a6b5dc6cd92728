"""Training of the generator of semantic IDs."""

import dataclasses
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.data.encoders import model_identity
from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.data.prepare import PreparedData
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import content_digest, write_json
from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.item_words import ItemWords
from cost_hf.generators.ranking_trainer import remove_checkpoints
from cost_hf.generators.templates import load_templates
from cost_hf.methods.training_stages import (
    ENCODER,
    LIVING,
    TRAINING_LOG,
    bring_titles,
    changes_in,
    products_for,
    title_changes,
    validation_metrics,
    warn_of_changes,
)
from cost_hf.quantizers.cost import CostModel
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import update_manifest
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.stages import Stages


def generator_stage(
    stages: Stages, recipe: Recipe, data: PreparedData, catalog: Catalog, quantizer: CostModel | None, *, seed: int
) -> GenerativeRecommender:
    """Train the generator and write the whole recommender, with what gives new items their SIDs."""
    encoder = stages.output_dir / ENCODER
    recommender = stages.run(
        "generator",
        digest=content_digest(
            catalog.digest,
            catalog.quantizer_digest,
            list(catalog.level_sizes),
            catalog.policy,
            data.split.digest,
            recipe.data.seed,
            dataclasses.asdict(recipe.generator),
            dataclasses.asdict(recipe.training),
            *_pretraining_parts(recipe, data),
            seed,
        ),
        folder="recommender",
        compute=lambda folder: _train_recommender(folder, recipe, data, catalog, quantizer, encoder, seed=seed),
        load=lambda folder: GenerativeRecommender.read(folder).to(PartialState().device),
        on_every_process=True,
        living=LIVING,
        losses=lambda folder: changes_in(folder, own=title_changes(stages, "generator")),
        products=products_for(recipe, lambda: _backbone(recipe, catalog, quantizer, seed=seed).model),
    )
    bring_titles(stages, "generator", recommender, catalog, stages.output_dir / "recommender")
    recommender = _as_trained(recommender, catalog)
    search = {name: getattr(recipe.evaluation, name) for name in ("num_beams", "normalization")}
    if search != {name: getattr(recommender, name) for name in search}:  # how to search is no reason to train again
        recommender.num_beams, recommender.normalization = search.values()
        if PartialState().is_main_process:
            stages.reopen()
            update_manifest(stages.output_dir / "recommender", **search)
    return recommender


def _as_trained(recommender: GenerativeRecommender, catalog: Catalog) -> GenerativeRecommender:
    """Return the recommender with the catalog it was trained on; the one on disk may have lived on since."""
    if recommender.catalog.digest == catalog.digest:
        return recommender
    warn_of_changes(recommender)
    names = ("max_history", "num_beams", "normalization", "layout", "tokenizer", "base", "quantizer", "encoder")
    parts = {name: getattr(recommender, name) for name in names}
    clicks = recommender.popularity[: len(catalog)]
    return GenerativeRecommender(recommender.generator, catalog, recommender.vocabulary, popularity=clicks, **parts)


def _train_recommender(
    folder: Path,
    recipe: Recipe,
    data: PreparedData,
    catalog: Catalog,
    quantizer: CostModel | None,
    encoder: Path,
    *,
    seed: int,
) -> None:
    """Train in every process; the main one writes the recommender and the training log."""
    set_seed(seed)
    popularity = data.split.popularity(data.tables.num_items)
    backbone = _backbone(recipe, catalog, quantizer, seed=seed)
    prompts = backbone.prompts(catalog)
    trie = SidTrie.from_catalog(catalog, popularity=popularity)
    beams = recipe.training.validation_beams

    def validate(model: Any) -> dict[str, float]:
        return validation_metrics(
            BeamRanker(model, prompts[0], trie, num_beams=beams),
            recipe,
            data,
            users=recipe.training.validation_users,
            top_k=beams,
        )

    trained = train_generator(
        backbone,
        prompts,
        data.split.train,
        list(data.split.train_user_ids),
        generator=recipe.generator,
        training=recipe.training,
        validate=validate,
        output_dir=folder,
        seed=seed,
        tasks=recipe.tasks,
        words=ItemWords.of(data, recipe.vectors.template) if recipe.tasks.with_words else None,
    )
    if not PartialState().is_main_process:
        return
    GenerativeRecommender.of(
        backbone,
        catalog,
        popularity=popularity,
        num_beams=recipe.evaluation.num_beams,
        normalization=recipe.evaluation.normalization,
        quantizer=quantizer,
        encoder=None if quantizer is None else ItemEncoder.load(encoder),
    ).save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)


def _backbone(recipe: Recipe, catalog: Catalog, quantizer: CostModel | None, *, seed: int) -> Backbone:
    levels = [] if quantizer is None else [quantizer.level_vectors(level) for level in range(catalog.model_levels)]
    return build_backbone(
        recipe.generator, catalog, seed=seed, adapter=recipe.adapter, tasks=recipe.tasks, level_vectors=levels
    )


def _pretraining_parts(recipe: Recipe, data: PreparedData) -> list[Any]:
    """Return what a generator from a backbone depends on beside its options; nothing for one from scratch."""
    if recipe.generator.backbone is None:
        return []
    weights = model_identity(recipe.generator.backbone, recipe.generator.revision)
    tasks = [*recipe.tasks.with_words, *({recipe.generator.prompt} - {"bare"})]
    templates = [dataclasses.asdict(entry) for name in tasks for entry in load_templates(name, recipe.tasks.templates)]
    said = []
    if recipe.tasks.with_words:
        words = ItemWords.of(data, recipe.vectors.template)
        said = [list(words.titles), list(words.texts)]
    return [weights, dataclasses.asdict(recipe.adapter), dataclasses.asdict(recipe.tasks), templates, *said]
