"""Items without semantic IDs: rows, flags, titles and vectors, for models that score the whole catalog."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from cost_hf.files import DamagedFileError, atomic_path, content_digest, read_tensors
from cost_hf.semantic_ids.catalog_files import read_item_columns, removed_flags
from cost_hf.semantic_ids.catalog_rows import check_ids
from cost_hf.semantic_ids.item_rows import ItemRows


@dataclass(frozen=True, eq=False)
class ItemList(ItemRows):
    """Items of a recommender without semantic IDs; immutable.

    Attributes:
        item_ids: id of every row.
        removed: rows that may not be recommended, bool `[N]`.
        titles: a title per row, where the licence of the data allows keeping them.
        vectors: frozen item vectors `[N, E]` float32, for models that read them.
    """

    item_ids: tuple[str, ...]
    removed: np.ndarray
    titles: tuple[str | None, ...] | None = None
    vectors: np.ndarray | None = None

    @cached_property
    def version(self) -> str:
        """Digest of all that this list holds, in row order."""
        vectors = [] if self.vectors is None else [self.vectors]
        titles = None if self.titles is None else list(self.titles)
        return content_digest("cost_hf.items.1", list(self.item_ids), self.removed.astype(np.uint8), titles, *vectors)

    @property
    def digest(self) -> str:
        """The catalog digest; without SIDs there is nothing to tell apart from the version."""
        return self.version

    def with_items(
        self,
        item_ids: Sequence[str],
        *,
        vectors: np.ndarray | None = None,
        titles: Sequence[str | None] | None = None,
    ) -> "ItemList":
        """Return the list with more items, none of which it holds, at its end, in item_id order.

        Args:
            vectors: of the items, `[n, E]`, exactly where the list holds vectors.
            titles: of the items, n of them.
        """
        order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
        names = [None if titles is None else titles[place] for place in order]
        table = self.vectors
        if table is not None and vectors is not None:
            table = np.concatenate([table, np.asarray(vectors, dtype=np.float32)[order]])
        return replace(
            self,
            item_ids=(*self.item_ids, *(item_ids[place] for place in order)),
            removed=np.concatenate([self.removed, np.zeros(len(order), dtype=bool)]),
            titles=None if self.titles is None else (*self.titles, *names),
            vectors=table,
        )

    def restored(self, item_ids: Sequence[str]) -> "ItemList":
        """Return the list in which these items, all of which it holds, may be recommended again."""
        return self._flagged(item_ids, False)

    def without_items(self, item_ids: Sequence[str]) -> "ItemList":
        """Return the list in which these items may not be recommended; they keep their rows."""
        return self._flagged(item_ids, True)

    def _flagged(self, item_ids: Sequence[str], is_removed: bool) -> "ItemList":
        removed = self.removed.copy()
        removed[self.rows_of(list(item_ids))] = is_removed
        return replace(self, removed=removed)

    def with_vectors(self, item_ids: Sequence[str], vectors: np.ndarray) -> "ItemList":
        """Return the list with other vectors `[n, E]` of some items."""
        if self.vectors is None:
            return self
        table = self.vectors.copy()
        table[self.rows_of(list(item_ids))] = vectors
        return replace(self, vectors=table)

    def save(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, vectors)."""
        columns = {"item_id": pa.array(self.item_ids, pa.string())}
        if self.titles is not None:
            columns["title"] = pa.array(self.titles, pa.string())
        with atomic_path(Path(directory) / f"{stem}.parquet") as path:
            pq.write_table(pa.table(columns), path)
        tensors = {"removed": self.removed.astype(np.uint8)}
        if self.vectors is not None:
            tensors["vectors"] = np.ascontiguousarray(self.vectors, dtype=np.float32)
        with atomic_path(Path(directory) / f"{stem}.safetensors") as path:
            save_file(tensors, path)

    @classmethod
    def load(cls, directory: str | Path, stem: str) -> "ItemList":
        """Read what `save` wrote; raise OSError or ValueError where that is not there, or not whole."""
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet")
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        vectors = tensors.get("vectors")
        if set(tensors) not in ({"removed"}, {"removed", "vectors"}):
            raise DamagedFileError(f"{source} holds {sorted(tensors)}, expected removed and vectors; copy it again")
        if vectors is not None and (
            vectors.ndim != 2
            or len(vectors) != len(ids)
            or vectors.dtype != np.float32
            or not np.isfinite(vectors).all()
        ):
            raise DamagedFileError(
                f"{source} holds vectors {vectors.dtype} {vectors.shape}, expected finite float32 [{len(ids)}, E]; "
                "copy it again"
            )
        check_ids(ids, rows=len(ids), titles=titles)
        return cls(ids, removed_flags(tensors["removed"], rows=len(ids), source=source), titles, vectors)
