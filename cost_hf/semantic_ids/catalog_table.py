"""The table of a catalog: rows of item ids and codes, looked up, counted, digested, saved and loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from cost_hf.files import DamagedFileError, content_digest
from cost_hf.semantic_ids.catalog_files import read_catalog, write_catalog, write_items_table
from cost_hf.semantic_ids.catalog_rows import check_ids, check_levels, collision_report
from cost_hf.semantic_ids.collisions import prefix_keys
from cost_hf.semantic_ids.digests import catalog_digest
from cost_hf.semantic_ids.features import PrefixFeatures, prefix_features
from cost_hf.semantic_ids.item_ids import check_codes, vector_table
from cost_hf.semantic_ids.item_rows import ItemRows, describe_digest, describe_items
from cost_hf.semantic_ids.sizes import level_size_tuple


@dataclass(frozen=True, eq=False)
class CatalogTable(ItemRows):
    """Item ids, codes and flags, row by row; immutable.

    Attributes:
        item_ids: id of every row.
        codes: SIDs, int64 `[N, L]`, read-only; L counts the appended level.
        level_sizes: codes per level, the appended level included.
        model_levels: leading levels from the quantizer; L, or L - 1 under `append`.
        policy: `append`, `reassign`, `sinkhorn` or `none`.
        removed: rows that may not be recommended, bool `[N]`, read-only.
        quantizer_digest: assignment digest; kept through updates.
        text_digest: digest of the texts that the codes were made of, if known.
        titles: a title per row, where the licence of the data allows keeping them.
        moved: items that did not get their own codes, by overflow or reassignment.
        vectors: item vectors, float32 `[N, E]`, read-only, for models that read them beside the codes.
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

    def __post_init__(self) -> None:
        codes, removed = np.array(self.codes, dtype=np.int64), np.array(self.removed, dtype=bool)
        codes.flags.writeable = removed.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "removed", removed)
        object.__setattr__(self, "level_sizes", level_size_tuple(self.level_sizes))
        check_ids(self.item_ids, rows=len(codes), titles=self.titles)
        check_levels(self.level_sizes, model_levels=self.model_levels, policy=self.policy)
        check_codes(codes, self.level_sizes)
        if removed.shape != (len(codes),):
            raise ValueError(f"removed must be [{len(codes)}], one flag per item, got {removed.shape}")
        if self.vectors is not None:
            vectors = np.ascontiguousarray(vector_table(self.vectors, self.item_ids), dtype=np.float32)
            # what nobody can change any more, that of an earlier state, is shared
            vectors = vectors.copy() if vectors.flags.writeable else vectors
            vectors.flags.writeable = False
            object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        levels = "x".join(map(str, self.level_sizes))
        vectors = "" if self.vectors is None else f"vectors of width {self.vectors.shape[1]}, "
        return (
            f"{type(self).__name__}({describe_items(self)}, levels {levels}, collisions={self.policy!r}, {vectors}"
            f"{describe_digest(self)})"
        )

    @cached_property
    def digest(self) -> str:
        """The catalog digest: ids, codes, removed flags and vectors, whatever the row order."""
        return catalog_digest(self.item_ids, self.codes, self.removed, self.vectors)

    @cached_property
    def version(self) -> str:
        """Digest of all that the catalog holds: ids, codes, removed flags, titles and vectors, row by row."""
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
        """Number of each row's group of equal model-level codes, `[N]` int64."""
        keys = prefix_keys(self.codes[:, : self.model_levels], self.level_sizes)
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def report(self) -> dict[str, int | float]:
        """Counts over the items that are not removed; a group is the items of equal model-level codes.

        `collided_share` is the share of items in groups of two or more, `moved` counts items that did not get their own
        codes (overflow under `append`, collisions under `reassign`).
        """
        live = self.codes[~self.removed, : self.model_levels]
        counts = {"items": len(live), "removed": int(self.removed.sum()), "moved": self.moved}
        return {**counts, **collision_report(live, self.level_sizes)}

    def save(self, directory: str | Path, stem: str = "catalog") -> None:
        """Write `<stem>.safetensors` and `<stem>.parquet`; equal catalogs give equal bytes."""
        fields = ("level_sizes", "model_levels", "policy", "quantizer_digest", "text_digest", "moved")
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

        Its columns are `item_id`, `title` where there are titles, `sid` (token texts), and `code_1` … `code_L`;
        `Catalog.from_reference` reads it back.
        """
        write_items_table(path, self)

    def prefix_features(self, length: int) -> PrefixFeatures:
        """Return the first `length` prefixes of every SID as categories for a ranking model; no generator is needed."""
        return prefix_features(self.codes, self.level_sizes, length)

    @classmethod
    def load(cls, directory: str | Path, stem: str = "catalog") -> Self:
        """Read what `save` wrote; raise FileNotFoundError or ValueError where that is not there, or not whole."""
        fields = read_catalog(directory, stem)
        try:
            return cls(**fields)
        except ValueError as error:
            raise DamagedFileError(f"{Path(directory) / stem}.safetensors holds no catalog: {error}") from error
