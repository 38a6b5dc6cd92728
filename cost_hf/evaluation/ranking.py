"""Full-catalog ranking: the rank of every target, and the metrics that follow from it.

A hit is an item. The SID-level rank (a hit is any item with the target's codes, in the list without repeated SIDs) is
given as well, because published figures use it; it rewards colliding codes, so it is not used to compare methods. With
one target per case every metric is a function of its rank. Whole batches are distributed over processes, so ranks do
not depend on the number of processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from cost_hf.recommenders.rankers import Ranker, takes_user_ids
from cost_hf.semantic_ids.catalog_mask import CatalogMask

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets

BATCH_ROWS = 2**21  # of histories and padding in a batch: 16 MiB


@dataclass(frozen=True, eq=False)
class RankedLists:
    """The ranked lists of M cases, and where their targets are in them.

    Attributes:
        item_rank: 1-based rank of the target, float64 `[M]`, nan where it is not in the list.
        sid_rank: 1-based rank of the target's SID among the distinct SIDs of the list, float64 `[M]`, nan likewise. R
            items may have fewer than R distinct SIDs; the rest of the list is then empty. None for rankers of a run
            without semantic IDs.
        items: the lists, catalog rows, int32 `[M, R]`, -1 where fewer items may be listed. R is the longest list that
            the ranker can make (beams); metrics at higher cutoffs are not defined.
        num_exact: first positions of every list that the search proved to hold the best items, int32 `[M]`; None for
            rankers without certificates.
    """

    item_rank: np.ndarray
    sid_rank: np.ndarray | None
    items: np.ndarray
    num_exact: np.ndarray | None = None

    def __repr__(self) -> str:
        """Return number of cases and length of the lists."""
        return f"RankedLists({len(self)} cases, lists of {self.list_length})"

    def __len__(self) -> int:
        return len(self.item_rank)

    @property
    def list_length(self) -> int:
        """R, the highest cutoff of a metric."""
        return self.items.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the fields by name, ready for safetensors; `from_arrays` is the inverse."""
        fields = {
            "item_rank": self.item_rank,
            "sid_rank": self.sid_rank,
            "items": self.items,
            "num_exact": self.num_exact,
        }
        return {name: values for name, values in fields.items() if values is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RankedLists":
        """Return the lists of which `arrays` are the fields."""
        return cls(arrays["item_rank"], arrays.get("sid_rank"), arrays["items"], arrays.get("num_exact"))


def evaluate_ranker(
    ranker: Ranker,
    targets: "Targets",
    *,
    sid_keys: np.ndarray | None,
    num_items: int,
    exclude_seen: bool,
    top_k: int = 50,
    batch_size: int = 256,
    mask: CatalogMask | None = None,
    description: str = "ranking",
    progress: bool = True,
) -> RankedLists:
    """Rank the whole catalog for every case.

    In a distributed run every process calls this, ranks a part of the batches, and gets the lists of all.

    Args:
        ranker: the ranker to evaluate.
        targets: M cases with one target each.
        sid_keys: group of every catalog row, int `[N]`: equal numbers for items whose model-level codes are equal; None
            where there are no semantic IDs.
        num_items: N, number of catalog rows.
        exclude_seen: forbid the items of a history inside the ranker; a repeated target is then a miss.
        top_k: length of the lists.
        batch_size: cases ranked at once; it bounds memory.
        mask: items that may be listed, the same for all cases; None for all.
        description: label of the progress bar.
        progress: show a progress bar (in the main process).

    Raises:
        ValueError: for no cases, or `sid_keys` of another catalog.
    """
    _check_cases(targets, sid_keys, num_items)
    # on machines without an accelerator a plain PartialState() finds one process, however many torchrun started
    state = PartialState(cpu=not torch.cuda.is_available())
    batches = length_batches(targets.histories.lengths, batch_size)
    own = range(state.process_index, len(batches), state.num_processes)
    is_hidden = not (progress and state.is_main_process)
    parts = [
        (batches[number], *_rank_batch(ranker, targets, batches[number], num_items, exclude_seen, top_k, mask))
        for number in tqdm(own, desc=description, disable=is_hidden, leave=None)  # below another bar it is cleared
    ]
    parts = gather_object(parts)
    order = np.argsort(np.concatenate([part[0] for part in parts]))
    items = _stack_lists([part[1] for part in parts])
    ranked = ranked_lists(items[order], targets.items, sid_keys=sid_keys)
    if any(part[2] is None for part in parts):
        return ranked
    return replace(ranked, num_exact=np.concatenate([part[2] for part in parts])[order])


def ranked_lists(items: np.ndarray, targets: np.ndarray, *, sid_keys: np.ndarray | None) -> RankedLists:
    """Return lists of catalog rows `[M, R]` with the ranks of their targets `[M]`."""
    if sid_keys is None:
        return RankedLists(item_rank=target_ranks(items, targets), sid_rank=None, items=items)
    listed_keys = np.where(items >= 0, sid_keys[items], -1)
    sid_rank = target_ranks(listed_keys, sid_keys[targets], is_counted=is_first_occurrence(listed_keys))
    return RankedLists(item_rank=target_ranks(items, targets), sid_rank=sid_rank, items=items)


def proved_shares(lists: RankedLists, cutoffs: Sequence[int]) -> dict[str, float] | None:
    """Return, for every cutoff k that the lists reach, the share of cases whose first k positions are proved.

    None for rankers without certificates.
    """
    if lists.num_exact is None:
        return None
    reached = [cutoff for cutoff in cutoffs if cutoff <= lists.list_length]
    return {str(cutoff): float((lists.num_exact >= cutoff).mean()) for cutoff in reached}


def per_user_metrics(ranks: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return recall, NDCG and reciprocal rank of every case at every cutoff, float64 `[M]` each.

    With one target the ideal DCG is 1, so NDCG is `1 / log2(1 + rank)`, and recall is the hit rate.

    Args:
        ranks: 1-based, `[M]`, nan for a target that is not in the list.
        cutoffs: list lengths k.

    Returns:
        `recall@k`, `ndcg@k` and `mrr@k` for every cutoff k.

    Examples:
        >>> per_user_metrics(np.array([1, 3, np.nan]), [2, 5])["ndcg@5"].tolist()
        [1.0, 0.5, 0.0]
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    metrics = {}
    for cutoff in cutoffs:
        is_hit = ranks <= cutoff  # nan compares false
        safe = np.where(is_hit, ranks, 1.0)
        metrics[f"recall@{cutoff}"] = is_hit.astype(np.float64)
        metrics[f"ndcg@{cutoff}"] = is_hit / np.log2(1.0 + safe)
        metrics[f"mrr@{cutoff}"] = is_hit / safe
    return metrics


def coverage(items: np.ndarray, cutoff: int, *, num_items: int) -> float:
    """Return the share of the catalog's N items that is in at least one of the lists `[M, R]` cut at `cutoff`.

    Examples:
        >>> coverage(np.array([[0, 1], [0, 2]]), 1, num_items=4)
        0.25
    """
    listed = np.unique(items[:, :cutoff])
    return float((listed >= 0).sum() / num_items)


def target_ranks(lists: np.ndarray, wanted: np.ndarray, *, is_counted: np.ndarray | None = None) -> np.ndarray:
    """Return the 1-based rank of `wanted[m]` in `lists[m]`, float64 `[M]`, nan where it is missing.

    Args:
        lists: `[M, R]`.
        wanted: `[M]`.
        is_counted: entries that count, bool `[M, R]`; all by default.

    Examples:
        >>> target_ranks(np.array([[7, 4, 9], [7, 4, 9]]), np.array([9, 5])).tolist()
        [3.0, nan]
    """
    is_wanted = lists == wanted[:, None]
    columns = is_wanted.argmax(1) if lists.shape[1] else np.zeros(len(lists), dtype=np.int64)
    ranks = columns + 1
    if is_counted is not None and lists.shape[1]:
        ranks = np.take_along_axis(is_counted.cumsum(1), columns[:, None], axis=1)[:, 0]
    return np.where(is_wanted.any(1), ranks, np.nan).astype(np.float64)


def is_first_occurrence(lists: np.ndarray) -> np.ndarray:
    """Return True where a value of `lists` `[M, R]` occurs for the first time in its row; False for -1."""
    order = np.argsort(lists, axis=1, kind="stable")
    ordered = np.take_along_axis(lists, order, axis=1)
    is_new = np.ones(lists.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_first = np.empty_like(is_new)
    np.put_along_axis(is_first, order, is_new, axis=1)
    return is_first & (lists >= 0)


def _check_cases(targets: "Targets", sid_keys: np.ndarray | None, num_items: int) -> None:
    if len(targets) == 0:
        raise ValueError("expected at least one evaluation case, got 0; check the split and data.min_history")
    if sid_keys is not None and len(sid_keys) != num_items:
        raise ValueError(
            f"sid_keys must have one entry per catalog row, expected {num_items!r}, got {len(sid_keys)!r}; take both "
            "from the same catalog"
        )


def length_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the cases of every batch: of similar length, to avoid padding, and fewer where histories are long.

    Args:
        lengths: of the histories, int `[M]`.
        batch_size: most cases of a batch.
    """
    order = np.argsort(lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        end = min(start + batch_size, len(order))
        while end > start + 1 and (end - start) * lengths[order[end - 1]] > BATCH_ROWS:
            end = start + (end - start) // 2
        batches.append(order[start:end])
        start = end
    return batches


def _rank_batch(
    ranker: Ranker,
    targets: "Targets",
    cases: np.ndarray,
    num_items: int,
    exclude_seen: bool,
    top_k: int,
    mask: CatalogMask | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the lists of some cases, catalog rows, int32 `[B, R]`, and how many positions are proved `[B]`."""
    histories = torch.from_numpy(targets.histories_matrix(cases))  # [B, T]
    if exclude_seen:
        mask = CatalogMask(num_items, denied=histories) if mask is None else mask.without(histories)
    extra: dict[str, list[str]] = {}
    if takes_user_ids(ranker):
        extra["user_ids"] = [targets.user_ids[case] for case in cases]
    ranking = ranker.rank(histories, top_k=top_k, mask=mask, **extra)
    certificate = ranking.certificate
    num_exact = None if certificate is None else certificate.num_exact.numpy().astype(np.int32)
    return ranking.items.cpu().numpy().astype(np.int32), num_exact


def _stack_lists(parts: list[np.ndarray]) -> np.ndarray:
    """Stack `[B, R]` blocks; those of a smaller R (a ranker that ran out of items) are padded with -1."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in parts])
