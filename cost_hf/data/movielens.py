"""MovieLens reader: the 100K set (Harper and Konstan, 2015) as GroupLens publishes it, or as RecBole's atomic files.

Every rating counts as an interaction, whatever its value; the value is kept in `rating`. Times are in seconds and
belong to rating sessions, so several ratings of a user often have the same time.
"""

import re
from pathlib import Path

import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.sources import RawTables, data_directory, find_file, malformed, names_in, refuse_file_options
from cost_hf.data.text_files import read_lines

GROUPLENS = ("u.data", "u.item", "u.genre")
RECBOLE = ("ml-100k.inter", "ml-100k.item")
ATOMIC_COLUMNS = {
    "ml-100k.inter": ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    "ml-100k.item": ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"),
}
YEAR = re.compile(r"\((\d{4})\)(?: \(V\))?\s*$")  # (V) marks films made for video


def read_movielens(options: DataOptions) -> RawTables:
    """Read ratings and movies, plain or gzip; movies have `title`, `year` and `categories` (the genres)."""
    refuse_file_options(options)
    directory = data_directory(options, expected=f"{', '.join(GROUPLENS)} or {', '.join(RECBOLE)}")
    for names, read in ((GROUPLENS, _read_grouplens), (RECBOLE, _read_recbole)):
        paths = [path for name in names if (path := find_file(directory, name)) is not None]
        if len(paths) == len(names):
            return read(*paths)
    raise DataError(
        f"{str(directory)!r} has neither {', '.join(GROUPLENS)} nor {', '.join(RECBOLE)} (each plain or .gz); it "
        f"contains {names_in(directory)}: unpack MovieLens-100K there or correct data.path"
    )


def _read_grouplens(ratings: Path, movies: Path, genres: Path) -> RawTables:
    rows = _cells(ratings, "\t", "4 columns (user, movie, rating, time)", 4)
    names = [cells[0] for _, cells in _cells(genres, "|", "2 columns (genre, number)", 2)]
    width = 5 + len(names)
    items = []
    for _, cells in _cells(movies, "|", f"{width} columns (id, title, dates, url, {len(names)} genre flags)", width):
        chosen = [name for name, flag in zip(names, cells[5:], strict=True) if flag == "1"]
        items.append((cells[0], *_title_and_year(cells[1]), ", ".join(chosen)))
    return RawTables(_movies(items), _ratings(ratings, rows))


def _read_recbole(ratings: Path, movies: Path) -> RawTables:
    rows = _atomic(ratings)
    items = []
    for _, (item, title, year, genres) in _atomic(movies):
        items.append((item, *_title_and_year(title, year), ", ".join(genres.split())))
    return RawTables(_movies(items), _ratings(ratings, rows))


def _atomic(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows below the header of an atomic file; the header names columns and types."""
    columns = ATOMIC_COLUMNS[path.name.removesuffix(".gz")]
    (number, header), *rows = _cells(path, "\t", f"{len(columns)} columns", len(columns), encoding="utf-8") or [(1, [])]
    if tuple(header) != columns:
        raise malformed(path, number, f"the header {list(columns)}", header)
    return rows


def _cells(
    path: Path, separator: str, expected: str, width: int, encoding: str = "latin-1"
) -> list[tuple[int, list[str]]]:
    rows = []
    for number, line in read_lines(path, encoding=encoding):
        cells = line.split(separator)
        if len(cells) != width:
            raise malformed(path, number, expected, line)
        rows.append((number, cells))
    return rows


def _title_and_year(title: str, year: str = "") -> tuple[str, str | None]:
    """Split the year from a title; without one, `year` is used if it is a number."""
    if (found := YEAR.search(title)) is not None:
        return title[: found.start()].strip(), found[1]
    return title.strip(), year if year.isdigit() else None


def _movies(rows: list[tuple[str, str, str | None, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["item_id", "title", "year", "categories"])


def _ratings(path: Path, rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    frame = pd.DataFrame([cells for _, cells in rows], columns=["user_id", "item_id", "rating", "timestamp"])
    for column in ("rating", "timestamp"):
        values = pd.to_numeric(frame[column], errors="coerce")
        if values.isna().any():
            row = int(values.isna().to_numpy().argmax())
            raise malformed(path, rows[row][0], f"a number as {column}", frame[column][row])
        frame[column] = values
    return frame[["user_id", "item_id", "timestamp", "rating"]]
