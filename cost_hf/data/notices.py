"""Notices: what may be wrong in a source without being an error, said once with the flag that mends it.

A training run logs them, `cost-hf check` lists them. The bounds are rules of thumb that decide what is said, never what
is computed.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cost_hf.data.cells import has_control, holds_words, is_empty
from cost_hf.data.html_text import count_markup
from cost_hf.data.id_forms import count_twins
from cost_hf.data.item_texts import is_text_column, item_titles
from cost_hf.data.schema import Notice

LONG_HISTORY = 1_000  # clicks of one user; longer ones are mostly machines or shared accounts
LONG_RATIO = 20  # and so many times what nine of ten users have
MIN_CAP = 100
COMPACT_DATES = (19_700_101, 20_991_231)


def id_notices(catalog: pd.DataFrame, clicks: pd.DataFrame) -> Iterator[Notice]:
    """Name users with control characters in their ids, and different ids that look the same."""
    for table, frame, column in (("items", catalog, "item_id"), ("interactions", clicks, "user_id")):
        ids = frame[column].drop_duplicates()
        of_ids = f"of {len(ids):,} ids of {table}.{column}"
        controlled = [text for text in ids if has_control(text)]  # of users: items have none
        if controlled:
            yield Notice(
                f"{len(controlled):,} {of_ids} hold control characters, like {controlled[0]!a}",
                "correct them in the source",
            )
        twins = count_twins(ids)
        if twins:
            yield Notice(
                f"{twins:,} {of_ids} differ from another one by blanks or their Unicode form alone",
                "--data.normalize_ids '[strip, nfc]' makes them one",
            )


def time_notices(clicks: pd.DataFrame) -> Iterator[Notice]:
    """Name times that are dates like 20240131, which were read as seconds."""
    if "timestamp" not in clicks or clicks["timestamp"].isna().all():
        return
    times = clicks["timestamp"].dropna()
    least, most = int(times.min()), int(times.max())
    if COMPACT_DATES[0] <= least and most <= COMPACT_DATES[1]:
        dates = pd.to_datetime(times.drop_duplicates().head(1000).astype(str), format="%Y%m%d", errors="coerce")
        if dates.notna().all():
            yield Notice(
                f"the times look like dates (the first is {least}) and were taken as seconds after 1970-01-01",
                "write them as 2024-01-31",
            )


def repeat_notices(clicks: pd.DataFrame, repeats: int) -> Iterator[Notice]:
    """Name clicks that stand in the log more than once.

    Args:
        clicks: the log with what repeats.
        repeats: clicks with user, item and time of an earlier one.
    """
    least = int(clicks.groupby(["user_id", "item_id"], sort=False).size().min())
    drop = "--data.on_duplicate_click drop"
    if repeats and least > 1:
        yield Notice(
            f"every click stands at least {least} times in the log ({repeats:,} of {len(clicks):,} repeat user, item "
            "and time of another one): it was joined to itself",
            drop,
        )
    elif repeats:
        yield Notice(
            f"{repeats:,} of {len(clicks):,} clicks repeat user, item and time of another one",
            f"{drop}, if they are one click each",
        )
    elif least > 1:
        yield Notice(
            f"every user has every item of theirs at least {least} times: the log may have been joined to itself",
            "take the repeats out of the source",
        )


def order_notices(backwards: int, neighbours: int) -> Iterator[Notice]:
    """Name a contradiction between the two columns that can order clicks, where nobody said which one counts.

    Args:
        backwards: clicks that are earlier than the one before by position.
        neighbours: clicks that have a time, as the one before has.
    """
    if backwards:
        yield Notice(
            f"position and timestamp disagree: {backwards:,} of {neighbours:,} clicks are earlier than the one before "
            "them by position; position is used",
            "--data.order timestamp orders by time, --data.order position settles this",
        )


def history_notices(lengths: np.ndarray) -> Iterator[Notice]:
    """Name a user with very many clicks; `lengths` are the clicks of every user."""
    most, ninety = int(lengths.max()), float(np.quantile(lengths, 0.9))
    if most > LONG_HISTORY and most > LONG_RATIO * ninety:
        many = int((lengths > max(LONG_HISTORY, LONG_RATIO * ninety)).sum())
        cap = max(MIN_CAP, int(LONG_RATIO * ninety))
        yield Notice(
            f"{many:,} of {len(lengths):,} users have very many clicks, up to {most:,} (nine of ten have at most "
            f"{ninety:.0f}): they slow everything down and are rarely people",
            f"--data.max_user_interactions {cap}",
        )


def text_notices(catalog: pd.DataFrame, texts: list[str]) -> Iterator[Notice]:
    """Name HTML in texts and titles, and cells of text columns that are no texts."""
    titles = item_titles(catalog) or []
    marked = max(count_markup(texts), count_markup([title for title in titles if title is not None]))
    if marked:
        yield Notice(
            f"{marked:,} of {len(catalog):,} item texts hold tags or entities of HTML, which count as words",
            "--data.clean_html true",
            {"data.clean_html": True},
        )
    for name in catalog.columns:
        values = catalog[name]
        if values.dtype == object and any(isinstance(value, bytes) for value in values):
            yield Notice(f"items.{name} holds bytes, which are no text, and is left out", "decode it if it holds words")
        if values.dtype != object or name == "item_id" or not is_text_column(values):
            continue
        others = values[[not is_empty(value) and not holds_words(value) for value in values]]
        if len(others) and len(others) < values.notna().sum():
            yield Notice(
                f"{len(others):,} of {len(values):,} cells of items.{name} are no texts, like {others.iloc[0]!r:.60} "
                f"in row {others.index[0]}; they are written as they read",
                "store them as text if they should read otherwise",
            )
