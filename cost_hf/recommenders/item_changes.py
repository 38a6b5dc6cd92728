"""Changes of a catalog that a request asks for, made by one step: all of them, or none.

Items come as objects with the columns of the item table that a run was trained on, and are read by the same options. A
change of a text encodes the whole text again: the columns of it that a request does not have are those of the catalog.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa

from cost_hf.data.cells import in_forms
from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import empty_texts
from cost_hf.data.tables import read_items
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.requests import BadRequest, ChangeRequest
from cost_hf.semantic_ids.item_columns import ITEM_ID, LISTS, TEXTS, TITLE


class ItemChanges:
    """Applies requests to the catalog of a recommender.

    Args:
        recommender: whose catalog is changed.
        options: data section of its run, by which items are read; the defaults where the run is not known.
    """

    def __init__(self, recommender: Recommender, options: DataOptions):
        self.recommender = recommender
        self.options = replace(options, on_duplicate_item="error", on_bad_row="error")

    def apply(self, request: ChangeRequest) -> dict[str, Any]:
        """Make the changes in memory, as one step of `rollback`.

        Returns:
            Ids as JSON: items that were `added`, `restored` (removed ones that return), `known` (asked to be added, and
            left as they are), `updated` and `removed`; how many of the updated ones `would_differ` in their codes; the
            `ignored_columns` of added items; and the digest of the `catalog`.

        Raises:
            BadRequest: for an item or value that can't be taken; the field is named, and nothing has changed.
        """
        before = self.recommender.catalog
        answer: dict[str, Any] = {name: [] for name in ("added", "restored", "known", "updated", "removed")}
        answer |= {"would_differ": 0, "ignored_columns": []}
        with self.recommender.transaction() as draft:
            if request.add:
                frame = self._read("add", request.add)
                answer["ignored_columns"] = self._add(draft, frame)
                for item in frame[ITEM_ID]:
                    is_removed = item in before and before.removed[before.row_of(item)]
                    state = "added" if item not in before else "restored" if is_removed else "known"
                    answer[state].append(item)
            for numbers, frame in self._tables(request.update):
                self._check_held(draft, frame, numbers)
                answer["would_differ"] += self._update(draft, frame, f"update[{numbers[0]}]")
                answer["updated"] += frame[ITEM_ID].tolist()
            if request.remove:
                with _naming("remove"):
                    answer["removed"] = self._remove(draft, request.remove)
        return answer | {"catalog": self.recommender.catalog.version}

    def _read(self, place: str, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        with _naming(place):
            # objects, because a table of few items does not show the types of its columns
            return read_items(pd.DataFrame([dict(record) for record in records], dtype=object), options=self.options)

    def _tables(self, records: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], pd.DataFrame]]:
        """Return tables of the records that have the same fields, since a field that is left out stays.

        Each has the positions of its records in the request.
        """
        groups: dict[frozenset[str], list[int]] = {}
        for number, record in enumerate(records):
            groups.setdefault(frozenset(record), []).append(number)
        tables = [
            (numbers, self._read(f"update[{numbers[0]}]", [records[number] for number in numbers]))
            for numbers in groups.values()
        ]
        seen: set[str] = set()
        for numbers, frame in tables:
            for number, item in zip(numbers, frame[ITEM_ID], strict=True):
                if item in seen:
                    raise BadRequest(f"update[{number}]", f"{item!r:.80} is in the list twice; send one object an item")
                seen.add(item)
        return tables

    def _add(self, draft: Recommender, frame: pd.DataFrame) -> list[str]:
        """Add items; return the columns that are used for nothing."""
        if "texts" not in draft.new_item_inputs:
            raise BadRequest(
                "add",
                f"this recommender of kind {draft.kind} takes no new items by their texts (ids alone, codes from "
                "elsewhere, or a copy without text encoder); train again, or load the run directory",
            )
        held = draft.catalog.columns
        with _naming("add"):
            texts = self._texts(draft, frame)
            draft.add_items(
                frame[ITEM_ID].tolist(),
                texts,
                titles=item_titles(frame),
                columns=self._columns(draft, frame),
            )
            used = {ITEM_ID, TITLE, *held.names, *draft.item_texts.text_columns(frame)}
        return [name for name in frame.columns if name not in used]

    def _update(self, draft: Recommender, frame: pd.DataFrame, place: str) -> int:
        """Change items; return how many would have other codes now."""
        catalog = draft.catalog
        fields = self._text_fields(draft)
        with _naming(place):
            for name in frame.columns:
                if name not in (ITEM_ID, TITLE, *fields):
                    catalog.columns.require(name, what="the object")
            if set(frame.columns) == {ITEM_ID}:
                raise BadRequest(place, "expected columns of the item that are to change, got its id alone")
            texts = None
            changed = fields & set(frame.columns)
            # without vectors of texts, columns that are kept change nothing but themselves
            if changed and (draft.carries_text_vectors or not changed <= set(catalog.columns.names)):
                texts = self._texts(draft, self._whole(draft, frame, place))
            # values alone take milliseconds, titles as long as the catalog is
            titles = self._titles(draft, frame) if texts is not None or TITLE in frame else None
            return draft.update_items(
                frame[ITEM_ID].tolist(), texts, titles=titles, columns=self._columns(draft, frame)
            ).would_differ

    def _titles(self, draft: Recommender, frame: pd.DataFrame) -> list[str | None] | None:
        """Return the titles of changed items, those that the catalog has for a table without; None without titles."""
        held = draft.catalog.titles
        if held is None or TITLE in frame:
            return None if held is None else item_titles(frame)
        return [held[row] for row in draft.catalog.rows_of(frame[ITEM_ID].tolist()).tolist()]

    def _remove(self, draft: Recommender, item_ids: Sequence[str]) -> list[str]:
        """Remove items; return those that were not removed before."""
        ids = [in_forms(item, self.options.normalize_ids) for item in item_ids]
        before = draft.catalog
        draft.remove_items(ids)
        return [item for item in dict.fromkeys(ids) if not before.removed[before.row_of(item)]]

    def _text_fields(self, draft: Recommender) -> set[str]:
        """Return the columns whose change is one of the text."""
        named = draft.item_texts.named_columns
        if named is not None:
            return named
        # the text is made of all text columns, those among them that the catalog does not keep
        columns = draft.catalog.columns
        lists = [name for name in columns.of_kind(LISTS) if pa.types.is_string(columns.arrays[name].type.value_type)]
        return {TITLE, *columns.of_kind(TEXTS), *lists, *self.options.exclude_columns}

    def _whole(self, draft: Recommender, frame: pd.DataFrame, place: str) -> pd.DataFrame:
        """Return items with the columns of their texts that the request does not have, as the catalog has them."""
        catalog = draft.catalog
        rows = catalog.rows_of(frame[ITEM_ID].tolist()).tolist()
        held = {ITEM_ID: frame[ITEM_ID]}
        if catalog.titles is not None:
            held[TITLE] = pd.Series([catalog.titles[row] for row in rows], dtype=object)
        for name in catalog.columns.names:
            held[name] = pd.Series([catalog.columns.value(name, row) for row in rows], dtype=object)
        whole = held | {name: frame[name] for name in frame.columns}
        named = draft.item_texts.named_columns
        needed = self.options.exclude_columns if named is None else named
        missing = sorted(set(needed) - set(whole))
        if missing:
            raise BadRequest(
                place,
                f"the text of an item is made of {draft.item_texts.made_of}, and the catalog does not keep "
                f"{', '.join(missing)}; send "
                f"{'it' if len(missing) == 1 else 'them'}, too",
            )
        return pd.DataFrame(whole)

    def _check_held(self, draft: Recommender, frame: pd.DataFrame, numbers: Sequence[int]) -> None:
        for number, item in zip(numbers, frame[ITEM_ID], strict=True):
            if item not in draft.catalog:
                raise BadRequest(f"update[{number}]", f"{item!r:.80} is not in the catalog; add it")

    def _texts(self, draft: Recommender, frame: pd.DataFrame) -> list[str]:
        texts = draft.item_texts.render(frame)
        empty_texts(frame, texts, drops=False)
        return texts

    def _columns(self, draft: Recommender, frame: pd.DataFrame) -> pa.Table | None:
        """Return the values of columns that the catalog has; None for a table without any."""
        held = draft.catalog.columns
        names = [name for name in frame.columns if name in held.names]
        return changed_columns(frame[names], held.of_kind(TEXTS)) if names else None


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Name the field of a request that can't be applied."""
    try:
        yield
    except BadRequest:
        raise
    except KeyError as error:
        raise BadRequest(place, str(error.args[0])) from error
    except ValueError as error:
        raise BadRequest(place, str(error)) from error
