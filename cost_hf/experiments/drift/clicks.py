"""Statistics of a click log after training, and their limits from the held-out clicks that the run was evaluated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.evaluation.slices import head_bound
from cost_hf.experiments.drift.statistics import HEAD_CLICKS, NEW_CLICKS, UNKNOWN_CLICKS
from cost_hf.experiments.drift.thresholds import share_samples
from cost_hf.recommenders.base import Recommender

MAX_SAMPLE = 1_000  # clicks of a sample: a shift that so many do not show is none that training again is worth
MAX_UNSEEN = 0.1  # share of clicks on new items that is worth a look, however uncertain the recall of the run is
METRIC = "recall@10"


@dataclass(frozen=True, eq=False)
class ClickValues:
    """Values of the statistics.

    Attributes:
        new: of the new clicks, by name.
        samples: of D samples of held-out clicks, `[D]` by name.
        size: clicks of a sample.
        tolerance: share of clicks on new items that the run's recall can't tell from none.
        source: what the held-out clicks are, for readers.
        unknown: ids of clicks that the catalog does not hold.
    """

    new: dict[str, float]
    samples: dict[str, np.ndarray]
    size: int
    tolerance: float | None
    source: str
    unknown: list[str]


def click_values(
    item_ids: Sequence[str], recommender: Recommender, results: Mapping[str, Any] | None, *, seed: int
) -> ClickValues:
    """Compare new clicks with those of the training.

    Args:
        item_ids: the item of every click.
        recommender: with the clicks of training in `popularity`.
        results: content of results.json; None where it is not known.
        seed: of the samples.
    """
    catalog = recommender.catalog
    is_known = np.fromiter((item in catalog for item in item_ids), dtype=bool, count=len(item_ids))
    clicks = recommender.popularity
    rows = catalog.rows_of([item for item, known in zip(item_ids, is_known, strict=True) if known])
    is_new = clicks[rows] == 0
    new = {
        UNKNOWN_CLICKS.name: float(1 - is_known.mean()),
        NEW_CLICKS.name: float((is_new.sum() + (~is_known).sum()) / len(item_ids)),
    }
    learned = rows[~is_new]
    if len(learned):
        new[HEAD_CLICKS.name] = float((clicks[learned] > head_bound(clicks)).mean())
    held_out = _held_out(results)
    source = "clicks of the test part" if held_out else "clicks of the training"
    if not held_out:
        total = int(clicks.sum())
        held_out = {"unseen": (0, total), "head": (int(clicks[clicks > head_bound(clicks)].sum()), total)}
    size = min(len(item_ids), MAX_SAMPLE)
    counts = {
        UNKNOWN_CLICKS.name: held_out["unseen"],
        NEW_CLICKS.name: held_out["unseen"],
        HEAD_CLICKS.name: held_out["head"],
    }
    samples = {name: share_samples(*counts[name], size, seed=seed) for name in new}
    unknown = [item for item, known in zip(item_ids, is_known, strict=True) if not known]
    return ClickValues(new, samples, size, _tolerance(results), source, unknown)


def _held_out(results: Mapping[str, Any] | None) -> dict[str, tuple[int, int]]:
    """Return of the test cases how many have a target without a click in training, and one of the head.

    Returns:
        (number, all cases) by `unseen` and `head`; nothing where the results do not have them.
    """
    row: dict[str, Any] = ((results or {}).get("slices") or {}).get(MAIN_ROW) or {}
    slices: dict[str, Any] = row.get("seen_allowed") or next(iter(row.values()), {})
    found = {}
    for name, slice_name, label in (("unseen", "target_in_training", "0"), ("head", "popularity", "head")):
        cases = {key: int(cell["cases"]) for key, cell in (slices.get(slice_name) or {}).items()}
        if not sum(cases.values()):
            return {}
        found[name] = (cases.get(label, 0), sum(cases.values()))
    return found


def _tolerance(results: Mapping[str, Any] | None) -> float | None:
    """Return half the width of the interval of the run's recall, as a share of it, at most `MAX_UNSEEN`.

    As long as fewer clicks than that are on items that the weights have not learned, the recall is within its interval.
    """
    rows: dict[str, Any] = (results or {}).get("rows") or {}
    row: dict[str, Any] = rows.get(MAIN_ROW, {}).get("item", {})
    metrics: dict[str, Any] = row.get("seen_allowed") or next(iter(row.values()), {})
    cell = metrics.get(METRIC) or {}
    if not cell.get("value") or cell.get("low") is None or cell.get("high") is None:
        return None
    return min(MAX_UNSEEN, (cell["high"] - cell["low"]) / 2 / cell["value"])
