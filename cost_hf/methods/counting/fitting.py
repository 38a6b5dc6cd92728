"""Fitting of the counting baselines in a run."""

from pathlib import Path

from accelerate import PartialState

from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.splits import Split
from cost_hf.data.text_vectors import TextVectors
from cost_hf.files import content_digest
from cost_hf.methods.base import Workspace
from cost_hf.methods.counting.counting import fit_tables
from cost_hf.methods.counting.recommender import TABLES_FORMAT, CountingRecommender
from cost_hf.methods.training_stages import ENCODER, as_fitted, item_list, recommender_stage, training_clicks

STAGE = "counting"


def fit_recommender(name: str, workspace: Workspace, *, needs_text_vectors: bool) -> CountingRecommender:
    """Count in the training part.

    A baseline row is made in memory, since that takes seconds; the system of the run is written and read back.

    Args:
        name: of the scorer.
        needs_text_vectors: whether the scorer reads the item text vectors.
    """
    vectors = workspace.text_vectors() if needs_text_vectors else None
    if workspace.row is not None:
        return _fit(name, workspace, vectors)
    catalog = item_list(workspace, None if vectors is None else vectors.vectors)
    data = workspace.data

    def write(folder: Path) -> None:
        if PartialState().is_main_process:
            _fit(name, workspace, vectors).save_pretrained(folder)

    recommender = recommender_stage(
        workspace,
        STAGE,
        digest=content_digest(
            name, TABLES_FORMAT, list(catalog.item_ids), data.split.digest, "" if vectors is None else vectors.digest
        ),
        train=write,
        load=CountingRecommender.read,
        catalog=catalog,
    )
    return as_fitted(recommender, catalog)


def count_again(recommender: CountingRecommender, split: Split) -> CountingRecommender:
    """Return the recommender with the counts of other training sequences over the rows of its catalog."""
    catalog = recommender.catalog
    tables = fit_tables(recommender.scorer_name, split.train, len(catalog), weights=split.weights_of_users())
    return CountingRecommender(
        recommender.scorer_name,
        tables,
        catalog,
        popularity=split.popularity(len(catalog)),
        encoder=recommender.encoder,
        journal=recommender.journal,
    )


def _fit(name: str, workspace: Workspace, vectors: TextVectors | None) -> CountingRecommender:
    catalog = item_list(workspace, None if vectors is None else vectors.vectors)
    encoder = None if vectors is None else ItemEncoder.load(workspace.stages.output_dir / ENCODER)
    split = workspace.data.split
    tables = fit_tables(name, split.train, len(catalog), weights=split.weights_of_users())
    return CountingRecommender(name, tables, catalog, popularity=training_clicks(workspace), encoder=encoder)
