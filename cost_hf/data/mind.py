"""MIND reader: news and click logs of Microsoft News (Wu et al., ACL 2020), as published in `.tsv` files.

A user's sequence is the history column of the earliest impression, then the clicked news of all impressions by time.
The history has an order but no times, and MIND shuffles the news within an impression: so the order is given as
`position`, and clicks with equal times follow the hash rule of `time_order`. Times have no zone and are read as UTC.
"""

import re
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from cost_hf.data.coded_clicks import CodedClicks
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.sources import RawTables, data_directory, find_file, malformed, names_in, refuse_file_options
from cost_hf.data.splits import time_order
from cost_hf.data.text_files import read_lines

NEWS = "news.tsv"
BEHAVIORS = "behaviors.tsv"
NEWS_FORM = "8 columns (id, category, subcategory, title, abstract, url, title entities, abstract entities)"
BEHAVIORS_FORM = "5 columns (impression id, user id, time, history, impressions)"
IMPRESSIONS = re.compile(r"\S+-[01](?: \S+-[01])*")
IMPRESSIONS_FORM = "impressions like 'N12-1 N34-0' (the test part of MIND has no clicks: leave it out)"
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"


def read_mind(options: DataOptions) -> RawTables:
    """Read `news.tsv` and `behaviors.tsv`, plain or gzip, of one directory or of all its sub-directories joined."""
    refuse_file_options(options)
    parts = _parts(data_directory(options, expected=f"{NEWS} and {BEHAVIORS}"))
    news = pd.concat([_read_news(path) for path, _ in parts], ignore_index=True)
    impressions = pd.concat([_read_behaviors(path) for _, path in parts], ignore_index=True)
    catalog = news.drop_duplicates("item_id")  # an article of several parts is in each of them
    clicks, counts = _sequences(impressions, options.seed)
    return RawTables(catalog, clicks, counts | {"dropped_repeated_news": len(news) - len(catalog)})


def _parts(directory: Path) -> list[tuple[Path, Path]]:
    """Return the files of the directory itself or, where it has none, those of its sub-directories."""
    folders = [[directory], sorted(path for path in directory.iterdir() if path.is_dir())]
    for candidates in folders:
        pairs = [(find_file(folder, NEWS), find_file(folder, BEHAVIORS)) for folder in candidates]
        whole = [(news, behaviors) for news, behaviors in pairs if news is not None and behaviors is not None]
        if whole:
            return whole
    raise DataError(
        f"{str(directory)!r} has no {NEWS} with a {BEHAVIORS} (each plain or .gz), neither itself nor in a "
        f"sub-directory like MINDsmall_train; it contains {names_in(directory)}: unpack MIND there or correct data.path"
    )


def _read_news(path: Path) -> pd.DataFrame:
    rows: list[list[str | None]] = []
    for number, line in tqdm(read_lines(path), desc=path.name, unit=" lines", disable=None):
        cells = line.split("\t")
        if len(cells) != 8:
            raise malformed(path, number, NEWS_FORM, line)
        rows.append([cell.strip() or None for cell in cells[:5]])
    news = pd.DataFrame(rows, columns=["item_id", "category", "subcategory", "title", "abstract"])
    paths = [", ".join(filter(None, row[1:3])) for row in rows]
    return news[["item_id", "title", "category", "subcategory", "abstract"]].assign(categories=paths)


def _read_behaviors(path: Path) -> pd.DataFrame:
    """Return one row per impression: `user_id`, `timestamp`, `history` (as written) and `clicked` (list of ids)."""
    rows = []
    histories = dict[str, str]()
    for number, line in tqdm(read_lines(path), desc=path.name, unit=" lines", disable=None):
        cells = line.split("\t")
        if len(cells) != 5:
            raise malformed(path, number, BEHAVIORS_FORM, line)
        _, user, time, history, shown = cells
        if not IMPRESSIONS.fullmatch(shown.strip()):
            raise malformed(path, number, IMPRESSIONS_FORM, shown)
        clicked = [news.removesuffix("-1") for news in shown.split() if news.endswith("-1")]
        # a user's impressions repeat the history: keep one string object
        rows.append((number, user, time, histories.setdefault(history, history), clicked))
    frame = pd.DataFrame(rows, columns=["line", "user_id", "time", "history", "clicked"])
    times = pd.to_datetime(frame["time"], format=TIME_FORMAT, utc=True, errors="coerce")
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise malformed(path, int(frame["line"][row]), "a time like 11/13/2019 8:36:57 AM", frame["time"][row])
    seconds = (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return frame[["user_id", "history", "clicked"]].assign(timestamp=seconds.astype("Int64"))


def _sequences(impressions: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Join the earliest history of every user with all clicks; later histories add only clicks of impressions."""
    impressions = impressions.sort_values(["user_id", "timestamp", "history"], ignore_index=True)
    earliest = impressions.drop_duplicates("user_id")
    read = earliest[["user_id"]].assign(item_id=earliest["history"].str.split()).explode("item_id")
    clicks = impressions[["user_id", "timestamp"]].assign(item_id=impressions["clicked"]).explode("item_id")
    read, clicks = (part.dropna(subset="item_id").reset_index(drop=True) for part in (read, clicks))
    indices, tied = time_order(CodedClicks.of(clicks), seed)
    timeless = read.assign(timestamp=pd.array([None] * len(read), dtype="Int64"))
    rows = pd.concat([timeless, clicks.iloc[indices]]).sort_values("user_id", kind="stable", ignore_index=True)
    rows["position"] = rows.groupby("user_id", sort=False).cumcount()
    histories = impressions.drop_duplicates(["user_id", "history"])["user_id"]
    several = histories[histories.duplicated()]
    counts = {"tied_timestamps": tied, "users_with_several_histories": several.nunique()}
    return rows[["user_id", "item_id", "position", "timestamp"]], counts
