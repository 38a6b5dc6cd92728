"""What methods share: the stage that trains a recommender, validation by ranking, metadata that change without it."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from cost_hf.data.item_texts import item_titles
from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import evaluate_ranker, length_batches, per_user_metrics
from cost_hf.files import content_digest
from cost_hf.methods.base import Workspace
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.candidates import Candidates
from cost_hf.recommenders.catalog_changes import journal_file
from cost_hf.recommenders.hybrid import DEPTH, CandidateLists, PartRanker
from cost_hf.recommenders.rankers import Ranker
from cost_hf.recommenders.repository import read_manifest, stored_journal
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_list import ItemList, ItemRows
from cost_hf.stages import Stages

TRAINING_LOG = "training_log.json"
METADATA = "metadata_digest"  # in the record of a stage: of the titles and columns that came from the data
METADATA_COLUMNS = "metadata_columns"  # and names of these columns, as JSON
METADATA_CHANGES = "metadata_changes"  # and how many changes in the journal brought them
ENCODER = Path("vectors") / "encoder"  # below the run directory
# files of a recommender that catalog updates write, so that they may change after the stage
UPDATED_FILES = ("recommender.json", "catalog-*", "columns-*", "journal*.jsonl")
logger = logging.getLogger(__name__)
RecommenderT = TypeVar("RecommenderT", bound=Recommender)


def recommender_stage(
    workspace: Workspace,
    name: str,
    *,
    digest: str,
    train: Callable[[Path], object],
    load: Callable[[Path], RecommenderT],
    catalog: ItemRows,
    shared_as: str | None = None,
) -> RecommenderT:
    """Train a recommender in a stage of its own and return it as it is stored, with titles and columns of the data.

    Args:
        workspace: its row gives the folder.
        name: of the stage.
        digest: of everything that the weights depend on.
        train: writes the recommender into a folder, on every process of a distributed run.
        load: reads it.
        catalog: as it would be built from the data now, for its titles and columns.
        shared_as: as in `Stages.run`, for weights that several rows or runs may use.
    """
    stages = workspace.stages
    recommender = stages.run(
        name,
        digest=digest,
        folder=workspace.folder,
        compute=train,
        load=lambda folder: load(folder).to(PartialState().device),
        on_every_process=True,
        shared_as=shared_as,
        mutable=UPDATED_FILES,
        work_lost=lambda folder: changes_in(folder, own=metadata_changes(stages, name)),
    )
    update_metadata(workspace, name, recommender, catalog)
    return recommender


def validation_metrics(ranker: Ranker, workspace: Workspace, *, users: int, top_k: int) -> dict[str, float]:
    """Rank a fixed seeded sample of validation users and return their mean Recall@10, NDCG@10 and MRR@10.

    Seen items are allowed.
    """
    split = workspace.data.split
    ranked = evaluate_ranker(
        ranker,
        split.validation.sample(users, seed=workspace.data_seed),
        sid_keys=None,
        num_items=workspace.data.tables.num_items,
        exclude_seen=False,
        top_k=top_k,
        batch_size=workspace.evaluation.batch_size,
        progress=False,
    )
    metrics = per_user_metrics(ranked.item_rank, cutoffs=[10])
    return {name: float(values.mean()) for name, values in metrics.items()}


def candidate_batches(
    parts: Mapping[str, Recommender],
    cases: Targets,
    workspace: Workspace,
    *,
    description: str,
    rows: np.ndarray | None = None,
    mask: CatalogMask | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, Candidates]]:
    """Yield batches of cases with what the parts of a hybrid list for them, seen items allowed.

    Args:
        parts: recommenders over the items of the data, by name.
        cases: M of them.
        description: label of the progress bar.
        rows: row of every item of the data in catalogs of the parts that have grown since, `[N]`; None where these are
            the same.
        mask: items that may be listed, over the catalogs of the parts.

    Yields:
        Indices of the cases int64 `[B]`, their histories `[B, T]` (catalog rows, -1 pads) and their candidates.
    """
    rankers = {name: PartRanker(part.ranker_for(DEPTH), len(part.catalog)) for name, part in parts.items()}
    lists = CandidateLists(rankers, num_items=max(len(part.catalog) for part in parts.values()))
    batches = length_batches(cases.histories.lengths, workspace.evaluation.batch_size)
    for batch in tqdm(batches, desc=description, disable=not PartialState().is_main_process, leave=None):
        histories = cases.histories_matrix(batch)
        if rows is not None:
            histories = np.where(histories >= 0, rows[histories], -1)
        user_ids = [cases.user_ids[case] for case in batch]
        found = lists.candidates(torch.from_numpy(histories), top_k=DEPTH, mask=mask, user_ids=user_ids)
        yield batch, histories, found


def training_clicks(workspace: Workspace) -> np.ndarray:
    """Return the training clicks of every item, `[N]`."""
    return workspace.data.split.popularity(workspace.data.tables.num_items)


def item_list(workspace: Workspace, vectors: np.ndarray | None = None) -> ItemList:
    """Return the items of the data, with their vectors `[N, E]` where the model reads them."""
    items = workspace.data.tables.items
    item_ids = items["item_id"].tolist()
    titles = item_titles(items)
    removed = np.zeros(len(item_ids), dtype=bool)
    catalog = ItemList(tuple(item_ids), removed, None if titles is None else tuple(titles), vectors)
    return catalog.with_columns(workspace.data.columns)


def update_metadata(workspace: Workspace, name: str, recommender: Recommender, catalog: ItemRows) -> None:
    """Replace titles and columns of a trained recommender where the data has other ones now, in memory and on disk.

    Neither decides weights, so nothing is trained again; the change stands in the journal. What a user has changed in
    the catalog since those of the data came stays as long as these are the same; columns that the data has no more go.

    Args:
        name: of the stage that trained it, whose record has the digest of those that came last.
        catalog: as it would be built from the data now.
    """
    stages = workspace.stages
    titles = None if catalog.titles is None else list(catalog.titles)
    excluded = list(workspace.data.excluded)
    digest = content_digest(list(catalog.item_ids), titles, catalog.columns.digest, excluded)
    is_known = stages.noted(name, METADATA) == digest
    gone = set(json.loads(stages.noted(name, METADATA_COLUMNS) or "[]")) - set(catalog.columns.names)
    PartialState().wait_for_everyone()  # nobody may find the new note before all have read the old one
    if is_known:
        return
    brought = metadata_changes(stages, name)
    change = recommender.set_metadata(catalog.item_ids, titles, catalog.columns, without=[*excluded, *gone])
    if PartialState().is_main_process:
        if change.item_ids:
            logger.info("titles or columns of the data have changed since training; the present ones are served")
            stages.reopen()
            recommender.save_catalog(stages.output_dir / workspace.folder)
            brought += 1
        columns = json.dumps(catalog.columns.names)
        stages.note(name, **{METADATA: digest, METADATA_COLUMNS: columns, METADATA_CHANGES: str(brought)})
    PartialState().wait_for_everyone()


def metadata_changes(stages: Stages, name: str) -> int:
    """Return how many changes in the journal of a stage's recommender brought titles and columns of the data."""
    noted = stages.noted(name, METADATA_CHANGES) or ""
    return int(noted) if noted.isdecimal() else 0


def changes_in(directory: Path, *, own: int) -> str:
    """Describe how often users changed the catalog of a recommender; empty where it can't be read.

    Args:
        own: changes in its journal that the run made itself.
    """
    try:
        manifest = read_manifest(directory)
        journal = stored_journal(directory, manifest)
    except (OSError, ValueError):
        return ""
    # of those that the journal does not hold any more, none is known to be a rollback
    count = journal.dropped + sum(change.action != "rollback" for change in journal) - own
    return f"{count} changes of its catalog ({journal_file(journal.dropped)})" if count else ""


def as_fitted(recommender: RecommenderT, catalog: ItemRows) -> RecommenderT:
    """Return a recommender with the catalog it was fitted on; users may have changed the one on disk since.

    Args:
        catalog: of the data; titles make no difference.
    """
    own = recommender.catalog
    is_same = own.without_metadata().digest == catalog.without_metadata().digest
    if is_same and own.columns.digest == catalog.columns.digest:
        return recommender
    warn_of_changes(recommender)
    return recommender.with_catalog(catalog)


def warn_of_changes(recommender: Recommender) -> None:
    """Warn that results are of the catalog of the training where it was changed since."""
    logger.warning(
        "the catalog in the run directory has changed since training (%d changes); results are those of the catalog "
        "that was trained on, Recommender.from_pretrained reads the present one",
        recommender.journal.total,
    )
