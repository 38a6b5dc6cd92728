"""Updates of a saved recommender without training: new, changed and removed items, new clicks, or a rollback."""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import HfApi, snapshot_download

from cost_hf.experiments.reading_options import keep_reading_options
from cost_hf.files import LOCK, atomic_path, locked, refuse_link_out
from cost_hf.hub.catalog_plan import ITEM_LISTS, REPORTED, UPDATED, Planner, UpdatePlan, skipped_text
from cost_hf.hub.publish import publish
from cost_hf.hub.staging import StagedRepository, check
from cost_hf.hub.upload import push_recommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.recommenders.repository import locate, read_whole
from cost_hf.semantic_ids.item_list import ItemRows

NEW = "new"  # what a table of items holds
CHANGED = "changed"
ALL = "all"
MAX_GONE = 0.1
FORMAT = 1  # of the summary


@dataclass(frozen=True)
class Updates:
    """What an update has changed, or would change.

    Attributes:
        changes: of the catalog; none for a dry run.
        num_clicks: new clicks that were counted.
        summary: plain values for another program: what happened to which items, skipped rows, digests.
        is_dry_run: whether nothing was changed.
    """

    changes: list[CatalogChange]
    num_clicks: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    is_dry_run: bool = False

    @property
    def has_effect(self) -> bool:
        """Whether anything has changed, or would change."""
        if not self.is_dry_run:
            return bool(self.changes or self.num_clicks)
        left = () if self.summary["known_items"] == UPDATED else ("texts_changed", "columns_changed")
        lists = [name for name in ITEM_LISTS if name not in (*left, "not_compared")]
        return any(self.summary.get(name) for name in (*lists, "rolled_back", "clicks"))


@dataclass(frozen=True, eq=False)
class UpdateRequest:
    """Changes of a recommender, in this order: items, values, removals, clicks.

    Rows that can't be applied are skipped and listed: items without text, values and removals of unknown items, and
    rows with a value that does not fit its column.

    Args:
        items: `item_id` and the text columns that the catalog was made from; known ids keep their SIDs. Other columns
            are kept where the catalog has them.
        values: `item_id` of items that the catalog holds, and columns of it that have other values now.
        clicks: clicks after training, on these items too, as `Recommender.update_from` takes them.
        remove: ids to recommend no longer, or a table with `item_id`.
        items_are: `new`: known items stay as they are, and those that differ are reported; `changed`: texts, titles and
            columns of known items change, too; `all`: the whole catalog, so that items that it does not name are
            removed as well.
        max_gone: with `all`, the largest share of the catalog that an update may remove, or leave without a value of a
            column.
        strict: make no change where a row would be skipped.
        rolls_back: return to the catalog before the last update; no other change may be requested with it.
        decimal: mark of numbers in a column that holds texts, too; with a comma, points separate thousands.

    Raises:
        ValueError: where no change is requested, or another one with a rollback.
    """

    items: pd.DataFrame | None = None
    values: pd.DataFrame | None = None
    clicks: pd.DataFrame | None = None
    remove: Sequence[str] | pd.DataFrame = ()
    items_are: str = NEW
    max_gone: float = MAX_GONE
    strict: bool = False
    rolls_back: bool = False
    decimal: str = "."

    def __post_init__(self) -> None:
        tables = (self.items, self.values, self.clicks)
        if self.rolls_back == (any(table is not None for table in tables) or bool(len(self.remove))):
            raise ValueError("expected items, values, clicks, ids to remove, or a rollback alone; give one of them")
        if self.items_are not in (NEW, CHANGED, ALL):
            raise ValueError(f"items_are must be one of {NEW}, {CHANGED}, {ALL}, got {self.items_are!r:.80}")
        if self.items_are == ALL and (self.items is None or len(self.remove)):
            raise ValueError(
                "a whole catalog needs its items, and no ids to remove: what it does not name is removed by itself"
            )
        if not 0 <= self.max_gone <= 1:
            raise ValueError(f"max_gone is a share of the catalog in [0, 1], got {self.max_gone!r:.80}")

    def plan(self, recommender: Recommender) -> UpdatePlan:
        """Compare the tables with the catalog; nothing changes.

        Raises:
            DataError: for items without a column of the template.
            ValueError: for columns of another type or unknown ones, items that this recommender can't take, more
                items or values gone than `max_gone` allows, or, with `strict`, rows that can't be applied.
        """
        planner = Planner(recommender, decimal=self.decimal)
        facts: dict[str, Any] = {}
        table = None
        if self.items is not None:
            table, uncompared, ignored = planner.items(self.items, skips_new=self.items_are == ALL)
            facts = {"items": table, "uncompared_columns": uncompared, "ignored_columns": ignored}
            facts["known_items"] = REPORTED if self.items_are == NEW else UPDATED
        if table is not None and self.items is not None and self.items_are == ALL:
            facts["remove"] = planner.gone(self.items)
            _check_gone("", len(facts["remove"]), recommender, self.max_gone)
            for name, number in planner.emptied(table).items():
                _check_gone(f"the values of column {name!r:.80} for ", number, recommender, self.max_gone)
        elif len(self.remove):
            given = self.remove
            rows = given if isinstance(given, pd.DataFrame) else pd.DataFrame({"item_id": list(map(str, given))})
            facts["remove"] = planner.removals(rows, table)
        if self.values is not None:
            facts["values"] = planner.values(self.values, table)
        if self.strict and planner.skipped:
            raise ValueError(
                f"{skipped_text(planner.skipped)}; correct them, or leave out --strict, which skips them and applies "
                "the rest"
            )
        return UpdatePlan(skipped=planner.skipped, **facts)

    def apply(self, recommender: Recommender, *, dry_run: bool = False) -> Updates:
        """Make the changes in memory.

        Args:
            dry_run: return what would change, and change nothing.

        Raises:
            DataError: for a click log that can't be read, or as `plan`.
            ValueError: as `plan`, or where a change is not possible. Nothing has changed then, or all but the clicks.
        """
        before = recommender.catalog
        num_clicks = 0
        try:
            if self.rolls_back:
                draft = copy(recommender) if dry_run else recommender
                rolled_back = draft.rollback()
                summary = _summary(before, before if dry_run else draft.catalog)
                summary["rolled_back"] = list(rolled_back.item_ids)
                return Updates([] if dry_run else [rolled_back], summary=summary, is_dry_run=dry_run)
            plan = self.plan(recommender)
            lists = plan.item_lists(recommender)
            changes = [] if dry_run else plan.apply(recommender)
            if self.clicks is not None and not dry_run:
                num_clicks = recommender.update_from(self.clicks)
        except KeyError as error:  # an argument of the user
            raise ValueError(error.args[0]) from error
        summary = _summary(before, recommender.catalog) | lists
        summary["known_items"] = plan.known_items
        summary["would_differ"] = sum(change.would_differ for change in changes)
        summary["uncompared_columns"] = plan.uncompared_columns
        summary["ignored_columns"] = plan.ignored_columns
        summary["clicks"] = len(self.clicks) if dry_run and self.clicks is not None else num_clicks
        summary["skipped"] = [asdict(row) for row in plan.skipped]
        return Updates(changes, num_clicks, summary, dry_run)


def _check_gone(what: str, number: int, recommender: Recommender, max_gone: float) -> None:
    """Raise ValueError where a table of the whole catalog lacks too many of its items, or of the values of a column.

    Args:
        what: begins what is lacking in the message: empty, or `the values of column 'stock' for `.
        number: of the items that it concerns.
        recommender: before the update.
        max_gone: largest share of its items.
    """
    num_present = int((~recommender.catalog.removed).sum())
    if number <= max_gone * num_present:
        return
    share = number / num_present
    enough = min(1.0, math.ceil(share * 1000) / 1000)
    raise ValueError(
        f"the table of the whole catalog lacks {what}{number:,} of its {num_present:,} items ({share:.1%}), more than "
        f"--max-gone {max_gone:g} allows; the export may be truncated: check it, and where it is right, run the same "
        f"command with --max-gone {enough:g}"
    )


def _summary(before: ItemRows, after: ItemRows) -> dict[str, Any]:
    """Return what every summary has: sizes and digests of the catalog."""
    empty: dict[str, list[str]] = {name: [] for name in ITEM_LISTS}
    return {
        "format": FORMAT,
        "items_before": int((~before.removed).sum()),
        "items_after": int((~after.removed).sum()),
        "catalog_before": before.version,
        "catalog_after": after.version,
        **empty,
        "known_items": REPORTED,
        "would_differ": 0,
        "uncompared_columns": [],
        "ignored_columns": [],
        "clicks": 0,
        "skipped": [],
    }


def update_catalog(
    source: str | Path, request: UpdateRequest, *, output_dir: str | Path | None = None, dry_run: bool = False
) -> tuple[Path, Updates]:
    """Change the catalog of a saved recommender, or its counts: all requested changes are made, or none.

    Args:
        source: a run directory, a recommender directory, or a Hub id.
        request: the changes.
        output_dir: write a changed copy there; required for a Hub id, whose cached files stay as they are, and for
            clicks where evaluation results belong to the counts. A copy with other counts holds the recommender alone.
        dry_run: return what would change, and write nothing.

    Returns:
        The directory of the changed recommender, and what has changed.

    Raises:
        ValueError: where a change is not possible (`UpdateRequest.apply`); nothing has been written then.
    """
    directory = locate(source)
    if dry_run:
        return directory, request.apply(Recommender.from_pretrained(directory), dry_run=True)
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
    with atomic_path(output_dir) as copied:
        if request.clicks is None:
            read_whole(directory, lambda manifest: _copy(directory, copied))
            updates = change(copied, copied)
        else:
            updates = change(directory, copied)
        keep_reading_options(source, copied)
        return Path(output_dir), updates


def _copy(directory: Path, target: Path) -> None:
    """Copy a recommender directory; raise `DamagedFileError` for a link out of it, except into the Hub's cache."""
    shutil.rmtree(target, ignore_errors=True)
    for path in directory.rglob("*"):
        refuse_link_out(path, directory)
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns(LOCK))


def push_update(
    repo_id: str,
    request: UpdateRequest,
    *,
    api: HfApi | None = None,
    report: Callable[[str], None] = print,
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
