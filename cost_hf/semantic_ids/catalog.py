"""The living list of items and their semantic IDs: the one place where an item, a catalog row and a SID meet.

A catalog never changes; `with_items` and `without_items` return the next one. Weights know no items, so a catalog may
change daily: an existing SID never does, a removed row stays, and the appended level has its size from the
start, so the vocabulary of a generator outlives every update.
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

    Attributes are those of `CatalogTable`. Item ids, titles, codes and vectors may stand in lists, arrays, tensors or
    columns of tables; they belong together by position, whatever index a table has. Whole numbers are ids too: they
    become their digits.
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
    ) -> "Catalog":
        """Build a catalog of codes `[N, L_model]` that exist already.

        Args:
            item_ids: ids of the rows, N of them, all different.
            codes: whole numbers; floats are refused.
            level_sizes: codes per level of `codes`, without the appended one.
            collisions: `append` or `none`; `reassign` and `sinkhorn` need vectors where codes collide.
            quantizer_digest: assignment digest of whatever made the codes; by default one derived from them.

        Raises:
            ValueError: for repeated ids, codes outside their level, a group larger than `append_size`.

        Example:
            >>> from cost_hf import Catalog
            >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], [[0, 1], [1, 0], [1, 0]], level_sizes=(2, 2))
            >>> catalog.codes.tolist()  # the appended level tells desk and chair apart
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
        empty = cls._empty(sizes, collisions, append_size, quantizer_digest)
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
        """Build a catalog of item vectors `[N, E]` coded by a quantizer.

        Args:
            model: a `Quantizer`, or any object with `encode`, `level_sizes`, `level_distances`, `level_vectors`.
            codes: the quantizer's codes of `x` where they are stored; another machine may round a tie differently.
            collisions: `append` one level; `reassign` all but the nearest item of a group to free codes; `sinkhorn`
                spreads them over the free codes of the last level and keeps what collides then; `none` keeps all.
            append_size: codes of the appended level. Items beyond it move to the nearest codes with room (`moved`).
        """
        ids, names = _named(item_ids, titles)
        vectors = _vectors(x, ids)
        sizes = level_size_tuple(model.level_sizes)
        empty = cls._empty(sizes, collisions, append_size, assignment_digest(model))
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
            item_ids: rows wanted, in this order; all of the file by default.
            level_sizes: codes per level; by default the highest code seen plus one.
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

        No existing SID changes. New rows come last, in item_id order, so the order of the arguments does not matter;
        each takes the lowest free suffix of its group. Ids that the catalog holds keep their SID and title whatever the
        arguments say; a removed one comes back with its own.

        Args:
            vectors: of the items, `[n, E]`, where the catalog holds vectors; not looked at elsewhere.

        Raises:
            ValueError: as `from_codes`; where new items collide under `reassign` or `sinkhorn` (use `with_embeddings`);
                where the catalog holds vectors and those of the new items are missing.
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
    ) -> "Catalog":
        """Return the catalog with more items, given their vectors `[n, E]`; as `with_items` otherwise.

        A catalog that holds vectors takes these in as well.

        Raises:
            ValueError: where `model` is not the quantizer of the catalog's codes, or the catalog is full.
        """
        ids, names = _named(item_ids, titles)
        table = _vectors(x, ids)
        digest = assignment_digest(model)
        if digest != self.quantizer_digest:
            raise ValueError(
                f"the catalog's codes have assignment digest {self.quantizer_digest}, this quantizer has {digest}; "
                "load the quantizer that the catalog was made with"
            )
        fresh = self._fresh(ids)
        vectors = table[torch.as_tensor(fresh, dtype=torch.long, device=table.device)]
        codes = encode(model, vectors) if fresh else np.empty((0, self.model_levels), dtype=np.int64)
        return self.restored([item for item in ids if item in self])._with_appended_items(
            [ids[place] for place in fresh],
            codes,
            titles=_take(names, fresh),
            text_digest=text_digest,
            x=vectors,
            model=model,
            vectors=None if self.vectors is None else vectors.float().cpu().numpy(),
        )

    def with_vectors(self, item_ids: Sequence[str], vectors: np.ndarray | torch.Tensor) -> "Catalog":
        """Return the catalog with other vectors `[n, E]` of some items, or with vectors where it holds none.

        Codes stay as they are.

        Args:
            item_ids: ids of the items, n of them; those of all rows where the catalog holds no vectors.
            vectors: whole rows by position.

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for vectors that are not finite, of another width, or missing for some rows.
        """
        ids = item_id_list(item_ids, is_unique=True)
        rows = self.rows_of(ids)
        if self.vectors is None and len(ids) < len(self):
            raise ValueError(
                f"this catalog holds no vectors, so all {len(self)} items need one, got {len(ids)}; give them for all "
                "rows"
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
        """Return the catalog in which these items may not be recommended; their rows and suffixes stay theirs."""
        removed = self.removed.copy()
        removed[self.rows_of(item_id_list(item_ids, is_ordered=False))] = True
        return self if (removed == self.removed).all() else replace(self, removed=removed)

    def restored(self, item_ids: Sequence[str]) -> "Catalog":
        """Return the catalog in which these items, all of which it holds, may be recommended again."""
        rows = self.rows_of(item_id_list(item_ids, is_ordered=False))
        if not self.removed[rows].any():
            return self
        removed = self.removed.copy()
        removed[rows] = False
        return replace(self, removed=removed)

    @classmethod
    def _empty(cls, sizes: tuple[int, ...], policy: str, append_size: int, quantizer_digest: str) -> "Catalog":
        check_policy(policy, append_size)
        levels = (*sizes, append_size) if policy == "append" else sizes
        codes = np.empty((0, len(levels)), dtype=np.int64)
        return cls((), codes, levels, len(sizes), policy, np.empty(0, dtype=bool), quantizer_digest)

    def _fresh(self, item_ids: Sequence[str]) -> list[int]:
        """Return the places of ids without a row, in item_id order."""
        return sorted((place for place, item in enumerate(item_ids) if item not in self), key=item_ids.__getitem__)

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
        """Return the catalog with new rows at its end, in the order given."""
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
            vectors=None if self.vectors is None or vectors is None else np.concatenate([self.vectors, vectors]),
        )


def _named(item_ids: Sequence[str], titles: Sequence[str | None] | None) -> tuple[list[str], list[str | None] | None]:
    """Return ids that may be stored, and their titles, as lists."""
    ids = item_id_list(item_ids, is_unique=True, is_stored=True)
    return ids, None if titles is None else title_list(titles, ids)


def _vectors(x: torch.Tensor | np.ndarray, item_ids: Sequence[str]) -> torch.Tensor:
    """Return item vectors as a tensor `[n, E]`; one that is a tensor stays where it is."""
    table = vector_table(x, item_ids, name="x")
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))


def _take(titles: Sequence[str | None] | None, places: list[int]) -> list[str | None] | None:
    return None if titles is None else [titles[place] for place in places]
