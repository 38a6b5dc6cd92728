"""Lenient reading: everything that a training run would stop at becomes a problem with its remedy, where it can.

What can't be passed over (a missing column, quotes that do not close) stays a `DataError` of the reader, which names
the row and the remedy already.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import render_texts
from cost_hf.data.options import DataOptions, ItemVectorOptions, VectorOptions
from cost_hf.data.schema import Tables
from cost_hf.data.sources import load_frames
from cost_hf.data.tables import read_tables
from cost_hf.experiments.check.guess import ColumnGuess, guess_columns
from cost_hf.experiments.check.layouts import locate
from cost_hf.experiments.check.problems import Problem
from cost_hf.experiments.check.rows import RowFault, find_faults, find_forms, flag_of, plain_csv, with_fields
from cost_hf.experiments.check.texts import TextColumn, guess_template, text_columns
from cost_hf.experiments.check.unused import UnusedColumn, unused_columns
from cost_hf.reporting import numbers


@dataclass(frozen=True, eq=False)
class Reading:
    """Tables that could be read, and what had to be found or passed over for it.

    Attributes:
        options: the data section with everything that was found filled in.
        template: text template, the given one or a guess.
        texts: one rendered text an item.
        columns: the text columns of the catalog.
        problems: what a run would stop at or leave out.
        needed: fields without which a run would stop or take the data as they should not be, by dotted name.
        unused: columns that a run does not read.
    """

    tables: Tables
    options: DataOptions
    guess: ColumnGuess
    template: str
    texts: list[str]
    columns: list[TextColumn]
    problems: list[Problem]
    needed: dict[str, Any]
    unused: list[UnusedColumn]


def read_leniently(options: DataOptions, template: str | None, vectors: ItemVectorOptions | None = None) -> Reading:
    """Read the tables that the options name, dropping what would stop a run and noting it.

    Args:
        options: the data section.
        template: of the item text; None for a guess.
        vectors: section `vectors`, which tells the columns that are used; that of text vectors by default.

    Raises:
        DataError: where nothing can be read, or no column holds words.
    """
    options = locate(options)
    guess = ColumnGuess()
    faults: list[RowFault] = []
    frames: tuple[pd.DataFrame, pd.DataFrame] | None = None
    if options.reader == "tables":
        drops_bad_rows = options.on_bad_row == "drop"
        options, faults = find_forms(options)
        frames = load_frames(options, items=None, interactions=None)
        guess = guess_columns(*frames)
        if guess.columns:
            options = dataclasses.replace(options, columns=options.columns | guess.columns)
            frames = load_frames(options, items=None, interactions=None)
        options, more = find_faults(*frames, options, drops_bad_rows=drops_bad_rows)
        faults += more
        options = dataclasses.replace(options, csv=plain_csv(options.csv))
    lenient = dataclasses.replace(options, on_unknown_item="drop", on_empty_text="drop", strict=False)
    tables = read_tables(lenient)
    notices = list(tables.notices)
    fixes = {name: value for notice in notices for name, value in notice.fields.items()}
    if fixes:  # facts, and what a run would drop, are of the data that are read with them
        if "data.normalize_ids" in fixes:
            fixes["data.normalize_ids"] = list(dict.fromkeys([*options.normalize_ids, *fixes["data.normalize_ids"]]))
        options, lenient = (with_fields(each, fixes) for each in (options, lenient))
        tables = read_tables(lenient)
        notices += [notice for notice in tables.notices if notice not in notices]
    for name in dict.fromkeys([*fixes, *(name for fault in faults for name in fault.fields)]):
        fixes[name] = getattr(options, name.removeprefix("data."))
    counts = dict(tables.counts)
    problems = [_fault_problem(fault, options) for fault in faults]
    problems += [Problem("warning", doubt, "name the right one with --data.columns") for doubt in guess.doubts]
    problems += [Problem("warning", notice.message, notice.remedy) for notice in notices]
    chosen, unfit = _template(tables, template)
    if unfit is not None:
        problems.append(unfit)
    empty = sum(not text.strip() for text in render_texts(tables.items, chosen))
    if empty:
        # what was found by the fractions of a second is found once: the tables keep whole seconds
        again = DataOptions(
            order=lenient.order,
            split=lenient.split,
            split_column=lenient.split_column,
            on_unknown_item="drop",
            on_empty_text="drop",
            min_user_interactions=lenient.min_user_interactions,
            min_item_interactions=lenient.min_item_interactions,
            max_user_interactions=lenient.max_user_interactions,
            seed=lenient.seed,
        )
        found = {name: counts[name] for name in ("tied_timestamps", "duplicate_clicks")}  # positions hide them
        tables = read_tables(again, items=tables.items, interactions=tables.interactions, template=chosen)
        tables = dataclasses.replace(tables, counts=tables.counts | found)
    empty += counts["dropped_empty_text_items"]
    dropped = {"on_unknown_item": counts["dropped_unknown_item_interactions"], "on_empty_text": empty}
    left = {"on_unknown_item": len(tables.interactions), "on_empty_text": tables.num_items}
    problems += [
        _dropped(name, count, count / (count + left[name]), getattr(options, name))
        for name, count in dropped.items()
        if count
    ]
    needed = fixes | {f"data.{name}": "drop" for name, count in dropped.items() if count}
    texts = render_texts(tables.items, chosen)
    unused = [] if frames is None else unused_columns(*frames, options, chosen, vectors or VectorOptions())
    return Reading(tables, options, guess, chosen, texts, text_columns(tables.items), problems, needed, unused)


def _fault_problem(fault: RowFault, options: DataOptions) -> Problem:
    """Return a fault with its flags; those of one field are written together, since a flag is given once."""
    fields = {name: getattr(options, name.removeprefix("data.")) for name in fault.fields}
    remedy = flag_of(fields) + (f" ({fault.note})" if fault.note else "")
    return Problem(fault.severity, f"{fault.first}: {fault.message}", remedy, count=fault.count, first=fault.first)


def _template(tables: Tables, given: str | None) -> tuple[str, Problem | None]:
    """Return the given template where it fits the catalog, else a guess and the reason."""
    guessed = guess_template(tables.items)
    if not guessed and given is None:
        raise DataError(
            f"items has no column of words beside item_id, only {list(map(str, tables.items.columns))}; semantic IDs "
            "are made from text: add a title or a description, or name columns to use with vectors.template"
        )
    if given is None:
        return guessed, None
    try:
        render_texts(tables.items.head(1), given)
    except DataError as error:
        if not guessed:
            raise
        return guessed, Problem("error", str(error), f"--vectors.template '{guessed}'")
    return given, None


def _dropped(name: str, count: int, share: float, choice: str) -> Problem:
    """Say what a run would stop at, or will leave out where the options allow it."""
    what = {
        "on_unknown_item": "of the clicks are on items that the catalog does not have",
        "on_empty_text": "of the items have no text",
    }[name]
    found = f"{count:,} ({numbers.percent(share, digits=0)}) {what}"
    if choice == "error":
        return Problem("error", found, f"--data.{name} drop, or complete the catalog")
    return Problem("note", f"{found}; they are left out (data.{name}: drop)")
