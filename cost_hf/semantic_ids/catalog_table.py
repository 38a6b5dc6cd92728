"""The table of a catalog: rows of item ids and codes with lookup, assignment, counts, digests and files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from cost_hf.files import DamagedFileError, content_digest
from cost_hf.semantic_ids.catalog_files import HEADER, read_catalog, write_catalog, write_items_table
from cost_hf.semantic_ids.collisions import (
    append_suffixes,
    group_sizes,
    prefix_keys,
    resolve_collisions,
    spread_last_level,
)
from cost_hf.semantic_ids.digests import catalog_digest
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_ids import check_codes, check_ids, vector_table
from cost_hf.semantic_ids.item_list import ItemRows, describe_digest, describe_items
from cost_hf.semantic_ids.min_cost import resolve_at_min_cost
from cost_hf.semantic_ids.options import COLLISION_POLICIES, CatalogOptions, level_size_tuple


@dataclass(frozen=True, eq=False)
class PrefixFeatures:
    """SID prefixes as categories of items, one column per prefix length.

    Attributes:
        ids: int64 `[N, n]`, in catalog row order; column l is the number of the prefix of length l + 1.
        sizes: number of categories of every column, n numbers: rows of an embedding table.
    """

    ids: np.ndarray
    sizes: tuple[int, ...]

    def __repr__(self) -> str:
        return f"PrefixFeatures({len(self.ids)} items, {self.sizes} categories)"


def prefix_features(codes: np.ndarray, level_sizes: Sequence[int], length: int) -> PrefixFeatures:
    """Return SID prefixes `[N, L]` as categories of growing detail that similar items share.

    A ranking model can use them beside, or instead of, item ids: an item without clicks shares prefixes with similar
    items (arXiv 2306.08121). A prefix is numbered by its codes as digits in the mixed radix of the level sizes. The
    number depends only on the codes, so it is the same in every version of a catalog. Hash wide tables, as usual.

    Args:
        codes: SIDs, int64 `[N, L]`.
        level_sizes: codes per level, L numbers.
        length: prefixes of 1 … length codes.

    Raises:
        ValueError: for a length outside 1 … L, or more categories than an int64 counts.
    """
    is_number = isinstance(length, Integral) and not isinstance(length, bool)
    if not is_number or not 1 <= length <= len(level_sizes):
        raise ValueError(f"prefixes have 1 … {len(level_sizes)} codes, got length {length!r:.80}; choose one of these")
    sizes = [int(np.prod([int(size) for size in level_sizes[: end + 1]], dtype=object)) for end in range(length)]
    if sizes[-1] > np.iinfo(np.int64).max:
        raise ValueError(
            f"prefixes of {length} codes have {sizes[-1]} categories, more than an int64 counts; shorten them"
        )
    columns = np.empty((len(codes), length), dtype=np.int64)
    number = np.zeros(len(codes), dtype=np.int64)
    for level in range(length):
        number = number * int(level_sizes[level]) + codes[:, level]
        columns[:, level] = number
    return PrefixFeatures(columns, tuple(sizes))


def check_levels(level_sizes: Sequence[int], *, model_levels: int, policy: str) -> None:
    """Raise ValueError for levels that do not fit the collision policy."""
    if policy not in COLLISION_POLICIES:
        raise ValueError(f"the policy of a catalog is one of {', '.join(COLLISION_POLICIES)}, got {policy!r:.80}")
    if not level_sizes or min(level_sizes) < 1:
        raise ValueError(f"level_sizes must hold one positive number per level, got {tuple(level_sizes)!r:.80}")
    wanted = len(level_sizes) - (policy == "append")
    if model_levels != wanted or wanted < 1:
        raise ValueError(
            f"a catalog of {len(level_sizes)} levels under {policy!r} has {wanted} from the quantizer (1 or more), "
            f"got model_levels={model_levels!r}"
        )


def assign_semantic_ids(
    old_codes: np.ndarray,
    old_ids: Sequence[str],
    new_codes: np.ndarray,
    new_ids: Sequence[str],
    *,
    level_sizes: Sequence[int],
    model_levels: int,
    policy: str,
    x: torch.Tensor | None,
    model: Any,
) -> tuple[np.ndarray, int]:
    """Return the SIDs of new rows, `[n, L]`, and how many of them did not get their own codes.

    Args:
        old_codes: SIDs in use or reserved for removed rows, `[N, L]`; they do not change.
        old_ids: ids of these rows.
        new_codes: model-level codes of the new rows, `[n, L_model]`.
        new_ids: ids of the new rows.
        level_sizes: codes per level, the appended level included.
        model_levels: number L_model of levels from the quantizer.
        policy: of collisions.
        x, model: vectors `[n, E]` and quantizer, by whose distances items move to other codes; None without vectors.

    Raises:
        ValueError: for a policy that needs vectors, or a catalog that is full.
    """
    if policy == "none":
        return new_codes, 0
    sizes = level_sizes[:model_levels]
    codes = np.concatenate([old_codes[:, :model_levels], new_codes])
    is_new = np.arange(len(codes)) >= len(old_codes)
    moved = 0
    if policy == "sinkhorn" and x is not None:
        codes, moved = spread_last_level(codes, is_new, x, model, item_ids=[*old_ids, *new_ids])
    elif policy == "min_cost" and x is not None:
        codes, moved = resolve_at_min_cost(codes, is_new, x, model, item_ids=[*old_ids, *new_ids])
    elif x is not None:
        capacity = level_sizes[-1] if policy == "append" else 1
        codes, moved = resolve_collisions(codes, is_new, x, model, capacity=capacity, item_ids=[*old_ids, *new_ids])
    elif policy != "append":
        _refuse_collisions(codes, is_new, sizes, policy)
    if policy != "append":
        return codes[is_new], moved
    keys = prefix_keys(codes, sizes)
    suffixes = append_suffixes(keys[is_new], new_ids, taken_keys=keys[~is_new], taken_suffixes=old_codes[:, -1])
    if suffixes.max(initial=0) >= level_sizes[-1]:
        row = int(suffixes.argmax())
        raise ValueError(
            f"codes {codes[is_new][row].tolist()} are shared by {int(suffixes[row]) + 1} items, the appended "
            f"level has {level_sizes[-1]} codes and is full; use a larger append_size, or from_embeddings, which can "
            "move items to other codes"
        )
    return np.column_stack([codes[is_new], suffixes]), moved


def check_policy(policy: str, append_size: int) -> None:
    """Raise ValueError for an unknown policy or an appended level without codes."""
    CatalogOptions(collisions=policy, append_size=append_size).validate()


def encode(model: Any, x: torch.Tensor) -> np.ndarray:
    """Return the model-level codes of vectors, `[n, L_model]` int64."""
    device = getattr(model, "device", x.device)
    return model.encode(x.to(device)).cpu().numpy().astype(np.int64)


def collision_report(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, int | float]:
    """Count groups of equal model-level codes `[n, L_model]`; `collided_share` is the share of items in such groups."""
    sizes = group_sizes(codes, level_sizes)
    shared = sizes > 1
    return {
        "colliding_groups": round(float((1 / sizes[shared]).sum())),
        "collided_share": float(shared.mean()) if len(codes) else 0.0,
        "largest_group": int(sizes.max(initial=0)),
    }


def num_equal_levels(same: np.ndarray, *, are_parallel: bool) -> np.ndarray:
    """Return how many codes semantic IDs have in common: leading ones, or any where levels are parallel.

    Args:
        same: whether codes are equal, bool `[…, L]`.
        are_parallel: whether levels do not depend on each other.

    Returns:
        int64 `[…]`.
    """
    return (same if are_parallel else np.logical_and.accumulate(same, axis=-1)).sum(axis=-1)


def _refuse_collisions(codes: np.ndarray, is_new: np.ndarray, sizes: Sequence[int], policy: str) -> None:
    collides = is_new & (group_sizes(codes, sizes) > 1)
    if collides.any():
        example = codes[collides][0].tolist()
        raise ValueError(
            f"{int(collides.sum())} items collide, first with codes {example}, and collisions={policy!r} needs vectors "
            "to move them; use from_embeddings / with_embeddings, or collisions='append'"
        )


@dataclass(frozen=True, eq=False)
class CatalogTable(ItemRows):
    """Item ids, codes and flags, row by row; immutable.

    Attributes:
        item_ids: id of every row.
        codes: SIDs, int64 `[N, L]`, read-only; L counts the appended level.
        level_sizes: codes per level, the appended level included.
        model_levels: leading levels from the quantizer; L, or L - 1 under `append`.
        policy: collision policy: `append`, `reassign`, `min_cost`, `sinkhorn` or `none`.
        removed: rows that are not recommended, bool `[N]`, read-only.
        quantizer_digest: assignment digest; unchanged by updates.
        text_digest: digest of the item texts that the codes were computed from, if known.
        titles: a title per row, if the licence of the data allows keeping them.
        moved: number of items that did not get their own codes, by overflow or reassignment.
        vectors: item vectors, float32 `[N, E]`, read-only, for models that take them as input beside the codes.
        columns: values of every row, such as its price, likewise only where the licence allows it.
        has_parallel_levels: whether levels do not depend on each other, so that leading codes say no more of an item
            than others: what items have in common is then the number of equal codes, and no prefix.
    """

    item_ids: tuple[str, ...]
    codes: np.ndarray
    level_sizes: tuple[int, ...]
    model_levels: int
    policy: str
    removed: np.ndarray
    quantizer_digest: str
    text_digest: str | None = None
    titles: tuple[str | None, ...] | None = None
    moved: int = 0
    vectors: np.ndarray | None = None
    columns: ItemColumns = field(default_factory=ItemColumns)
    has_parallel_levels: bool = False

    def __post_init__(self) -> None:
        codes = np.array(self.codes, dtype=np.int64)
        removed = np.array(self.removed, dtype=bool)
        codes.flags.writeable = removed.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "removed", removed)
        object.__setattr__(self, "level_sizes", level_size_tuple(self.level_sizes))
        check_ids(self.item_ids, rows=len(codes), titles=self.titles)
        self.columns.check_rows(len(codes))
        check_levels(self.level_sizes, model_levels=self.model_levels, policy=self.policy)
        check_codes(codes, self.level_sizes)
        if removed.shape != (len(codes),):
            raise ValueError(f"removed must be [{len(codes)}], one flag per item, got {removed.shape}")
        if self.vectors is not None:
            vectors = np.ascontiguousarray(vector_table(self.vectors, self.item_ids), dtype=np.float32)
            # read-only vectors of an earlier catalog are shared, not copied
            vectors = vectors.copy() if vectors.flags.writeable else vectors
            vectors.flags.writeable = False
            object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        levels = "x".join(map(str, self.level_sizes)) + (" in parallel" if self.has_parallel_levels else "")
        vectors = "" if self.vectors is None else f"vectors of width {self.vectors.shape[1]}, "
        return (
            f"{type(self).__name__}({describe_items(self)}, levels {levels}, collisions={self.policy!r}, {vectors}"
            f"{describe_digest(self)})"
        )

    @cached_property
    def digest(self) -> str:
        """The catalog digest: ids, codes, removed flags and vectors, independent of the row order."""
        return catalog_digest(self.item_ids, self.codes, self.removed, self.vectors)

    @cached_property
    def items_version(self) -> str:
        """Digest of all content but the columns: ids, codes, removed flags, titles and vectors, in row order."""
        titles = None if self.titles is None else list(self.titles)
        vectors = [] if self.vectors is None else [self.vectors]
        return content_digest(
            "cost_hf.catalog_version.1",
            list(self.item_ids),
            self.codes,
            self.removed.astype(np.uint8),
            titles,
            *vectors,
        )

    @cached_property
    def sid_keys(self) -> np.ndarray:
        """Group of equal model-level codes of each row, as a number, `[N]` int64."""
        keys = prefix_keys(self.codes[:, : self.model_levels], self.level_sizes)
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def report(self) -> dict[str, int | float]:
        """Counts over the items that are not removed; a group is all items with equal model-level codes.

        `collided_share` is the share of items in groups of two or more, `moved` counts items that did not get their own
        codes (overflow under `append`, collisions under `reassign`, `min_cost` and `sinkhorn`).
        """
        live = self.codes[~self.removed, : self.model_levels]
        counts = {"items": len(live), "removed": int(self.removed.sum()), "moved": self.moved}
        return {**counts, **collision_report(live, self.level_sizes)}

    def save_items(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.safetensors` and `<stem>.parquet`; equal catalogs give equal bytes."""
        fields = [name for name in HEADER if name != "ids_digest"]
        write_catalog(
            directory,
            stem,
            item_ids=self.item_ids,
            titles=self.titles,
            codes=self.codes,
            removed=self.removed,
            vectors=self.vectors,
            header={name: getattr(self, name) for name in fields},
        )

    def to_parquet(self, path: str | Path) -> None:
        """Write the items that are not removed as a table.

        It has `item_id`, `title` where there are titles, `sid` (token texts), `code_1` … `code_L`, which
        `Catalog.from_reference` reads back, and the columns of the catalog; one with a name among these, or `text`,
        begins with `column_`.
        """
        write_items_table(path, self)

    def num_shared_levels(self, codes: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return how many codes items share with given ones: leading ones, or any where levels are parallel.

        An appended level counts among leading ones alone: it only tells apart items whose other codes are equal.

        Args:
            codes: of the first levels, `[l]`.
            rows: of the items, n of them; all by default.

        Returns:
            int64 `[n]`.
        """
        same = self.codes[rows, : len(codes)] == np.asarray(codes, dtype=np.int64)
        if self.has_parallel_levels:
            same = same[:, : self.model_levels]
        return num_equal_levels(same, are_parallel=self.has_parallel_levels)

    def prefix_features(self, length: int) -> PrefixFeatures:
        """Return the prefixes of 1 … `length` codes of every SID as categories for a ranking model.

        Raises:
            ValueError: for a length outside 1 … L, more categories than an int64 counts, or parallel levels.
        """
        if self.has_parallel_levels:
            raise ValueError(
                "prefixes are categories of growing detail, and the levels of this catalog do not depend on each "
                "other; use its codes, each as a category of its own"
            )
        return prefix_features(self.codes, self.level_sizes, length)

    @classmethod
    def load_items(cls, directory: str | Path, stem: str) -> Self:
        """Read what `save_items` wrote; raise FileNotFoundError for missing and ValueError for damaged files."""
        fields = read_catalog(directory, stem)
        try:
            return cls(**fields)
        except ValueError as error:
            raise DamagedFileError(f"{Path(directory) / stem}.safetensors is not a valid catalog: {error}") from error
