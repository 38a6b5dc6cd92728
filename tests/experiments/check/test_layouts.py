"""Files of a directory: ours, raw forms of known data sets, tables under other names, and nothing at all."""

import pytest

from cost_hf.data import DataError, DataOptions
from cost_hf.experiments.check.layouts import locate


def located(directory, *names, **options):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return locate(DataOptions(path=str(directory), **options))


def test_our_names_win_over_everything_else(tmp_path):
    options = located(tmp_path, "items.csv", "interactions.parquet", "raw/news.tsv", "raw/behaviors.tsv")

    assert (options.reader, options.items, options.interactions) == ("tables", None, None)


@pytest.mark.parametrize(
    ("names", "reader"),
    [
        (["news.tsv.gz", "behaviors.tsv.gz"], "mind"),
        (["MINDsmall_train/news.tsv", "MINDsmall_train/behaviors.tsv"], "mind"),
        (["u.data", "u.item", "u.genre"], "movielens"),
        (["ml-100k.inter", "ml-100k.item"], "movielens"),
        (["meta_Toys.json.gz", "reviews_Toys_5.json.gz"], "amazon"),
        (["meta_Toys.jsonl", "Toys.csv"], "amazon"),
    ],
)
def test_raw_forms_are_known_by_their_files(tmp_path, names, reader):
    assert located(tmp_path, *names).reader == reader


def test_tables_of_other_names_are_named_by_what_they_hold(tmp_path):
    options = located(tmp_path, "products.csv", "clicks_2024.csv", "notes.txt")

    assert (options.reader, options.items, options.interactions) == ("tables", "products.csv", "clicks_2024.csv")


def test_files_that_differ_in_numbers_alone_are_parts_of_one_table(tmp_path):
    options = located(tmp_path, "catalog-1.csv", "catalog-2.csv", "orders_2024-01.csv", "orders_2023-12.csv")

    assert (options.items, options.interactions) == ("catalog-*.csv", "orders_*-*.csv")


def test_the_table_that_is_not_named_is_found(tmp_path):
    names = ("products.csv", "clicks.csv", "orders.csv")

    assert located(tmp_path / "shop", *names, interactions="orders.csv").items == "products.csv"
    assert located(tmp_path / "log", "orders.csv", "log.csv", items="log.csv").interactions == "orders.csv"


def test_two_candidates_are_an_error_that_names_both(tmp_path):
    with pytest.raises(
        DataError, match=r"one table of interactions, found \['clicks.csv', 'orders.csv'\].*--data.inter"
    ):
        located(tmp_path, "products.csv", "clicks.csv", "orders.csv")


def test_an_empty_directory_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"one table of items, found none.*items.parquet"):
        located(tmp_path)


def test_what_the_caller_says_is_left_alone(tmp_path):
    options = located(tmp_path, "a.csv", "b.csv", items="a.csv", interactions="b.csv")

    assert (options.items, options.interactions) == ("a.csv", "b.csv")
    assert located(tmp_path, "news.tsv", "behaviors.tsv", reader="amazon").reader == "amazon"
    assert locate(DataOptions(path="owner/name")).path == "owner/name"
