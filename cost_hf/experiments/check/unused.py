"""Columns that no part of a run learns from, and what using each would need."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cost_hf.data.cells import cell_text, holds_words
from cost_hf.data.options import DataOptions, ItemVectorOptions
from cost_hf.data.splits import source_parts
from cost_hf.experiments.check.guess import is_called, session_columns
from cost_hf.experiments.check.rows import flag_of
from cost_hf.experiments.check.vectors import category_problems
from cost_hf.reporting import numbers

MAX_EVENTS = 20  # types; a column with more different values is no event
SAMPLE = 20_000
SHOWN = 4  # values
# words in the names of events, weakest first, with the weight that is proposed
STRENGTHS: tuple[tuple[int, str], ...] = (
    (5, "purchase buy bought order transaction sale checkout kauf bestell"),
    (3, "cart basket add warenkorb"),
    (2, "wish fav like save bookmark merk"),
    (1, "view click impression visit open detail ansicht klick"),
)


@dataclass(frozen=True)
class UnusedColumn:
    """A column that no part of a run learns from.

    Attributes:
        table: `items` or `interactions`.
        name: in the source.
        content: what it holds, a few words.
        use: flags or a change that would use it.
    """

    table: str
    name: str
    content: str
    use: str


def unused_columns(
    items: pd.DataFrame, clicks: pd.DataFrame, options: DataOptions, template: str, vectors: ItemVectorOptions
) -> list[UnusedColumn]:
    """List the columns that no part of a run with these options learns from.

    Args:
        items: catalog with our column names, as it was read.
        clicks: click log, likewise.
        options: the data section.
        template: of the item text.
        vectors: section `vectors`.
    """
    theirs = {name.rpartition(".")[2]: source for name, source in options.columns.items()}
    is_of_texts = vectors.item_columns is None
    columns = re.findall(r"{([^{}]+)}", template) if is_of_texts else vectors.item_columns
    read = {"item_id", "title", *(columns or [])}
    found = [_of_items(name, items[name], template, options, vectors) for name in map(str, items) if name not in read]
    read = {"user_id", "item_id", "timestamp", "position", options.event_column, options.session_column}
    if options.split == "source":
        read.add(options.split_column)
    found += [_of_clicks(name, clicks, options) for name in map(str, clicks) if name not in read]
    return [UnusedColumn(each.table, theirs.get(each.name, each.name), each.content, each.use) for each in found]


def _of_items(
    name: str, values: pd.Series, template: str, options: DataOptions, vectors: ItemVectorOptions
) -> UnusedColumn:
    use = "" if name in options.exclude_columns else "filters can use it; "
    if vectors.item_columns is not None:
        is_of_use = not category_problems(values, name)
        use += f"{flag_of(vectors.with_column(name))} makes item vectors of it, too" if is_of_use else "no category"
        return UnusedColumn("items", name, _content(values), use)
    use += f"--vectors.template {shlex.quote(f'{template}. {{{name}}}')} makes it part of the item text"
    if not values.map(holds_words).any() and values.notna().any():
        use += ", which is seldom of use for numbers"
    return UnusedColumn("items", name, _content(values), use)


def _of_clicks(name: str, clicks: pd.DataFrame, options: DataOptions) -> UnusedColumn:
    values = clicks[name]
    content = _content(values)
    kinds = values.iloc[:SAMPLE].map(cell_text).value_counts()
    if options.event_column is None and _are_events(name, values, kinds):
        return UnusedColumn("interactions", name, content, _event_flags(name, list(map(str, kinds.index))))
    if name in session_columns(clicks):
        field = f"--data.session_column {shlex.quote(name)}"
        use = f"--data.on_missing_user session {field} makes sessions of clicks without a user"
    elif len(kinds) and source_parts(pd.Series(kinds.index)).notna().all():
        use = f"--data.split source --data.split_column {shlex.quote(name)} splits by it"
    elif is_called(name, "rating"):
        use = "every row is a click, whatever its rating; remove low ratings from the source"
    elif pd.api.types.is_numeric_dtype(values):
        use = "no method reads numbers of clicks; write a type of event and name it with --data.event_column"
    else:
        use = "no method reads it"
    return UnusedColumn("interactions", name, content, use)


def _are_events(name: str, values: pd.Series, kinds: pd.Series) -> bool:
    if not 2 <= len(kinds) <= MAX_EVENTS or pd.api.types.is_numeric_dtype(values):
        return False
    known = sum(_weight(str(kind)) is not None for kind in kinds.index)
    return is_called(name, "event") or known >= 2 or known == len(kinds)


def _event_flags(name: str, kinds: Sequence[str]) -> str:
    found = {kind: _weight(kind) or 1 for kind in kinds}
    weights: Mapping[str, int] = dict(sorted(found.items(), key=lambda entry: entry[1]))
    strongest = [kind for kind, weight in weights.items() if weight == max(weights.values())]
    listed = ", ".join(f"{_quoted(kind)}: {weight}" for kind, weight in weights.items())
    flags = f"--data.event_column {shlex.quote(name)} --data.event_weights {shlex.quote(f'{{{listed}}}')}"
    if len(strongest) < len(kinds):
        flags += f" --data.target_events {shlex.quote('[' + ', '.join(map(_quoted, strongest)) + ']')}"
    return f"{flags} weighs events and predicts the strongest"


def _quoted(kind: str) -> str:
    return (
        kind
        if re.fullmatch(r"[A-Za-z_][\w-]*", kind) and kind.lower() not in ("true", "false", "null")
        else f'"{kind}"'
    )


def _weight(kind: str) -> int | None:
    return next((weight for weight, words in STRENGTHS if any(word in kind.lower() for word in words.split())), None)


def _content(values: pd.Series) -> str:
    """Describe the cells of a column in a few words."""
    present = values.dropna().iloc[:SAMPLE]
    if present.empty:
        return "empty"
    if pd.api.types.is_bool_dtype(present):
        return "true or false"
    if pd.api.types.is_datetime64_any_dtype(present):
        return "times"
    if pd.api.types.is_numeric_dtype(present):
        return f"numbers, {present.min():g} to {present.max():g}"
    kinds = present.map(cell_text).value_counts()
    if len(kinds) <= MAX_EVENTS:
        total = len(present)
        shares = ", ".join(
            f"{kind!s:.20} {numbers.percent(count / total, digits=0)}" for kind, count in kinds.head(SHOWN).items()
        )
        return shares + (f" and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else "")
    return f"{len(kinds):,} different values{f' in {SAMPLE:,} rows' if len(values) > SAMPLE else ''}"
