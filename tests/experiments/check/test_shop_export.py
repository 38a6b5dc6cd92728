"""The export of the made-up shop: the check finds every fault that it has, and its flags read it."""

import csv
import gzip
import io

import pytest

from benchmarks.shop_export import ENCODING, write_export
from cost_hf.data.tables import read_tables
from cost_hf.experiments.check.check import check
from cost_hf.experiments.commands import read_overrides
from cost_hf.experiments.recipe import Recipe


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shop") / "export"
    write_export(directory, num_customers=60, visits_a_day=12)
    return directory


@pytest.fixture(scope="module")
def result(export):
    return check(export, overrides={"data.interactions": "events-*"})


def test_every_fault_has_a_flag(result):
    assert set(result.flags) >= {
        "data.csv",
        "data.columns",
        "data.on_bad_row",
        "data.on_duplicate_item",
        "data.on_missing_user",
        "data.session_column",
        "data.on_unknown_item",
    }
    assert result.options.csv == {
        "items.encoding": "cp1252",
        "sep": ";",
        "items.decimal": ",",
        "date_format": "%d.%m.%Y %H:%M:%S",
    }
    assert [column.name for column in result.unused if column.table == "interactions"] == ["type", "device"]


def test_the_flags_read_the_export(result):
    tokens = [token for name, text in result.flags.items() for token in (f"--{name}", text)]
    recipe = Recipe.load(result.recipe, read_overrides(tokens, Recipe.load(result.recipe), program="train"))
    tables = read_tables(recipe.data, template=recipe.vectors.template)

    assert tables.num_items == 960 or tables.num_items == 961  # the article without a name has a note
    assert tables.items["price"].dtype == float and tables.counts["guest_sessions"] > 0


def test_the_list_of_tomorrow_has_new_changed_and_gone_articles(export):
    lists = []
    for path in (export / "products.csv.gz", export / "tomorrow" / "products.csv.gz"):
        text = gzip.decompress(path.read_bytes()).decode(ENCODING)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=";") if len(row) == 8]
        lists.append({row[0]: row[1] for row in rows[1:]})
    today, tomorrow = lists

    assert set(tomorrow) - set(today) and set(today) - set(tomorrow)
    assert [name for number, name in tomorrow.items() if number in today and today[number] != name]
