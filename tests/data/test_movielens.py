"""MovieLens-100K in both of its forms, made by hand here; the real set where COST_HF_MOVIELENS names its directory."""

import os

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions
from cost_hf.data.movielens import read_movielens
from cost_hf.data.prepare import prepare_data

GENRES = ["unknown|0", "Action|1", "Children's|2", ""]
MOVIES = [
    "1|Toy Tale (1995)|01-Jan-1995||http://x/1|0|1|1",
    "2|Misérable Été, L' (1988)|01-Jan-1988||http://x/2|0|0|1",
    "3|Before Time III: Giving (1994) (V)|||http://x/3|0|1|0",
    "4|unknown||||1|0|0",
]
RATINGS = ["7\t1\t5\t881250949", "7\t2\t3\t881250950", "8\t3\t1\t891717742", "8\t4\t2\t891717742"]


def write_grouplens(directory, *, movies=MOVIES, ratings=RATINGS):
    for name, lines in (("u.genre", GENRES), ("u.item", movies), ("u.data", ratings)):
        (directory / name).write_bytes("".join(line + "\n" for line in lines).encode("latin-1"))
    return directory


def write_recbole(directory):
    inter = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *RATINGS]
    item = [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "1\tToy Tale\t1995\tAction Children's",
        "2\tMisérable Été, L'\t1988\tChildren's",
        "3\tBefore Time III: Giving (1994)\tV\tAction",
        "4\tunknown\tunknown\tunknown",
    ]
    for name, lines in (("ml-100k.inter", inter), ("ml-100k.item", item)):
        (directory / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return directory


def read(directory, **options):
    return read_movielens(DataOptions(reader="movielens", path=str(directory), **options))


@pytest.mark.parametrize("write", [write_grouplens, write_recbole])
def test_both_forms_give_titles_years_and_genres(tmp_path, write):
    items = read(write(tmp_path)).items

    assert items["title"].tolist() == ["Toy Tale", "Misérable Été, L'", "Before Time III: Giving", "unknown"]
    assert items["year"].fillna("none").tolist() == ["1995", "1988", "1994", "none"]
    assert items["categories"].tolist() == ["Action, Children's", "Children's", "Action", "unknown"]


def test_both_forms_give_the_same_ratings(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    first, second = read(write_grouplens(tmp_path / "a")), read(write_recbole(tmp_path / "b"))

    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    assert first.interactions["rating"].tolist() == [5, 3, 1, 2]
    assert first.interactions["timestamp"].tolist()[0] == 881250949


def test_split_by_time_follows_the_real_times(tmp_path):
    write_grouplens(tmp_path, ratings=[*RATINGS, "7\t4\t4\t891717743", "7\t3\t4\t891717744"])
    cutoffs = [891717743, 891717744]

    data = prepare_data(DataOptions(reader="movielens", path=str(tmp_path), split="time", time_cutoffs=cutoffs))

    assert data.split.validation.items.tolist() == [3]
    assert data.split.test.histories[0].tolist() == [0, 1, 3]
    assert data.split.counts["train_interactions"] == 4


def test_ratings_below_any_value_count_too(tmp_path):
    assert len(read(write_grouplens(tmp_path)).interactions) == len(RATINGS)


@pytest.mark.parametrize(
    ("movies", "ratings", "message"),
    [
        ([*MOVIES, "5|Cut (1990)"], RATINGS, r"u\.item, line 5: expected 8 columns \(id, title, dates, url, 3 genre"),
        (MOVIES, [*RATINGS, "7\t1\t5"], r"u\.data, line 5: expected 4 columns \(user, movie, rating, time\)"),
        (MOVIES, ["7\t1\tfive\t881250949"], r"u\.data, line 1: expected a number as rating, got 'five'"),
        (MOVIES, [RATINGS[0], "7\t1\t5\tnoon"], r"u\.data, line 2: expected a number as timestamp, got 'noon'"),
    ],
    ids=["movie columns", "rating columns", "rating", "time"],
)
def test_malformed_line_is_named_with_what_was_expected(tmp_path, movies, ratings, message):
    with pytest.raises(DataError, match=message):
        read(write_grouplens(tmp_path, movies=movies, ratings=ratings))


def test_other_header_of_an_atomic_file_is_an_error(tmp_path):
    write_recbole(tmp_path)
    (tmp_path / "ml-100k.item").write_text("item_id:token\tname:token_seq\ty:token\tgenre:token_seq\n")
    with pytest.raises(DataError, match=r"ml-100k\.item, line 1: expected the header \['item_id:token', 'movie_title"):
        read(tmp_path)


def test_empty_atomic_file_is_an_error(tmp_path):
    write_recbole(tmp_path)
    (tmp_path / "ml-100k.inter").write_text("")
    with pytest.raises(DataError, match=r"ml-100k\.inter, line 1: expected the header .*got \[\]"):
        read(tmp_path)


def test_directory_without_the_files_lists_what_was_looked_for(tmp_path):
    (tmp_path / "u.data").write_text("")
    with pytest.raises(
        DataError, match=r"neither u\.data, u\.item, u\.genre nor ml-100k\.inter.*it contains \['u\.data'\]"
    ):
        read(tmp_path)


def test_missing_path_is_an_error_with_a_remedy():
    with pytest.raises(DataError, match=r"data\.reader movielens needs data\.path, got none; set it to the directory"):
        prepare_data(DataOptions(reader="movielens"))


@pytest.fixture
def movielens():
    """Directory of the real set, which its licence keeps out of every repository."""
    if not (directory := os.environ.get("COST_HF_MOVIELENS")):
        pytest.skip("COST_HF_MOVIELENS names no directory of MovieLens-100K")
    return directory


def test_real_set_has_its_published_counts_and_splits_by_time(movielens):
    data = prepare_data(DataOptions(reader="movielens", path=movielens, split="time"))

    counts = data.tables.counts
    assert (counts["users"], counts["items"], counts["interactions"]) == (943, 1682, 100_000)
    targets = data.tables.interactions.query(f"timestamp >= {data.split.counts['test_from']}")
    assert len(targets) == len(data.split.test) + data.split.counts["dropped_short_history_test"]
    assert data.split.counts["train_interactions"] == pytest.approx(80_000, abs=500)
