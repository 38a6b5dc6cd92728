"""Evaluation of a recommender on histories and target items of the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from cost_hf.data.row_lists import RowLists
from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import RankedLists, evaluate_ranker, ranked_lists
from cost_hf.evaluation.results import MAIN_ROW, build_results
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.rankers import Ranker
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_ids import item_id_list, ordered_list
from cost_hf.semantic_ids.item_list import ItemList, ItemRows
from cost_hf.semantic_ids.options import MAX_RANKED, whole_number

CHOICES = {"on_unknown": ("error", "drop"), "on_empty": ("error", "popularity")}


def evaluate(
    recommender: Recommender | Ranker,
    histories: Sequence[Sequence[str]],
    targets: Sequence[str],
    *,
    cutoffs: Sequence[int] = (5, 10, 20),
    exclude_seen: bool = True,
    on_unknown: str = "error",
    on_empty: str = "error",
    user_ids: Sequence[str] | None = None,
    item_ids: Sequence[str] | None = None,
    batch_size: int = 64,
    bootstrap_draws: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate a recommender on cases with one target each: does it recommend the item that the user chose next?

    The whole catalog is ranked for every history, as `recommend` does with the same options. Removed items are never
    listed. Under `accelerate launch` the cases are shared among the processes, and each gets the result.

    Args:
        recommender: a recommender of any kind, or a `Ranker` over the rows `item_ids`.
        histories: M lists of item ids, oldest first.
        targets: the next item of every history, M item ids.
        cutoffs: list lengths k of the metrics.
        exclude_seen: never recommend items of the history; a target in its own history is then a miss.
        on_unknown: `error`, or `drop`: items of a history that the catalog does not hold are left out, and targets that
            it does not hold are misses (leaving these cases out would flatter the result).
        on_empty: `error`, or `popularity`: empty histories are answered with the most clicked items of training.
        user_ids: user of every case, M ids: intervals are over users, and generators with user tokens need them. By
            default every case has a user of its own.
        item_ids: ids of the catalog rows, N of them, for a ranker that has no attribute `item_ids`.
        batch_size: histories ranked at once.
        bootstrap_draws: number of bootstrap samples.
        seed: of the bootstrap.
        progress: show a progress bar.

    Returns:
        Plain values:

        * `metrics`: `recall@k`, `ndcg@k` and `mrr@k` as `{value, low, high}`, the mean over cases with its 95 %
          bootstrap interval over users; `coverage@k`, the share of the available items that is recommended at all,
          without bounds. Values are None above the longest list that the recommender can make.
        * `sid_metrics`, for catalogs with semantic IDs: the same where every item with the target's semantic ID is a
          hit. Published figures use it; it rewards collisions, so it does not compare methods.
        * `cases` and `users`: their numbers.
        * `repeated_targets` and `unavailable_targets`: share of the cases whose target is in its history, and whose
          target is not in the catalog or was removed from it.

    Raises:
        KeyError: for an item that the catalog does not hold.
        ValueError: for no cases, lists of different length, an empty history, or an option that does not exist.

    Examples:
        >>> import numpy as np
        >>> from cost_hf.recommenders.rankers import ScoringRanker
        >>> class Fixed:  # or a recommender: Recommender.from_pretrained("runs/mine")
        ...     def scores(self, histories):  # [B, T] -> [B, N]
        ...         return np.tile([3.0, 2.0, 1.0], (len(histories), 1))
        >>> ranker = ScoringRanker(Fixed(), popularity=np.ones(3), item_ids=["a", "b", "c"])
        >>> found = evaluate(ranker, [["a"], ["b"]], ["b", "c"], cutoffs=[1, 2])
        >>> found["metrics"]["recall@1"]["value"], found["metrics"]["recall@2"]["value"]
        (0.5, 1.0)
    """
    for name, value in (("on_unknown", on_unknown), ("on_empty", on_empty)):
        if value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}, got {value!r:.80}")
    lengths = _cutoffs(cutoffs)
    whole_number(batch_size, "batch_size")
    whole_number(bootstrap_draws, "bootstrap_draws")
    system = _system(recommender, item_ids, max(lengths))
    cases = _cases(system, histories, targets, user_ids, on_unknown)
    items = _lists(
        system,
        cases,
        max(lengths),
        exclude_seen=exclude_seen,
        on_empty=on_empty,
        batch_size=batch_size,
        progress=progress,
    )
    is_unavailable = (cases.items < 0) | system.catalog.removed[cases.items]
    ranked = _without_unavailable(ranked_lists(items, cases.items, sid_keys=system.sid_keys), is_unavailable)
    seen = "seen_excluded" if exclude_seen else "seen_allowed"
    results = build_results(
        {(MAIN_ROW, seen): ranked},
        user_ids=cases.user_ids,
        num_items=int((~system.catalog.removed).sum()),
        cutoffs=lengths,
        draws=bootstrap_draws,
        seed=seed,
    )
    row = results["rows"][MAIN_ROW]
    return {
        "metrics": row["item"][seen],
        **({"sid_metrics": row["sid"][seen]} if "sid" in row else {}),
        "cases": len(cases),
        "users": len(set(cases.user_ids)),
        "repeated_targets": float(cases.repeated().mean()),
        "unavailable_targets": float(is_unavailable.mean()),
    }


@dataclass(frozen=True, eq=False)
class _System:
    """What is evaluated: a ranker, and what is known about the catalog rows that it ranks.

    Attributes:
        ranker: makes the lists.
        catalog: item ids of the rows, N of them.
        sid_keys: group of every row, `[N]`, where there are semantic IDs.
        mask: items that may be listed; None for all.
        popular: available rows, most clicked first; None where clicks are not known.
        needs_user_ids: whether it was trained with user tokens.
    """

    ranker: Ranker
    catalog: ItemRows
    sid_keys: np.ndarray | None = None
    mask: CatalogMask | None = None
    popular: np.ndarray | None = None
    needs_user_ids: bool = False


def _system(recommender: Recommender | Ranker, item_ids: Sequence[str] | None, top_k: int) -> _System:
    if isinstance(recommender, Recommender):
        if item_ids is not None:
            raise ValueError("item_ids is for rankers; a recommender has those of its catalog: leave item_ids out")
        snapshot = recommender.snapshot
        order = snapshot.popularity_order
        return _System(
            recommender.ranker_for(top_k, snapshot),
            snapshot.catalog,
            recommender.sid_keys,
            snapshot.base_mask(None, None),
            order[~snapshot.catalog.removed[order]],
            recommender.needs_user_ids,
        )
    if not hasattr(recommender, "rank"):
        raise ValueError(
            f"expected a recommender or a ranker (an object with `rank`), got {type(recommender).__name__}; load one "
            "with Recommender.from_pretrained, or wrap a scorer in ScoringRanker"
        )
    ids = getattr(recommender, "item_ids", None) if item_ids is None else item_ids
    if ids is None:
        raise ValueError(
            f"{type(recommender).__name__} ranks catalog rows without knowing their ids; pass item_ids=, one per row"
        )
    rows = tuple(item_id_list(ids))
    return _System(recommender, ItemList(rows, np.zeros(len(rows), dtype=bool)))


def _cutoffs(cutoffs: Sequence[int]) -> list[int]:
    members = ordered_list(cutoffs, name="cutoffs", what="list lengths")
    if not members:
        raise ValueError("cutoffs must hold at least one list length, got none; pass for example cutoffs=[10]")
    return sorted({whole_number(member, "cutoffs", most=MAX_RANKED) for member in members})


def _cases(
    system: _System,
    histories: Sequence[Sequence[str]],
    targets: Sequence[str],
    user_ids: Sequence[str] | None,
    on_unknown: str,
) -> Targets:
    """Return the cases in catalog rows; a target that the catalog does not hold is -1."""
    entries = ordered_list(histories, name="histories", what="histories, each a list of item ids")
    batch = [item_id_list(entry, name=f"history {number}") for number, entry in enumerate(entries)]
    wanted = item_id_list(targets, name="targets")
    if len(batch) != len(wanted) or not batch:
        raise ValueError(
            f"expected one target per history and at least one case, got {len(batch)} histories and {len(wanted)} "
            "targets"
        )
    if user_ids is None and system.needs_user_ids:
        raise ValueError("this generator was trained with user tokens and needs one user id per case; pass user_ids=")
    users = list(map(str, range(len(batch)))) if user_ids is None else item_id_list(user_ids, name="user_ids")
    if len(users) != len(batch):
        raise ValueError(f"expected one user id per case, got {len(users)} for {len(batch)} cases")
    catalog = system.catalog
    if on_unknown == "error":
        try:
            catalog.rows_of([*chain.from_iterable(batch), *wanted])
        except KeyError as error:
            raise KeyError(f"{error.args[0]}, or pass on_unknown='drop'") from None
    rows = [
        np.asarray(catalog.rows_of([item for item in history if item in catalog]), dtype=np.int64) for history in batch
    ]
    items = np.array([catalog.row_of(item) if item in catalog else -1 for item in wanted], dtype=np.int64)
    return Targets(np.asarray(users, dtype=object), RowLists.of(rows), items)


def _lists(
    system: _System, cases: Targets, top_k: int, *, exclude_seen: bool, on_empty: str, batch_size: int, progress: bool
) -> np.ndarray:
    """Return the recommended catalog rows of every case, int32 `[M, R]`, -1 where fewer are available."""
    is_empty = cases.histories.lengths == 0
    if is_empty.any() and (on_empty == "error" or system.popular is None):
        number = int(is_empty.argmax())
        remedy = "leave the case out" if system.popular is None else "leave the case out, or pass on_empty='popularity'"
        raise ValueError(f"history {number} has no item that the catalog holds; {remedy}")
    filled = np.flatnonzero(~is_empty)
    items = np.full((len(cases), top_k), -1, dtype=np.int32)
    if len(filled):
        ranked = evaluate_ranker(
            system.ranker,
            cases.take(filled),
            sid_keys=None,
            num_items=len(system.catalog),
            exclude_seen=exclude_seen,
            top_k=top_k,
            batch_size=batch_size,
            mask=system.mask,
            progress=progress,
        )
        items = items[:, : ranked.list_length]
        items[filled] = ranked.items
    if system.popular is not None:
        best = system.popular[: items.shape[1]]
        items[np.flatnonzero(is_empty)[:, None], np.arange(len(best))] = best
    return items


def _without_unavailable(ranked: RankedLists, is_unavailable: np.ndarray) -> RankedLists:
    """Return the lists with no rank for targets that can't be recommended."""
    sid_rank = None if ranked.sid_rank is None else np.where(is_unavailable, np.nan, ranked.sid_rank)
    return RankedLists(np.where(is_unavailable, np.nan, ranked.item_rank), sid_rank, ranked.items)
