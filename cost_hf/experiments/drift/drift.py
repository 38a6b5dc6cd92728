"""`cost-hf drift`: whether new items and clicks are still like those of the training, and what to do where not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.cells import find_mismatch
from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import render_texts
from cost_hf.data.schema import empty_texts
from cost_hf.data.sources import Source
from cost_hf.data.tables import read_interactions, read_items
from cost_hf.experiments.drift.clicks import click_values
from cost_hf.experiments.drift.items import item_values, looked_at
from cost_hf.experiments.drift.reference import TrainingItems
from cost_hf.experiments.drift.statistics import (
    CLICKS,
    CODES,
    FINE,
    GROUPS,
    NEW_CLICKS,
    RETRAIN,
    TEXTS,
    UNKNOWN_CLICKS,
    VECTORS,
    VERDICTS,
    WATCH,
    Statistic,
    statistic_of,
)
from cost_hf.experiments.drift.thresholds import DRAWS, FALSE_ALARMS, Limits, limits_of
from cost_hf.experiments.pipeline import Run
from cost_hf.experiments.reading_options import ReadingOptions
from cost_hf.files import read_object
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import RESULTS, locate
from cost_hf.reporting import numbers
from cost_hf.reporting.drift import drift_text, shown_value, write_drift_page
from cost_hf.semantic_ids.options import whole_number

FORMAT = 1
MIN_TRAINING = 10  # items of the training
MAX_SEED = 2**32 - 1
ADVICE = {
    FINE: "Nothing needs to be done.",
    WATCH: "Run it again on the next export; where the same shows again, train again.",
    RETRAIN: "Train again with these items and clicks, and compare the new run with this one.",
}


@dataclass(frozen=True)
class Judgement:
    """A statistic of the new data.

    Attributes:
        name: of the statistic, after the part of the recommender that it is of, where it has several with codes.
        group: `texts`, `item vectors`, `semantic IDs` or `clicks`.
        label: for readers.
        unit: `share`, `number`, or `ratio` (to `usual`).
        value: of the new data.
        limits: what is usual, from samples of the training.
        distance: of the value from the usual one, in distances of the first limit.
        status: `fine`, `watch` or `retrain`.
        reason: what an unusual value means, in plain words; empty for `fine`.
    """

    name: str
    group: str
    label: str
    unit: str
    value: float
    limits: Limits
    distance: float
    status: str
    reason: str

    @classmethod
    def of(cls, name: str, value: float, limits: Limits) -> "Judgement":
        """Return the judgement of a value."""
        statistic, part = statistic_of(name)
        label = f"{statistic.label} ({part})" if part else statistic.label
        if statistic.worst == WATCH:
            limits = replace(limits, retrain=(None, None))
        status = limits.status(value)
        reason = "" if status == FINE else _reason(statistic, label, value, limits, status)
        distance = limits.distance(value)
        return cls(name, statistic.group, label, statistic.unit, value, limits, distance, status, reason)


@dataclass(frozen=True)
class DriftResult:
    """Whether a recommender still fits new data.

    Attributes:
        source: the run, recommender or repository.
        verdict: `fine`, `watch` or `retrain`: the worst of the statistics.
        statistics: of the new data.
        not_applicable: why groups of statistics are missing, by their names.
        notes: what else is worth knowing of the new data, in sentences.
        protocol: numbers of items, clicks and samples.
    """

    source: str
    verdict: str
    statistics: list[Judgement]
    not_applicable: dict[str, str]
    notes: list[str]
    protocol: dict[str, Any]

    def __repr__(self) -> str:
        """Return the verdict and the unusual statistics."""
        unusual = [own.name for own in self.statistics if own.status != FINE]
        return f"DriftResult({self.verdict}{': ' if unusual else ''}{', '.join(unusual)}, {self.source})"

    @property
    def reasons(self) -> list[str]:
        """What is unusual, in sentences, the worst first."""
        unusual = [own for own in self.statistics if own.status != FINE]
        unusual.sort(key=lambda own: (-VERDICTS.index(own.status), -own.distance))
        return [own.reason for own in unusual]

    @property
    def advice(self) -> str:
        """What to do."""
        return ADVICE[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` writes them."""
        return {"format": FORMAT, **asdict(self), "reasons": self.reasons, "advice": self.advice}

    def text(self) -> str:
        """Return the report for a terminal."""
        return drift_text(self.to_dict())

    def write_html(self, path: str | Path) -> None:
        """Write the report as a web page, atomically."""
        write_drift_page(self.to_dict(), path)


def drift(
    run: "str | Path | Run",
    *,
    items: Source = None,
    clicks: Source = None,
    columns: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> DriftResult:
    """Compare new items and clicks with those that a recommender was trained on.

    Limits come from samples of held-out training items that are as large as the new data, and from the clicks that the
    run was evaluated on.

    Args:
        run: a run (as `train` returns it, or its directory), a recommender directory, or a Hub id.
        items: new items (`item_id` and the columns of their texts): DataFrame, `datasets.Dataset` or path. Items of the
            training among them are left out, unless there are no others.
        clicks: clicks after the training (`user_id`, `item_id`, `timestamp` or `position`), in the same forms.
        columns: our column -> name in both tables; those of the run by default.
        data: other fields of the data section by which the tables are read, as in the run by default.
        seed: of the samples.

    Raises:
        DataError: for tables that can't be read, or items without a column of the template or any text.
        ValueError: without items and clicks, or for a recommender that knows nothing of its training.
        OSError: where nothing is found.

    Examples:
        >>> import tempfile
        >>> import cost_hf
        >>> toy = {"method": "popularity", "data.synthetic_users": 60, "data.synthetic_items": 50}
        >>> clicks = {"user_id": ["u"] * 4, "item_id": ["a", "b", "a", "c"], "position": [0, 1, 2, 3]}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = cost_hf.train(overrides=toy | {"evaluation.baselines": []}, output_dir=directory)
        ...     found = cost_hf.drift(run, clicks=clicks)
        >>> found.verdict
        'retrain'
        >>> found.reasons[0].partition(":")[0]
        'Clicks on items without a click in training'
    """
    if items is None and clicks is None:
        raise ValueError("drift needs new items, new clicks or both, got neither; pass items or clicks")
    seed = whole_number(seed, "seed", least=0, most=MAX_SEED)
    source = run.output_dir if isinstance(run, Run) else run
    reading = ReadingOptions.of(source).changed(columns, data or {})
    recommender = Recommender.from_pretrained(source)
    results = _results_of(source)
    samples: dict[str, np.ndarray] = {}
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    notes: list[str] = []
    protocol: dict[str, Any] = {"draws": DRAWS, "false_alarms": FALSE_ALARMS, "read_by": reading.described()}
    new_ids: set[str] = set()
    if items is None:
        missing |= dict.fromkeys((TEXTS, VECTORS, CODES), "no items were given")
    else:
        frame = read_items(_table(items), options=reading.options)
        new_ids = set(frame["item_id"])
        training = TrainingItems.of(source, recommender)
        _require_items(training, recommender)
        chosen, texts = _new_items(frame, training, recommender, notes)
        rows = looked_at(len(chosen), len(training.item_ids), seed=seed)
        ids = [chosen[row] for row in rows]
        encoder = None if recommender.encoder is None else recommender.encoder.as_new()
        found = item_values(ids, [texts[row] for row in rows], training, encoder, seed=seed)
        notes += _free_level_notes(training)
        values |= found.new
        samples |= found.samples
        missing |= _missing_groups(training)
        protocol |= {"items": len(chosen), "items_looked_at": found.num_new, "item_sample": found.size}
        protocol["training_items"] = len(training.item_ids)
    tolerance = None
    if clicks is None:
        missing[CLICKS] = "no clicks were given"
    else:
        log = read_interactions(_table(clicks), options=reading.options)
        seen = click_values(log["item_id"].tolist(), recommender, results, seed=seed)
        values |= seen.new
        samples |= seen.samples
        tolerance = seen.tolerance
        protocol |= {"clicks": len(log), "click_sample": seen.size, "held_out_clicks": seen.source}
        protocol["recall_tolerance"] = tolerance
        notes += _unknown_notes(seen.unknown, new_ids, recommender)
    sides = {name: statistic_of(name)[0].side for name in values}
    limits = limits_of(samples, sides)
    if tolerance is not None:
        limits |= {
            name: limits[name].at_least(tolerance) for name in (UNKNOWN_CLICKS.name, NEW_CLICKS.name) if name in limits
        }
    statistics = [Judgement.of(name, values[name], limits[name]) for name in values]
    statistics.sort(key=lambda own: GROUPS.index(own.group))
    verdict = max((own.status for own in statistics), key=VERDICTS.index)
    return DriftResult(str(source), verdict, statistics, missing, notes, protocol)


def _table(source: Source) -> Source:
    """Return a source that the readers take; a dict of lists becomes a DataFrame."""
    is_dict = isinstance(source, Mapping) and not any(hasattr(part, "to_pandas") for part in source.values())
    return pd.DataFrame(source) if is_dict else source


def _results_of(source: str | Path) -> dict[str, Any] | None:
    """Return the results of a run, or those that were published with a recommender; None where there are none."""
    directory = locate(source)
    for path in (directory / RESULTS, directory.parent / "evaluation" / RESULTS):
        if path.is_file():
            return read_object(path)
    return None


def _new_items(
    frame: pd.DataFrame, training: TrainingItems, recommender: Recommender, notes: list[str]
) -> tuple[list[str], list[str]]:
    """Return ids and texts of the items that training has not seen, or of all where there are no others."""
    encoder = recommender.encoder
    texts = np.array(render_texts(frame, None) if encoder is None else encoder.render(frame), dtype=object)
    is_empty = empty_texts(frame, texts.tolist(), drops=True)
    known = set(training.item_ids)
    is_new = np.array([item not in known for item in frame["item_id"]], dtype=bool) & ~is_empty
    if is_empty.all():
        raise DataError("no item of the table has a text; name other columns, or other fields in vectors.template")
    if is_empty.any():
        notes.append(f"{int(is_empty.sum()):,} items have no text and are left out.")
    if not is_new.any():
        notes.append("All items were part of the training: each is compared with the others.")
        is_new = ~is_empty
    elif is_new.sum() + is_empty.sum() < len(frame):
        left = len(frame) - int(is_new.sum()) - int(is_empty.sum())
        notes.append(f"{left:,} items were part of the training and are left out.")
    return frame["item_id"][is_new].tolist(), texts[is_new].tolist()


def _require_items(training: TrainingItems, recommender: Recommender) -> None:
    """Raise ValueError where new items can't be compared with anything."""
    if (
        training.texts is None
        and training.vectors is None
        and not (training.codings and recommender.encoder is not None)
    ):
        reasons = "; ".join(dict.fromkeys(training.missing.values()))
        raise ValueError(f"the items can't be compared with those of the training: {reasons}; give clicks alone")
    if len(training.item_ids) < MIN_TRAINING:
        raise ValueError(
            f"the training had {len(training.item_ids)} items, at least {MIN_TRAINING} are needed to tell what is usual"
        )


def _missing_groups(training: TrainingItems) -> dict[str, str]:
    """Return why groups of statistics are missing."""
    names = {TEXTS: "texts", VECTORS: "vectors", CODES: "codes"}
    return {group: training.missing[name] for group, name in names.items() if name in training.missing}


def _free_level_notes(training: TrainingItems) -> list[str]:
    """Return that statistics do not cover last levels whose codes only number the items of a prefix."""
    free = [coding for coding in training.codings.values() if not coding.is_whole]
    if not free:
        return []
    return [
        f"The codes of {', '.join(sorted({coding.quantizer.config.model_type for coding in free}))} end with a level "
        "that only tells the items of a prefix apart: it is left out, and so are items with the codes of another item."
    ]


def _unknown_notes(unknown: list[str], new_ids: set[str], recommender: Recommender) -> list[str]:
    """Return what is known of the ids that the catalog does not hold."""
    if not unknown:
        return []
    notes = []
    brought = sum(item in new_ids for item in unknown)
    if brought:
        share = numbers.percent(brought / len(unknown))
        notes.append(f"{share} of the clicks on unknown items are on items of the new table: they are not added yet.")
    mismatch = find_mismatch(pd.Series(unknown), pd.Series(recommender.catalog.item_ids))
    if mismatch is not None:
        ours, theirs = (ascii(text) for text in mismatch.example)
        notes.append(
            f"{mismatch.found:,} of {mismatch.tried:,} unknown ids differ from ids of the catalog only by "
            f"{mismatch.reason}, as {ours} and {theirs}: the clicks may be written in another way than in training."
        )
    return notes


def _reason(statistic: Statistic, label: str, value: float, limits: Limits, status: str) -> str:
    """Return what an unusual value means."""
    is_high = value > limits.usual
    pair = limits.retrain if status == RETRAIN else limits.watch
    limit = pair[1] if is_high else pair[0]

    def shown(number: float | None) -> str:
        return shown_value(number, statistic.unit, limits.usual)

    beyond = "above" if is_high else "below"
    return (
        f"{label[0].upper()}{label[1:]}: {shown(value)}, usual {shown(limits.low)} to {shown(limits.high)}, {status} "
        f"{beyond} {shown(limit)}. {statistic.too_high if is_high else statistic.too_low}"
    )
