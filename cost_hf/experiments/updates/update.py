"""The day after: a finished run is trained on with new clicks and items, judged, and served in place of yesterday's.

A run is as before or as after an update, whenever its process is killed: the recommender is written beside, read back
and judged there, and takes its place by the one swap of `History.serve`. Everything else that belongs to a day (clicks,
record, yesterday's recommender) is found by the number in the manifest of the served recommender.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.data.click_log import CLICKS, KnownClicks, save_clicks
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.sources import Source
from cost_hf.data.tables import read_interactions, read_items
from cost_hf.experiments.pipeline import RECIPE
from cost_hf.experiments.reading_options import FIELDS, LEAVING_OUT
from cost_hf.experiments.recipe import Recipe
from cost_hf.experiments.updates.guard import Guard
from cost_hf.experiments.updates.history import History
from cost_hf.experiments.updates.items import NewItems, add_new_items, shown_ids, take_later_changes
from cost_hf.experiments.updates.options import UpdateOptions
from cost_hf.files import file_digest, locked, write_json
from cost_hf.methods.base import Method, WarmStart
from cost_hf.methods.training_stages import TRAINING_LOG
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import read_catalog, read_manifest
from cost_hf.reporting.words import plural
from cost_hf.run_updates import CLICKS_DIGEST, model_files, now, write_updates
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.semantic_ids.options import whole_number
from cost_hf.stages import Stages, is_run, require_finished, require_one_process

MAX_SEED = 2**32 - 1  # of numpy's generators
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes:
        output_dir: the run directory.
        record: entry of `updates.json`; None where no click was new, so that nothing was done.
        left_items: ids of new items that were not added, because no click was new.
    """

    output_dir: Path
    record: Mapping[str, Any] | None
    left_items: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether the new model is served."""
        return self.record is not None and self.record["is_accepted"]

    @property
    def recommender(self) -> Recommender:
        """The recommender that the run serves now, read from its directory."""
        return Recommender.from_pretrained(self.output_dir)

    def __repr__(self) -> str:
        """Return the update in one line."""
        if self.record is None:
            return f"Update(no new clicks, {self.output_dir})"
        state = "served" if self.is_accepted else f"refused: {self.record['reason']}"
        clicks = self.record["clicks"]["new"]
        items = self.record["items"]["new"]
        return f"Update({self.record['number']}: {clicks} new clicks, {items} new items, {state}, {self.output_dir})"


def update_run(
    run: str | Path,
    *,
    clicks: Source,
    items: Source | None = None,
    data: DataOptions | None = None,
    options: UpdateOptions | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Update:
    """Train a finished run on with new clicks, and serve the new model where it is not worse.

    New items get semantic IDs of the same vocabulary; counts and popularity are those of all clicks known now. Column
    names, events and file options are those of the run (section `data` of its recipe) by default. Clicks that the run
    knows are not counted again. The model that is replaced stays in `updates/`, and `rollback_run` returns to it.

    Args:
        run: directory of a finished run.
        clicks: new clicks, in any form that `train` takes; they may come with known ones.
        items: new items with the text columns of the run's catalog; known ones stay as they are.
        data: data section by which clicks and items are read in place of the run's; what does not decide how files are
            read (split, filters) stays as in the run.
        options: settings, as `UpdateOptions` or its fields.
        seed: of fresh weights, samples and the bootstrap.

    Raises:
        ValueError: for a method without warm start, a run that hides cold items, or items that were added to the run
            meanwhile; for `data` with types of events where the run has none, or without where it has. Nothing has
            changed then.
        DataError: for clicks or items that can't be used as they are.
        LockedError: where another process is writing to the run.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> import cost_hf
        >>> items = pd.DataFrame({"item_id": list("abcdef"), "title": [f"tea number {n}" for n in range(6)]})
        >>> rows = [(user, "abcdef"[(user + step) % 6], step) for user in range(20) for step in range(4)]
        >>> log = pd.DataFrame(rows, columns=["user_id", "item_id", "position"])
        >>> fields = {"method": "markov", "evaluation.baselines": ["popularity"], "evaluation.num_beams": 5}
        >>> tomorrow = pd.DataFrame({"user_id": [50, 50], "item_id": ["a", "g"], "position": [0, 1]})
        >>> novelty = pd.DataFrame({"item_id": ["g"], "title": ["a new tea"]})
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = cost_hf.train(items=items, interactions=log, overrides=fields, output_dir=directory)
        ...     update = cost_hf.update_run(directory, clicks=tomorrow, items=novelty)
        ...     answers = update.recommender.recommend(["a"], top_k=2)
        >>> update.is_accepted, "g" in [answer.item_id for answer in answers]
        (True, True)
    """
    require_one_process("an update")
    chosen = options if isinstance(options, UpdateOptions) else UpdateOptions(**dict(options or {}))
    chosen.validate()
    whole_number(seed, "seed", least=0, most=MAX_SEED)
    directory = Path(run)
    recipe = updatable_recipe(directory)
    reading = _reading_options(recipe.data, data)
    with Stages(directory).exclusive():
        require_finished(directory)
        history = History(directory)
        try:
            history.clean()
            return _Updating(history, recipe, reading, chosen, seed).run(clicks, items)
        finally:
            history.clean()


def rollback_run(run: str | Path) -> int:
    """Return to the model before the last update: recommender, catalog and known clicks of that day, in one step.

    Args:
        run: directory of a run.

    Returns:
        Number of the update that is served now; 0 for the model of the training.

    Raises:
        ValueError: where the run serves the model of its training.
        FileNotFoundError: where the model before is not kept any more.
    """
    directory = Path(run)
    _require_run(directory)
    with Stages(directory).exclusive():
        history = History(directory)
        history.clean()
        served = history.served
        if served == 0:
            raise ValueError(f"{directory} serves the model of its training; there is no update to take back")
        parent = history.parent(served)
        history.check_kept(parent)
        catalogs = {read_manifest(folder)["catalog_version"] for folder in (history.directory, history.kept(parent))}
        history.serve(history.kept(parent))
        for entry in history.updates:
            if entry["number"] == served:
                entry["rolled_back"] = now()
        write_updates(directory, history.updates)
        history.forget_copy()
    if len(catalogs) > 1:
        logger.warning(
            "the catalog is that of the day before, too: items, removals, prices and stock; `cost-hf update-catalog` "
            "brings it up to date"
        )
    return parent


def updatable_recipe(run: Path) -> Recipe:
    """Return the recipe of a run that can be trained on.

    Raises:
        FileNotFoundError: for what is no run directory, or one that keeps no clicks.
        ValueError: for a method without warm start, or a run of the cold-start protocol.
    """
    _require_run(run)
    recipe = Recipe.load(str(run / RECIPE))
    method = recipe.system
    if not method.can_warm_start:
        raise ValueError(
            f"method {method.name} of {run} has no warm start, so the run can't be updated; train it again with all "
            "clicks"
        )
    if recipe.data.cold_share > 0:
        raise ValueError(
            f"{run} hides items from training (data.cold_share {recipe.data.cold_share:g}), which is an experiment on "
            "cold start; train without it to update the run later"
        )
    if not (run / CLICKS).is_file():
        raise FileNotFoundError(
            f"{run / CLICKS} is missing, the clicks that the run was trained on; the same `cost-hf train` command "
            "writes it without training again"
        )
    return recipe


def _reading_options(own: DataOptions, given: DataOptions | None) -> DataOptions:
    """Return the data section of a run with the fields of another one that decide how clicks and items are read."""
    if given is None:
        return own
    if given.event_column is None and own.event_column is not None:
        raise ValueError(
            f"the run knows types of events (data.event_column {own.event_column!r}), so an update needs them, too, "
            "got no data.event_column; name the column of the new clicks: --data '{event_column: NAME}'"
        )
    if given.event_column is not None and own.event_column is None:
        raise ValueError(
            f"the run knows no types of events, so an update can't use them, got data.event_column "
            f"{given.event_column!r}; leave it out, or train again with it"
        )
    return dataclasses.replace(own, **{name: getattr(given, name) for name in (*FIELDS, *LEAVING_OUT)})


def _require_run(run: Path) -> None:
    if not is_run(run) or not (run / RECIPE).is_file():
        raise FileNotFoundError(f"{run} is no directory of a finished run; give one that `cost-hf train` made")


class _Updating:
    """One update of a run, whose lock is held."""

    def __init__(self, history: History, recipe: Recipe, data: DataOptions, options: UpdateOptions, seed: int):
        self.run_directory = history.run
        self.data = data
        self.method: Method[Any] = recipe.system
        self.batch_size = recipe.evaluation.batch_size
        self.options = options
        self.seed = seed
        self.history = history
        self.number = history.next_number

    def run(self, clicks: Source, items: Source | None) -> Update:
        """Train, judge and serve."""
        start = time.perf_counter()
        set_seed(self.seed)  # rows of new items get fresh weights
        history = self.history
        recommender = Recommender.from_pretrained(self.run_directory, device=PartialState().device)
        started = recommender.catalog
        line = history.line()
        history.check_clicks()
        known = KnownClicks.load(history.clicks(0), [history.clicks(number) for number in line])
        log = read_interactions(clicks, options=self.data)
        table = pd.DataFrame({"item_id": []}) if items is None else read_items(items, options=self.data)
        new_items = NewItems.of(recommender, table, drops_empty=self.data.on_empty_text == "drop")
        if new_items.without_text:
            logger.warning(
                "%s without text left out, with the clicks on them (%s)",
                plural(len(new_items.without_text), "new item"),
                shown_ids(new_items.without_text),
            )
        counts = {"read": len(log)}
        # first, because the logs that the run keeps have no clicks on unknown items
        usable = self._without_unknown_items(log, recommender, new_items, counts)
        fresh = known.unknown(usable, self.data, number=self.number)
        counts["known"] = len(usable) - len(fresh)
        if fresh.empty:
            logger.warning("none of %d clicks is new and on a known item, so there is nothing to learn", len(log))
            left = new_items.ids
            if left:
                logger.warning(
                    "%s not added, which needs no training: `cost-hf update-catalog` adds %s",
                    f"{plural(len(left), 'new item')} {'was' if len(left) == 1 else 'were'}",
                    "it" if len(left) == 1 else "them",
                )
            return Update(self.run_directory, None, tuple(left))
        added = add_new_items(recommender, new_items)
        rows = pd.Series(np.arange(len(recommender.catalog)), index=recommender.catalog.item_ids)
        today = known.today(fresh)
        held_out = today.last_clicks(self.options.holdout, seed=self.seed)
        split = today.training_split(held_out, rows, replay=self.options.replay, seed=self.seed)
        if split.num_labels() == 0:
            raise DataError(
                f"none of {len(fresh)} new clicks is learned: their events have the weight 0 in data.event_weights; "
                "give clicks of other events, too"
            )
        counts |= {
            "new": len(fresh),
            "held_out": int(held_out.sum()),
            "learned": int((today.is_unlearned & ~held_out).sum()),
            "labels": split.num_labels(),
        }
        guard = Guard.of(
            known.guard_cases(rows, self.data),
            today.cases(held_out, rows, self.data),
            most=self.options.guard_cases,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        logger.info("update %d: %d new clicks, %d new items", self.number, len(fresh), len(added))
        before = guard.metrics(recommender)  # its weights change in place
        with history.scratch() as scratch:
            folder = scratch / "recommender"
            self._train(recommender, split, scratch / "training", folder)
            # what is served is what is judged: as it is read back
            trained = Recommender.from_pretrained(folder, device=PartialState().device)
            figures, reason = guard.compare(before, guard.metrics(trained), tolerance=self.options.tolerance)
            record = {
                "number": self.number,
                "parent": history.served,
                "time": now(),
                "method": self.method.name,
                "is_accepted": not reason,
                "reason": reason,
                "seed": self.seed,
                "options": dataclasses.asdict(self.options),
                "clicks": counts,
                "items": {
                    "new": len(added),
                    "without_text": len(new_items.without_text),
                    "catalog": int((~trained.catalog.removed).sum()),
                    "catalog_digest": trained.catalog.digest,
                },
                "guard": figures,
                "seconds": round(time.perf_counter() - start, 3),
                "files": model_files(read_manifest(folder)["files"]),
            }
            if reason:
                folder.replace(history.refused(self.number))
                history.record(record)
            else:
                clicks_file = history.clicks(self.number)
                save_clicks(today.brought(held_out), clicks_file)
                history.record(record | {CLICKS_DIGEST: file_digest(clicks_file)})
                self._serve(trained, folder, started)
        history.prune(self.options.keep)
        return Update(self.run_directory, history.updates[-1])

    def _serve(self, trained: Recommender, folder: Path, started: ItemRows) -> None:
        """Serve the new model, which makes the update take effect; its catalog has the prices and stock of now."""
        directory = self.history.directory
        with locked(directory):  # from here on nobody changes the catalog
            present = read_catalog(directory, type(started))
            if present.version != started.version:
                take_later_changes(trained, started, present)
                trained.save_catalog(folder)
            self.history.serve(folder)

    def _without_unknown_items(
        self, clicks: pd.DataFrame, recommender: Recommender, new_items: NewItems, counts: dict[str, int]
    ) -> pd.DataFrame:
        """Return the clicks on items of the catalog or new ones, as `data.on_unknown_item` demands of all others.

        Clicks on items that are left out without text go with them.
        """
        is_known = clicks["item_id"].isin({*recommender.catalog.item_ids, *new_items.ids}).to_numpy()
        counts["unknown_items"] = int((~is_known).sum())
        is_unknown = ~is_known & ~clicks["item_id"].isin(new_items.without_text).to_numpy()
        if is_unknown.any() and self.data.on_unknown_item == "error":
            unknown = clicks.loc[is_unknown, "item_id"].drop_duplicates().tolist()
            number = int(is_unknown.sum())
            is_one = len(unknown) == 1
            items_are = "an item that is" if is_one else f"{len(unknown):,} items that are"
            remedy = "give this item" if is_one else "give these items"
            raise DataError(
                f"{plural(number, 'click')} {'is' if number == 1 else 'are'} on {items_are} neither in the catalog nor "
                f"among the new items ({shown_ids(unknown)}); {remedy} with --items, or leave out "
                f"{'this click' if number == 1 else 'these clicks'} with --data '{{on_unknown_item: drop}}'"
            )
        return clicks.loc[is_known].reset_index(drop=True)

    def _train(self, recommender: Recommender, split: Any, checkpoints: Path, folder: Path) -> None:
        """Train the recommender on and write it."""
        set_seed(self.seed)
        checkpoints.mkdir()
        fitted = self.method.warm_start(
            recommender,
            WarmStart(
                split=split,
                epochs=self.options.epochs,
                learning_rate_factor=self.options.learning_rate_factor,
                folder=checkpoints,
                seed=self.seed,
            ),
        )
        trained = fitted.recommender
        trained.update = self.number
        trained.save_pretrained(folder)
        if "training" in fitted.curves:
            write_json(folder / TRAINING_LOG, fitted.curves["training"])
