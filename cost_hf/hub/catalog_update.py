"""Updates of a saved recommender without training: new, changed and removed items, new clicks, or a rollback."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from huggingface_hub import HfApi, snapshot_download

from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.schema import empty_texts
from cost_hf.files import LOCK, atomic_path, locked
from cost_hf.hub.publish import publish
from cost_hf.hub.staging import StagedRepository, check
from cost_hf.hub.upload import push_recommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.recommenders.repository import locate, read_whole
from cost_hf.semantic_ids.item_columns import TEXTS


@dataclass(frozen=True)
class Updates:
    """What an update has changed.

    Attributes:
        changes: of the catalog.
        num_clicks: new clicks that were counted.
    """

    changes: list[CatalogChange]
    num_clicks: int = 0


@dataclass(frozen=True, eq=False)
class UpdateRequest:
    """Changes of a recommender, in this order: items, values, clicks, removals.

    Args:
        items: `item_id` and the text columns that the catalog was made from; known ids keep their SIDs. Other columns
            are kept where the catalog has them.
        values: `item_id` of items that the catalog holds, and columns of it that have other values now.
        clicks: clicks after training, on these items too, as `Recommender.update_from` takes them.
        remove: ids to recommend no longer.
        updates_known: change texts, titles and columns of items that the catalog holds.
        rolls_back: return to the catalog before the last change; no other change may be requested with it.

    Raises:
        ValueError: where no change is requested, or another one with a rollback.
    """

    items: pd.DataFrame | None = None
    values: pd.DataFrame | None = None
    clicks: pd.DataFrame | None = None
    remove: Sequence[str] = ()
    updates_known: bool = False
    rolls_back: bool = False

    def __post_init__(self) -> None:
        tables = (self.items, self.values, self.clicks)
        if self.rolls_back == (any(table is not None for table in tables) or bool(self.remove)):
            raise ValueError("expected items, values, clicks, ids to remove, or a rollback alone; give one of them")

    def apply(self, recommender: Recommender) -> Updates:
        """Make the changes in memory.

        Raises:
            DataError: for items without id or text, or without a column of the template; or a click log that can't be
                read.
            ValueError: where one is not possible; the recommender may have made those before it.
        """
        changes = [recommender.rollback()] if self.rolls_back else []
        num_clicks = 0
        try:
            if self.items is not None:
                changes += _take_items(recommender, self.items, updates_known=self.updates_known)
            if self.values is not None:
                if "title" in self.values:
                    raise ValueError("values come without titles; give titles and texts as items to update")
                columns = changed_columns(self.values, recommender.catalog.columns.of_kind(TEXTS))
                changes.append(recommender.update_items(self.values["item_id"].tolist(), columns=columns))
            if self.clicks is not None:
                num_clicks = recommender.update_from(self.clicks)
            if self.remove:
                changes.append(recommender.remove_items(self.remove))
        except KeyError as error:  # an argument of the user
            raise ValueError(error.args[0]) from error
        return Updates([change for change in changes if change.item_ids], num_clicks)


def update_catalog(
    source: str | Path, request: UpdateRequest, *, output_dir: str | Path | None = None
) -> tuple[Path, Updates]:
    """Change the catalog of a saved recommender, or its counts: all requested changes are made, or none.

    Args:
        source: a run directory, a recommender directory, or a Hub id.
        request: the changes.
        output_dir: write a changed copy there; required for a Hub id, whose cached files stay as they are, and for
            clicks where evaluation results belong to the counts. A copy with other counts holds the recommender alone.

    Returns:
        The directory of the changed recommender, and what has changed.

    Raises:
        ValueError: where a change is not possible (`UpdateRequest.apply`); nothing has been written then.
    """
    directory = locate(source)
    if output_dir is None and not Path(source).is_dir():
        raise ValueError(f"{str(source)!r} is a Hub repository; give --output_dir for a changed copy, or --push")
    if output_dir is not None and Path(output_dir).exists():
        raise FileExistsError(f"{output_dir} exists already; give a new directory for the changed copy")

    def change(read_from: Path, folder: Path) -> Updates:
        recommender = Recommender.from_pretrained(read_from)
        updates = request.apply(recommender)
        if request.clicks is None:
            recommender.save_catalog(folder)
        else:
            recommender.save_pretrained(folder)
        return updates

    if output_dir is None:
        with locked(directory):  # before reading, so that of two commands the second sees the changes of the first
            return directory, change(directory, directory)
    with atomic_path(output_dir) as copy:
        if request.clicks is None:
            read_whole(directory, lambda manifest: _copy(directory, copy))
            return Path(output_dir), change(copy, copy)
        return Path(output_dir), change(directory, copy)


def _copy(directory: Path, target: Path) -> None:
    """Copy a recommender directory; raise OSError for a link out of it, except into the store of the Hub's cache."""
    shutil.rmtree(target, ignore_errors=True)
    store = directory.resolve().parent.parent / "blobs"
    for path in directory.rglob("*"):
        found = path.resolve()
        if path.is_symlink() and found.parent != store and not found.is_relative_to(directory.resolve()):
            raise OSError(f"{path} is a link out of the directory, to {found}; put the file itself there or remove it")
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns(LOCK))


def _take_items(recommender: Recommender, items: pd.DataFrame, *, updates_known: bool) -> list[CatalogChange]:
    if "texts" not in recommender.new_item_inputs:
        raise ValueError(
            "this recommender has no text encoder (codes from elsewhere, ids alone, or a Hub copy without a licence of "
            "the data); load the run directory, or use add_items with vectors or codes in Python"
        )
    texts = recommender.encoder.render(items) if recommender.encoder is not None else render_texts(items, None)
    empty_texts(items, texts, drops=False)
    ids = items["item_id"].tolist()
    titles = item_titles(items) or texts
    known = [place for place, item in enumerate(ids) if updates_known and item in recommender.catalog]
    held = recommender.catalog.columns
    kept = [name for name in items.columns if name in held.names]
    columns = changed_columns(items[kept], held.of_kind(TEXTS))
    changes = [recommender.add_items(ids, texts, titles=titles, columns=columns if columns.num_columns else None)]
    if known:
        changes.append(
            recommender.update_items(
                [ids[place] for place in known],
                [texts[place] for place in known],
                titles=[titles[place] for place in known],
                columns=columns.take(known) if columns.num_columns else None,
            )
        )
    return changes


def push_update(
    repo_id: str, request: UpdateRequest, *, api: HfApi | None = None, report: Callable[[str], None] = print
) -> Updates:
    """Change the catalog or the counts of a recommender on the Hub by one commit that follows the commit that was read.

    Results there are of the counts before, so a commit of other counts removes them, and its card has no figures.

    Args:
        repo_id: `org/name`.
        request: the changes.
        api: with endpoint and token; by default those of the environment.
        report: takes the address of the commit.

    Raises:
        PublishError: where somebody else has committed meanwhile, or the Hub refuses; nothing has changed there then.
    """
    hub = api or HfApi()
    source = Path(snapshot_download(repo_id, endpoint=hub.endpoint, token=hub.token))
    if request.clicks is not None:
        recommender = Recommender.from_pretrained(source)
        recommender.hub_commits = {(repo_id, "main"): source.name}
        updates = request.apply(recommender)
        report(f"{repo_id}: {push_recommender(recommender, repo_id, api=hub)}")
        return updates
    with tempfile.TemporaryDirectory() as scratch:
        folder, updates = update_catalog(source, request, output_dir=Path(scratch) / "recommender")
        if updates.changes:
            staged = StagedRepository("recommender", repo_id, folder)
            check(staged)
            report(f"{repo_id}: {publish(staged, hub, follows=source.name, keeps_others=True).address}")
    return updates
