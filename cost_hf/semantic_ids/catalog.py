"""The catalog: items, their rows and their semantic IDs, with updates that never change an existing SID.

A catalog is immutable; `with_items` and `without_items` return a new one. Weights do not depend on items, so a catalog
may be updated daily: existing SIDs are kept, removed rows stay, and the size of the appended level is fixed from the
start, so that the vocabulary of a generator stays valid after every update.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cost_hf.semantic_ids.catalog_files import read_reference
from cost_hf.semantic_ids.catalog_table import CatalogTable, assign_semantic_ids, check_policy, encode
from cost_hf.semantic_ids.digests import assignment_digest, codes_digest
from cost_hf.semantic_ids.growing_rows import with_rows
from cost_hf.semantic_ids.item_ids import (
    check_codes,
    check_ids,
    code_table,
    item_id_list,
    title_list,
    vector_table,
    vectors_of_width,
)
from cost_hf.semantic_ids.options import CatalogOptions as CatalogOptions
from cost_hf.semantic_ids.options import level_size_tuple

DEFAULT_APPEND_SIZE = 256


class Catalog(CatalogTable):
    """Items and their semantic IDs. Build one by `from_codes`, `from_embeddings`, `from_reference` or `load`.

    Attributes are those of `CatalogTable`. Item ids, titles, codes and vectors may be lists, arrays, tensors or columns
    of tables; they are matched by position, never by an index. Ids may be whole numbers, which become their digits.
    """

    @classmethod
    def from_codes(
        cls,
        item_ids: Sequence[str],
        codes: np.ndarray | torch.Tensor,
        *,
        level_sizes: Sequence[int],
        collisions: str = "append",
        append_size: int = DEFAULT_APPEND_SIZE,
        quantizer_digest: str = "",
        titles: Sequence[str | None] | None = None,
        text_digest: str | None = None,
        has_parallel_levels: bool = False,
    ) -> "Catalog":
        """Build a catalog of given codes `[N, L_model]`.

        Args:
            item_ids: ids of the rows, N distinct ones.
            codes: integers `[N, L_model]`; floats are refused.
            level_sizes: codes per level, L_model numbers, without the appended level.
            collisions: `append` or `none`; `reassign`, `min_cost` and `sinkhorn` need vectors if codes collide.
            append_size: number of codes of the appended level.
            quantizer_digest: assignment digest of the quantizer of the codes; by default one derived from the codes.
            titles: a title or None per item.
            text_digest: digest of the item texts, if known.
            has_parallel_levels: whether levels do not depend on each other.

        Raises:
            ValueError: for repeated ids, codes outside their level, a group larger than `append_size`.

        Examples:
            >>> from cost_hf import Catalog
            >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], [[0, 1], [1, 0], [1, 0]], level_sizes=(2, 2))
            >>> catalog.codes.tolist()  # the appended level distinguishes desk and chair
            [[0, 1, 0], [1, 0, 1], [1, 0, 0]]
            >>> catalog.level_sizes
            (2, 2, 256)
            >>> "stool" in catalog.with_items(["stool"], codes=[[0, 0]])
            True
        """
        ids, names = _named(item_ids, titles)
        table = code_table(codes)
        sizes = level_size_tuple(level_sizes)
        check_ids(ids, rows=len(table), titles=names)
        check_codes(table, sizes)
        quantizer_digest = quantizer_digest or codes_digest(ids, table, sizes)
        empty = cls._empty(sizes, collisions, append_size, quantizer_digest, is_parallel=has_parallel_levels)
        return empty._with_appended_items(ids, table, titles=names, text_digest=text_digest)

    @classmethod
    def from_embeddings(
        cls,
        item_ids: Sequence[str],
        x: torch.Tensor | np.ndarray,
        model: Any,
        *,
        codes: np.ndarray | None = None,
        collisions: str = "append",
        append_size: int = DEFAULT_APPEND_SIZE,
        titles: Sequence[str | None] | None = None,
        text_digest: str | None = None,
    ) -> "Catalog":
        """Build a catalog of item vectors `[N, E]` encoded by a quantizer.

        Args:
            item_ids: ids of the rows, N distinct ones.
            x: item vectors, floats `[N, E]`.
            model: a `Quantizer`, or any object with `encode`, `level_sizes`, `level_distances`, `level_vectors`.
            codes: stored codes of `x` `[N, L_model]`, if there are any; another machine may round a tie differently.
            collisions: `append` adds a level; `reassign` moves all but the nearest item of a group to free codes;
                `min_cost` gives all items of a prefix different last codes at the least total distance; `sinkhorn`
                spreads them over the free codes of the last level and keeps remaining collisions; `none` keeps all
                collisions.
            append_size: codes of the appended level. Items beyond it move to the nearest free codes (`moved`).
            titles: a title or None per item.
            text_digest: digest of the item texts, if known.

        Raises:
            ValueError: for repeated ids, vectors that are not finite, or more items than the codes can represent.
        """
        ids, names = _named(item_ids, titles)
        vectors = _vectors(x, ids)
        sizes = level_size_tuple(model.level_sizes)
        is_parallel = getattr(model, "has_parallel_levels", False)
        empty = cls._empty(sizes, collisions, append_size, assignment_digest(model), is_parallel=is_parallel)
        table = encode(model, vectors) if codes is None else code_table(codes)
        check_ids(ids, rows=len(table), titles=names)
        check_codes(table, sizes)
        return empty._with_appended_items(ids, table, titles=names, text_digest=text_digest, x=vectors, model=model)

    @classmethod
    def from_reference(
        cls,
        source: str | Path | pd.DataFrame,
        *,
        collisions: str,
        item_ids: Sequence[str] | None = None,
        titles: Sequence[str | None] | None = None,
        level_sizes: Sequence[int] | None = None,
        append_size: int = DEFAULT_APPEND_SIZE,
    ) -> "Catalog":
        """Build a catalog of published identifiers: a parquet file or DataFrame of `item_id`, `sid` (`["<a_183>", …]`).

        Args:
            source: path or DataFrame.
            collisions: `append` or `none`.
            item_ids: items to keep, in this order; by default all items of the source.
            titles: a title or None per item.
            level_sizes: codes per level; by default the highest code that occurs plus one.
            append_size: codes of the appended level.

        Raises:
            ValueError: for missing columns, repeated ids, items without identifier, or malformed tokens.
        """
        wanted = None if item_ids is None else item_id_list(item_ids, is_unique=True)
        ids, codes = read_reference(source, wanted)
        sizes = codes.max(0) + 1 if level_sizes is None else level_sizes
        return cls.from_codes(
            ids, codes, level_sizes=sizes, collisions=collisions, append_size=append_size, titles=titles
        )

    def with_items(
        self,
        item_ids: Sequence[str],
        *,
        codes: np.ndarray | torch.Tensor,
        titles: Sequence[str | None] | None = None,
        text_digest: str | None = None,
        vectors: np.ndarray | torch.Tensor | None = None,
    ) -> "Catalog":
        """Return the catalog with more items, given their model-level codes `[n, L_model]`.

        No existing SID changes. New rows are appended in item_id order, so the order of the arguments does not matter;
        each gets the lowest free suffix of its group. Items that are in the catalog keep their SID and title; a removed
        one is restored with its SID.

        Args:
            item_ids: ids of the items, n distinct ones.
            codes: integers `[n, L_model]`.
            titles: a title or None per item.
            text_digest: digest of the item texts, if known.
            vectors: of the items, `[n, E]`, required if the catalog has vectors and ignored otherwise.

        Raises:
            ValueError: as `from_codes`; for collisions under `reassign`, `min_cost` or `sinkhorn` (use
                `with_embeddings`); for missing vectors if the catalog has vectors.
        """
        ids, names = _named(item_ids, titles)
        table = code_table(codes)
        if not ids:
            return self
        check_ids(ids, rows=len(table), titles=names)
        check_codes(table, self.level_sizes[: self.model_levels])
        fresh = self._fresh(ids)
        own = None
        if self.vectors is not None and fresh:
            own = vectors_of_width(vectors, ids, width=self.vectors.shape[1])[fresh]
        return self.restored([item for item in ids if item in self])._with_appended_items(
            [ids[place] for place in fresh],
            table[fresh],
            titles=_take(names, fresh),
            text_digest=text_digest,
            vectors=own,
        )

    def with_embeddings(
        self,
        item_ids: Sequence[str],
        x: torch.Tensor | np.ndarray,
        model: Any,
        *,
        titles: Sequence[str | None] | None = None,
        text_digest: str | None = None,
        vectors: np.ndarray | torch.Tensor | None = None,
    ) -> "Catalog":
        """Return the catalog with more items, given their vectors `[n, E]`; as `with_items` otherwise.

        Args:
            item_ids: ids of the items, n distinct ones.
            x: item vectors, floats `[n, E]`.
            model: the quantizer of the catalog.
            titles: a title or None per item.
            text_digest: digest of the item texts, if known.
            vectors: what the catalog stores of the items, `[n, W]`, if it has vectors; `x` by default.

        Raises:
            ValueError: if `model` is not the quantizer of the catalog's codes, or the catalog is full.
        """
        ids, names = _named(item_ids, titles)
        table = _vectors(x, ids)
        digest = assignment_digest(model)
        if digest != self.quantizer_digest:
            raise ValueError(
                f"the catalog's codes have assignment digest {self.quantizer_digest}, this quantizer has {digest}; "
                "load the quantizer that the catalog was built with"
            )
        fresh = self._fresh(ids)
        encoded = table[torch.as_tensor(fresh, dtype=torch.long, device=table.device)]
        codes = encode(model, encoded) if fresh else np.empty((0, self.model_levels), dtype=np.int64)
        own = None
        if self.vectors is not None and fresh:
            stored = table.float().cpu().numpy() if vectors is None else vectors
            own = vectors_of_width(stored, ids, width=self.vectors.shape[1])[fresh]
        return self.restored([item for item in ids if item in self])._with_appended_items(
            [ids[place] for place in fresh],
            codes,
            titles=_take(names, fresh),
            text_digest=text_digest,
            x=encoded,
            model=model,
            vectors=own,
        )

    def with_vectors(self, item_ids: Sequence[str], vectors: np.ndarray | torch.Tensor) -> "Catalog":
        """Return the catalog with other vectors `[n, E]` of some items, or with its first vectors.

        Codes do not change.

        Args:
            item_ids: ids of the items, n distinct ones; all ids of the catalog if it has no vectors.
            vectors: floats `[n, E]`, matched by position.

        Raises:
            KeyError: for an item that is not in the catalog.
            ValueError: for vectors that are not finite, of another width, or missing for some rows.
        """
        ids = item_id_list(item_ids, is_unique=True)
        rows = self.rows_of(ids)
        if self.vectors is None and len(ids) < len(self):
            raise ValueError(
                f"this catalog has no vectors, so all {len(self)} items need one, got {len(ids)}; pass them for all "
                "items"
            )
        if self.vectors is None:
            given = np.asarray(vector_table(vectors, ids), dtype=np.float32)
            table = np.empty_like(given)
        else:
            given = vectors_of_width(vectors, ids, width=self.vectors.shape[1])
            table = self.vectors.copy()
        table[rows] = given
        return replace(self, vectors=table)

    def without_items(self, item_ids: Sequence[str]) -> "Catalog":
        """Return the catalog in which these items are not recommended; their rows and SIDs stay reserved.

        Raises:
            KeyError: for an item that is not in the catalog.
        """
        removed = self.removed.copy()
        removed[self.rows_of(item_id_list(item_ids, is_ordered=False))] = True
        return self if (removed == self.removed).all() else replace(self, removed=removed)

    def restored(self, item_ids: Sequence[str]) -> "Catalog":
        """Return the catalog in which these removed items can be recommended again.

        Raises:
            KeyError: for an item that is not in the catalog.
        """
        rows = self.rows_of(item_id_list(item_ids, is_ordered=False))
        if not self.removed[rows].any():
            return self
        removed = self.removed.copy()
        removed[rows] = False
        return replace(self, removed=removed)

    @classmethod
    def _empty(
        cls, sizes: tuple[int, ...], policy: str, append_size: int, quantizer_digest: str, *, is_parallel: bool
    ) -> "Catalog":
        check_policy(policy, append_size)
        levels = (*sizes, append_size) if policy == "append" else sizes
        codes = np.empty((0, len(levels)), dtype=np.int64)
        removed = np.empty(0, dtype=bool)
        return cls((), codes, levels, len(sizes), policy, removed, quantizer_digest, has_parallel_levels=is_parallel)

    def _fresh(self, item_ids: Sequence[str]) -> list[int]:
        """Return the positions of ids without a row, in item_id order."""
        return sorted((index for index, item in enumerate(item_ids) if item not in self), key=item_ids.__getitem__)

    def _with_appended_items(
        self,
        item_ids: list[str],
        codes: np.ndarray,
        *,
        titles: Sequence[str | None] | None,
        text_digest: str | None,
        x: torch.Tensor | None = None,
        model: Any = None,
        vectors: np.ndarray | None = None,
    ) -> "Catalog":
        """Return the catalog with new rows at its end, in the given order."""
        if not item_ids:
            return self
        sids, moved = assign_semantic_ids(
            self.codes,
            self.item_ids,
            codes,
            item_ids,
            level_sizes=self.level_sizes,
            model_levels=self.model_levels,
            policy=self.policy,
            x=x,
            model=model,
        )
        named = titles is not None or self.titles is not None
        return replace(
            self,
            item_ids=(*self.item_ids, *item_ids),
            codes=np.concatenate([self.codes, sids]),
            removed=np.concatenate([self.removed, np.zeros(len(sids), dtype=bool)]),
            text_digest=text_digest,
            titles=(*(self.titles or [None] * len(self)), *(titles or [None] * len(sids))) if named else None,
            moved=self.moved + moved,
            vectors=None if self.vectors is None or vectors is None else with_rows(self.vectors, vectors),
            columns=self.columns.extended(len(sids)),
        )


def _named(item_ids: Sequence[str], titles: Sequence[str | None] | None) -> tuple[list[str], list[str | None] | None]:
    """Return ids, checked to be storable, and titles as lists."""
    ids = item_id_list(item_ids, is_unique=True, is_stored=True)
    return ids, None if titles is None else title_list(titles, ids)


def _vectors(x: torch.Tensor | np.ndarray, item_ids: Sequence[str]) -> torch.Tensor:
    """Return item vectors as a tensor `[n, E]`; a tensor stays on its device."""
    table = vector_table(x, item_ids, name="x")
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))


def _take(titles: Sequence[str | None] | None, indices: list[int]) -> list[str | None] | None:
    return None if titles is None else [titles[index] for index in indices]
