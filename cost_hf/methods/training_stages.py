"""Training of SASRec in its three roles, and what training and validation of all systems share."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed
from torch import nn

from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.data.item_texts import item_titles
from cost_hf.data.prepare import PreparedData
from cost_hf.data.text_vectors import TextVectors
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import content_digest, write_json
from cost_hf.generators.ranking_trainer import remove_checkpoints
from cost_hf.methods.sasrec.options import SasRecOptions
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.methods.sasrec.scorer import SasRecScorer
from cost_hf.methods.sasrec.training import build_sasrec, train_sasrec
from cost_hf.products import EXACT, Products, measure_products
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import JOURNAL, Version, read_journal
from cost_hf.recommenders.rankers import Ranker, ScoringRanker
from cost_hf.recommenders.repository import read_manifest
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.item_rows import ItemRows
from cost_hf.stages import Stages

TRAINING_LOG = "training_log.json"
TITLES = "titles_digest"  # in the record of a stage: of the titles that its recommender got from the data
TITLE_CHANGES = "title_changes"  # and how many changes in the journal brought them
ENCODER = Path("vectors") / "encoder"  # below the run directory
LIVING = ("recommender.json", "catalog-*", "journal.jsonl")  # of a recommender: what changes of its catalog write
logger = logging.getLogger(__name__)


def products_for(recipe: Recipe, build: Callable[[], nn.Module]) -> Products:
    """Try the recipe's matrix products on the untrained model of a stage, on the device that will train it."""
    if recipe.products == "exact":  # no model is built for nothing
        return EXACT
    return measure_products(build(), recipe.products, device=PartialState().device)


def sasrec_stage(
    stages: Stages,
    recipe: Recipe,
    data: PreparedData,
    vectors: TextVectors | None,
    options: SasRecOptions,
    *,
    name: str,
    folder: str,
    seed: int,
) -> SasRecRecommender:
    """Train a SASRec; the system of a `sasrec` recipe, a baseline row, or the source of collaborative vectors."""
    used = None if options.inputs == "ids" else vectors
    table = None if used is None else used.vectors
    text_dim = None if table is None else table.shape[1]
    encoder = stages.output_dir / ENCODER

    def untrained() -> nn.Module:
        return build_sasrec(options, num_items=data.tables.num_items, text_dim=text_dim, seed=seed)

    recommender = stages.run(
        name,
        digest=content_digest(
            data.tables.items["item_id"].tolist(),
            data.split.digest,
            recipe.data.seed,
            "" if used is None else used.digest,
            dataclasses.asdict(options),
            seed,
        ),
        folder=folder,
        compute=lambda target: _train_sasrec(target, recipe, data, table, options, encoder, seed=seed),
        load=lambda target: SasRecRecommender.read(target).to(PartialState().device),
        on_every_process=True,
        is_shared=name == "collaborative",
        living=() if name == "collaborative" else LIVING,
        losses=lambda target: changes_in(target, own=title_changes(stages, name)),
        products=products_for(recipe, untrained),
    )
    if name != "collaborative":  # only its vectors are read, and other runs may share it
        catalog = _item_list(data, table)
        bring_titles(stages, name, recommender, catalog, stages.output_dir / folder)
        recommender = _as_trained(recommender, catalog)
    return recommender


def bring_titles(stages: Stages, name: str, recommender: Recommender, catalog: ItemRows, directory: Path) -> None:
    """Replace the titles of a trained recommender where the data has other ones now, in memory and on disk.

    Titles decide no weights, so nothing is trained again; the change stands in the journal. What a user has changed in
    the catalog since the data's titles came stays as long as these are the same.

    Args:
        name: of the stage that trained it, whose record tells which titles came last.
        catalog: as it would be built from the data now.
        directory: of the recommender.
    """
    titles = [None] * len(catalog) if catalog.titles is None else list(catalog.titles)
    digest = content_digest(list(catalog.item_ids), titles)
    is_known = stages.noted(name, TITLES) == digest
    PartialState().wait_for_everyone()  # nobody may find the new note before all have read the old one
    if is_known:
        return
    brought = title_changes(stages, name)
    if recommender.catalog.titles is not None or catalog.titles is not None:
        change = recommender.update_items(list(catalog.item_ids), titles=titles)
        if change.item_ids and PartialState().is_main_process:
            logger.info("titles of the data have changed since training; the recommender serves the present ones")
            stages.reopen()
            recommender.versions = _with_titles(recommender, catalog.item_ids, titles)
            recommender.save_catalog(directory)
            brought += 1
    if PartialState().is_main_process:
        stages.note(name, **{TITLES: digest, TITLE_CHANGES: str(brought)})
    PartialState().wait_for_everyone()


def title_changes(stages: Stages, name: str) -> int:
    """Return how many changes in the journal of a stage's recommender brought titles of the data."""
    noted = stages.noted(name, TITLE_CHANGES) or ""
    return int(noted) if noted.isdecimal() else 0


def changes_in(directory: Path, *, own: int) -> str:
    """Say how often the catalog of a recommender was changed by its users; nothing of what can't be read.

    Args:
        own: changes in its journal that the run made itself.
    """
    try:
        manifest = read_manifest(directory)
        journal = read_journal(directory, manifest["journal"], digest=manifest["journal_digest"])
    except (OSError, ValueError):
        return ""
    count = sum(change.action != "rollback" for change in journal) - own
    return f"{count} changes of its catalog ({JOURNAL})" if count else ""


def _with_titles(
    recommender: Recommender, item_ids: Sequence[str], titles: Sequence[str | None]
) -> tuple[Version, ...]:
    """Return the older catalogs of a recommender with the titles of the data, so that no older ones are published."""
    older = [version.load().with_titles(item_ids, titles) for version in recommender.versions]
    versions = {catalog.stem: Version.held(catalog) for catalog in older}
    versions.pop(recommender.catalog.stem, None)
    return tuple(versions.values())


def _as_trained(recommender: SasRecRecommender, catalog: ItemList) -> SasRecRecommender:
    """Return the recommender with the catalog it was trained on; the one on disk may have lived on since."""
    if replace(recommender.catalog, titles=None).digest == replace(catalog, titles=None).digest:
        return recommender
    warn_of_changes(recommender)
    clicks = recommender.popularity[: len(catalog)]
    return SasRecRecommender(recommender.model, catalog, popularity=clicks, encoder=recommender.encoder)


def warn_of_changes(recommender: Recommender) -> None:
    """Say that results are of the catalog of the training where it was changed since."""
    logger.warning(
        "the catalog in the run directory has changed since training (%d changes); results are those of the catalog "
        "that was trained on, Recommender.from_pretrained reads the present one",
        len(recommender.journal),
    )


def _item_list(data: PreparedData, table: np.ndarray | None) -> ItemList:
    """Return the items of the data, with their vectors where the model reads them."""
    item_ids, titles = data.tables.items["item_id"].tolist(), item_titles(data.tables.items)
    removed = np.zeros(len(item_ids), dtype=bool)
    return ItemList(tuple(item_ids), removed, None if titles is None else tuple(titles), table)


def _train_sasrec(
    folder: Path,
    recipe: Recipe,
    data: PreparedData,
    table: np.ndarray | None,
    options: SasRecOptions,
    encoder: Path,
    *,
    seed: int,
) -> None:
    set_seed(seed)
    catalog = _item_list(data, table)
    popularity = data.split.popularity(len(catalog))

    def validate(model: Any) -> dict[str, float]:
        ranker = ScoringRanker(SasRecScorer(model, table), popularity=popularity, item_ids=catalog.item_ids)
        return validation_metrics(ranker, recipe, data, users=options.validation_users, top_k=10)

    trained = train_sasrec(
        data.split.train,
        num_items=len(catalog),
        item_vectors=table,
        options=options,
        validate=validate,
        output_dir=folder,
        seed=seed,
    )
    if not PartialState().is_main_process:
        return
    SasRecRecommender(
        trained.model,
        catalog,
        popularity=popularity,
        encoder=None if options.inputs == "ids" else ItemEncoder.load(encoder),
    ).save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)


def validation_metrics(
    ranker: Ranker, recipe: Recipe, data: PreparedData, *, users: int, top_k: int
) -> dict[str, float]:
    """Rank a fixed seeded sample of validation users; seen items are allowed."""
    ranked = evaluate_ranker(
        ranker,
        data.split.validation.sample(users, seed=recipe.data.seed),
        sid_keys=None,
        num_items=data.tables.num_items,
        exclude_seen=False,
        top_k=top_k,
        batch_size=recipe.evaluation.batch_size,
        progress=False,
    )
    metrics = per_user_metrics(ranked.item_rank, cutoffs=[10])
    return {name: float(values.mean()) for name, values in metrics.items()}
