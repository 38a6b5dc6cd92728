"""Updates of the catalog of a run or a Hub repository: new, changed and removed items, or a rollback."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import HfApi, snapshot_download

from cost_hf.data.item_texts import item_titles
from cost_hf.data.schema import empty_texts
from cost_hf.files import LOCK, atomic_path, locked
from cost_hf.hub.publish import publish
from cost_hf.hub.staging import StagedRepository, check
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.recommenders.repository import locate, read_whole


def update_catalog(
    source: str | Path,
    *,
    items: pd.DataFrame | None = None,
    remove: Sequence[str] = (),
    updates_known: bool = False,
    rolls_back: bool = False,
    output_dir: str | Path | None = None,
) -> tuple[Path, list[CatalogChange]]:
    """Change the catalog of a saved recommender: all requested changes are made, or none.

    Args:
        source: a run directory, a recommender directory, or a Hub id.
        items: `item_id` and the text columns that the catalog was made from; known ids keep their SIDs.
        remove: ids to recommend no longer.
        updates_known: change texts and titles of items that the catalog holds.
        rolls_back: return to the catalog before the last change; no other change may be requested with it.
        output_dir: write a changed copy there; required for a Hub id, whose cached files stay as they are.

    Returns:
        The directory of the changed catalog, and the changes that were made.

    Raises:
        DataError: for items without id or text, or without a column of the template.
        ValueError: where no change is requested, or one is not possible; nothing has been written then.
    """
    if rolls_back == (items is not None or bool(remove)):
        raise ValueError("expected items, ids to remove, or a rollback alone; give one of them")
    directory = locate(source)
    if output_dir is None and not Path(source).is_dir():
        raise ValueError(f"{str(source)!r} is a Hub repository; give --output_dir for a changed copy, or --push")
    if output_dir is not None and Path(output_dir).exists():
        raise FileExistsError(f"{output_dir} exists already; give a new directory for the changed copy")

    def change(folder: Path) -> list[CatalogChange]:
        recommender = Recommender.from_pretrained(folder)
        changes = [recommender.rollback()] if rolls_back else []
        if items is not None:
            changes += _take_items(recommender, items, updates_known=updates_known)
        if remove:
            changes.append(_removed(recommender, remove))
        recommender.save_catalog(folder)
        return [change for change in changes if change.item_ids]

    if output_dir is None:
        with locked(directory):  # before reading, so that of two commands the second sees the changes of the first
            return directory, change(directory)
    with atomic_path(output_dir) as copy:
        read_whole(directory, lambda manifest: _copy(directory, copy))
        return Path(output_dir), change(copy)


def _copy(directory: Path, target: Path) -> None:
    """Copy a recommender directory; raise OSError for a link out of it, except into the store of the Hub's cache."""
    shutil.rmtree(target, ignore_errors=True)
    store = directory.resolve().parent.parent / "blobs"
    for path in directory.rglob("*"):
        found = path.resolve()
        if path.is_symlink() and found.parent != store and not found.is_relative_to(directory.resolve()):
            raise OSError(f"{path} is a link out of the directory, to {found}; put the file itself there or remove it")
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns(LOCK))


def _removed(recommender: Recommender, item_ids: Sequence[str]) -> CatalogChange:
    try:
        return recommender.remove_items(item_ids)
    except KeyError as error:  # an argument of the user
        raise ValueError(error.args[0]) from error


def _take_items(recommender: Recommender, items: pd.DataFrame, *, updates_known: bool) -> list[CatalogChange]:
    if recommender.encoder is None:
        raise ValueError(
            "this recommender has no text encoder (codes from elsewhere, ids alone, or a Hub copy without a licence of "
            "the data); load the run directory, or use add_items with vectors or codes in Python"
        )
    texts = recommender.encoder.render(items)
    empty_texts(items, texts, drops=False)
    ids = items["item_id"].tolist()
    titles = item_titles(items) or texts
    known = [place for place, item in enumerate(ids) if updates_known and item in recommender.catalog]
    changes = [recommender.add_items(ids, texts, titles=titles)]
    if known:
        changes.append(
            recommender.update_items(
                [ids[place] for place in known],
                [texts[place] for place in known],
                titles=[titles[place] for place in known],
            )
        )
    return changes


def push_update(
    repo_id: str, *, api: HfApi | None = None, report: Callable[[str], None] = print, **requested: Any
) -> list[CatalogChange]:
    """Change the catalog of a recommender on the Hub by one commit whose parent is the commit that was read.

    Args:
        repo_id: `org/name`.
        api: with endpoint and token; by default those of the environment.
        report: takes the address of the commit.
        requested: changes, as for `update_catalog`.

    Raises:
        PublishError: where somebody else has committed meanwhile, or the Hub refuses; nothing has changed there then.
    """
    hub = api or HfApi()
    source = Path(snapshot_download(repo_id, endpoint=hub.endpoint, token=hub.token))
    with tempfile.TemporaryDirectory() as scratch:
        folder, changes = update_catalog(source, output_dir=Path(scratch) / "recommender", **requested)
        if changes:
            staged = StagedRepository("recommender", repo_id, folder)
            check(staged)
            report(f"{repo_id}: {publish(staged, hub, follows=source.name, keeps_others=True).address}")
    return changes
