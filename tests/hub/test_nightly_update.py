"""`cost-hf update-catalog` as a nightly job: whole catalogs, skipped rows, plans, summaries and exit statuses."""

import json

import pandas as pd
import pytest

from cost_hf.cli import main
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import write_json
from cost_hf.recommenders.base import Recommender
from tests.hub.made_up import made_up_results
from tests.methods.counting.counting_toys import toy_counting
from tests.recommenders.toys import TOY_COLUMNS, TOY_IDS, TOY_TEXTS, toy_recommender, toy_text_recommender, with_columns

GONE, CHANGED, CHEAPER, LAST = TOY_IDS[:4]


@pytest.fixture
def directory(tmp_path):
    with_columns(toy_text_recommender()).save_pretrained(tmp_path / "run" / "recommender")
    return tmp_path / "run"


@pytest.fixture
def full(tmp_path):
    """The catalog of the next day: an item is new, one is gone, one has another text and one another price."""
    frame = whole_catalog()
    frame.loc[frame["item_id"] == CHANGED, "title"] = "music in cairo"
    frame.loc[frame["item_id"] == CHEAPER, "price"] = 0.5
    frame = frame[frame["item_id"] != GONE]
    new = pd.DataFrame({"item_id": ["new"], "title": ["weather in cairo"], "price": [9.0], "brand": ["Alba"]})
    path = tmp_path / "full.parquet"
    pd.concat([frame, new], ignore_index=True).to_parquet(path)
    return path


def whole_catalog() -> pd.DataFrame:
    return pd.DataFrame({"item_id": TOY_IDS, "title": TOY_TEXTS} | TOY_COLUMNS)


def update(*arguments) -> int:
    return main(["update-catalog", *map(str, arguments)])


def contents(directory) -> dict:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_whole_catalog_is_one_step_that_one_rollback_undoes(directory, full, tmp_path):
    before = Recommender.from_pretrained(directory).catalog

    assert update(directory, "--from-full-catalog", full, "--json", tmp_path / "out.json") == 0

    after = Recommender.from_pretrained(directory).catalog
    rows = [after.row_of(item) for item in (GONE, CHANGED, CHEAPER, "new")]
    assert after.removed[rows].tolist() == [True, False, False, False]
    assert after.titles[rows[1]] == "music in cairo" and after.columns.value("price", rows[2]) == 0.5
    assert [after.columns.value(name, rows[3]) for name in ("price", "brand", "in_stock")] == [9.0, "Alba", None]
    assert (after.codes[: len(before)] == before.codes).all()
    summary = json.loads((tmp_path / "out.json").read_text())
    found = {name: summary[name] for name in ("added", "texts_changed", "columns_changed", "removed", "skipped")}
    expected = {"added": ["new"], "texts_changed": [CHANGED], "columns_changed": [CHEAPER], "removed": [GONE]}
    assert found == expected | {"skipped": []} and summary["status"] == "updated"
    assert [summary["items_before"], summary["items_after"]] == [20, 20]

    assert update(directory, "--rollback") == 0
    assert Recommender.from_pretrained(directory).catalog.version == before.version == summary["catalog_before"]


def test_the_same_file_again_changes_no_byte(directory, full, capsys):
    update(directory, "--from-full-catalog", full)
    files = contents(directory)
    capsys.readouterr()

    assert update(directory, "--from-full-catalog", full) == 0

    assert contents(directory) == files and "nothing to do" in capsys.readouterr().out


def test_a_plan_names_what_the_update_does_and_writes_nothing(directory, full, tmp_path, capsys):
    files = contents(directory)

    assert update(directory, "--from-full-catalog", full, "--dry-run", "--json", tmp_path / "plan.json") == 0

    out = capsys.readouterr().out
    assert contents(directory) == files
    assert "would add 1 item (new)" in out and f"would remove 1 item ({GONE})" in out
    update(directory, "--from-full-catalog", full, "--json", tmp_path / "done.json")
    plan, done = (json.loads((tmp_path / name).read_text()) for name in ("plan.json", "done.json"))
    differs = {name for name in plan if plan[name] != done[name]}
    assert (plan["status"], done["status"]) == ("planned", "updated")
    assert differs <= {"status", "catalog_after", "items_after", "would_differ"}


def test_an_item_that_was_removed_and_changed_meanwhile_returns_as_it_is_now(directory, full):
    update(directory, "--from-full-catalog", full)
    sid = Recommender.from_pretrained(directory).catalog.codes[0].tolist()
    frame = pd.read_parquet(full)
    frame.loc[len(frame)] = {"item_id": GONE, "title": "music in lima", "price": 3.0}
    frame.to_parquet(full)

    assert update(directory, "--from-full-catalog", full) == 0

    catalog = Recommender.from_pretrained(directory).catalog
    assert not catalog.removed[0] and catalog.codes[0].tolist() == sid
    assert catalog.titles[0] == "music in lima" and catalog.columns.value("price", 0) == 3.0


def test_a_truncated_export_is_refused_and_the_error_says_how_to_go_on(directory, full, tmp_path, capsys):
    pd.read_parquet(full).head(12).to_parquet(full)
    files = contents(directory)

    assert update(directory, "--from-full-catalog", full, "--json", tmp_path / "out.json") == 2

    error = capsys.readouterr().err
    assert contents(directory) == files and "lacks 8 of its 20 items (40.0%)" in error
    refused = json.loads((tmp_path / "out.json").read_text())
    assert refused["status"] == "refused" and refused["error"] in error
    assert update(directory, "--from-full-catalog", full, *error.split()[-2:]) == 0
    assert Recommender.from_pretrained(directory).catalog.removed.sum() == 8


def test_an_export_whose_column_is_empty_is_refused(directory, full, capsys):
    pd.read_parquet(full).assign(price=None).to_parquet(full)
    files = contents(directory)

    assert update(directory, "--from-full-catalog", full) == 2

    error = capsys.readouterr().err
    assert contents(directory) == files and "lacks the values of column 'price' for" in error
    assert update(directory, "--from-full-catalog", full, *error.split()[-2:]) == 0
    assert Recommender.from_pretrained(directory).catalog.columns.value("price", 4) is None


def test_a_few_values_may_go_with_an_export(directory, full):
    frame = pd.read_parquet(full)
    frame.loc[frame["item_id"] == "item004", "price"] = None
    frame.to_parquet(full)

    assert update(directory, "--from-full-catalog", full) == 0

    assert Recommender.from_pretrained(directory).catalog.columns.value("price", 4) is None


def test_rows_without_text_are_listed_and_the_rest_is_applied(directory, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("item_id,title\na,football in cairo\nb,\nc,  \nitem001,\n")

    assert update(directory, tmp_path / "new.csv", "--json", tmp_path / "out.json") == 3

    catalog = Recommender.from_pretrained(directory).catalog
    assert "a" in catalog and "b" not in catalog and catalog.titles[1] == TOY_TEXTS[1]
    skipped = json.loads((tmp_path / "out.json").read_text())["skipped"]
    assert [(row["item_id"], row["row"], row["reason"]) for row in skipped] == [
        ("b", 1, "no text"),
        ("c", 2, "no text"),
        ("item001", 3, "no text"),
    ]
    assert "skipped 3 rows: items, row 1 (item_id 'b'): no text;" in capsys.readouterr().out


def test_an_item_without_text_in_a_whole_catalog_is_not_gone(directory, full):
    frame = pd.read_parquet(full)
    frame.loc[frame["item_id"] == LAST, ["title", "brand", "tags"]] = None
    frame.to_parquet(full)

    assert update(directory, "--from-full-catalog", full) == 3

    catalog = Recommender.from_pretrained(directory).catalog
    assert not catalog.removed[3] and catalog.removed[0] and "new" in catalog


def test_unknown_ids_of_removals_and_values_are_skipped(directory, tmp_path, capsys):
    (tmp_path / "stock.csv").write_text("item_id,price\nitem004,1.5\nmug,2\n")

    assert update(directory, "--remove", f"{GONE},mug", "--values", tmp_path / "stock.csv") == 3

    catalog = Recommender.from_pretrained(directory).catalog
    assert catalog.removed[0] and catalog.columns.value("price", 4) == 1.5
    assert "(item_id 'mug'): not in the catalog" in capsys.readouterr().out
    assert update(directory, "--remove", GONE) == 0  # it is removed already


def test_values_and_removals_may_name_items_that_come_with_them(directory, tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\na,football in cairo\nb,music in cairo\n")
    (tmp_path / "stock.csv").write_text("item_id,price\na,1.5\n")

    assert update(directory, tmp_path / "new.csv", "--values", tmp_path / "stock.csv", "--remove", "b") == 0

    catalog = Recommender.from_pretrained(directory).catalog
    assert catalog.columns.value("price", catalog.row_of("a")) == 1.5 and catalog.removed[catalog.row_of("b")]


def test_known_items_that_differ_are_reported_and_change_on_demand(directory, full, capsys):
    assert update(directory, full) == 0

    out = capsys.readouterr().out
    catalog = Recommender.from_pretrained(directory).catalog
    assert catalog.titles[1] == TOY_TEXTS[1] and "new" in catalog and not catalog.removed.any()
    assert f"not changed: 1 item ({CHANGED}) with other titles or texts in the file; --update changes them" in out
    assert f"not changed: 1 item ({CHEAPER}) with other values of columns" in out

    assert update(directory, full, "--update") == 0
    catalog = Recommender.from_pretrained(directory).catalog
    assert catalog.titles[1] == "music in cairo" and catalog.columns.value("price", 2) == 0.5


def test_texts_of_columns_that_the_catalog_does_not_keep_are_not_compared(tmp_path, capsys):
    toy_text_recommender().save_pretrained(tmp_path / "kept")
    whole_catalog()[["item_id", "title"]].assign(note="on sale").to_csv(tmp_path / "full.csv", index=False)

    assert update(tmp_path / "kept", "--from-full-catalog", tmp_path / "full.csv", "--dry-run") == 0

    assert "not compared: texts of 20 items" in capsys.readouterr().out


def test_a_recommender_without_a_way_in_still_loses_items_that_are_gone(tmp_path, full):
    with_columns(toy_recommender()).save_pretrained(tmp_path / "codes")

    assert update(tmp_path / "codes", "--from-full-catalog", full, "--json", tmp_path / "out.json") == 3

    catalog = Recommender.from_pretrained(tmp_path / "codes").catalog
    assert catalog.removed[0] and "new" not in catalog and catalog.columns.value("price", 2) == 0.5
    (skipped,) = json.loads((tmp_path / "out.json").read_text())["skipped"]
    assert skipped["item_id"] == "new" and "takes no new items" in skipped["reason"]


def test_an_error_in_one_part_keeps_all_others_from_being_made(directory, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("item_id,title\na,football in cairo\n")
    (tmp_path / "stock.csv").write_text("item_id,price\nitem004,cheap\n")
    files = contents(directory)

    assert update(directory, tmp_path / "new.csv", "--values", tmp_path / "stock.csv", "--remove", GONE) == 2

    assert contents(directory) == files and "column 'price': expected a number, got 'cheap'" in capsys.readouterr().err


def with_stock(directory) -> None:
    """Add a column of whole numbers to a saved catalog."""
    recommender = Recommender.from_pretrained(directory)
    recommender.add_columns(TOY_IDS, {"stock": list(range(len(TOY_IDS)))})
    recommender.save_catalog(directory / "recommender")


def skipped_rows(path) -> list[tuple]:
    """Return row, id, column, value and reason of the skipped rows of a summary."""
    rows = json.loads(path.read_text())["skipped"]
    return [tuple(row[name] for name in ("row", "item_id", "column", "value", "reason")) for row in rows]


PRICE = "column 'price': expected a number, got"


def test_a_row_of_a_whole_catalog_with_a_price_that_is_none_is_skipped(directory, tmp_path, capsys):
    frame = whole_catalog().drop(columns="tags").drop(index=0)
    frame["price"] = frame["price"].astype(object)
    frame.loc[1, ["title", "price"]] = ["music in cairo", "on request"]
    frame.loc[2, "price"] = 0.5
    frame.loc[len(frame) + 1] = ["new", "weather in cairo", 9, "Alba", True]
    frame.to_csv(tmp_path / "full.csv", index=False)

    assert update(directory, "--from-full-catalog", tmp_path / "full.csv", "--json", tmp_path / "out.json") == 3

    before = with_columns(toy_text_recommender()).catalog
    after = Recommender.from_pretrained(directory).catalog
    assert after.titles[1] == TOY_TEXTS[1] and after.columns.value("price", 1) == before.columns.value("price", 1)
    assert after.removed.tolist() == [True] + [False] * 20
    assert [after.columns.value("price", row) for row in (2, 3, 20)] == [0.5, before.columns.value("price", 3), 9.0]
    assert skipped_rows(tmp_path / "out.json") == [(0, "item001", "price", "on request", f"{PRICE} 'on request'")]
    # neither has another text: prices are no part of it, though one of them is text
    summary = json.loads((tmp_path / "out.json").read_text())
    assert [summary[name] for name in ("texts_changed", "columns_changed")] == [[], ["item002"]]
    assert f"skipped 1 row: items, row 0 (item_id 'item001'): {PRICE} 'on request'" in capsys.readouterr().out


def test_values_that_do_not_fit_are_listed_in_plain_words(directory, tmp_path, capsys):
    with_stock(directory)
    rows = ["item001,n/a,7,true", "item002,3.5,2.5,true", "item003,4.5,9,maybe"]
    rows += ["item004,5.5,3,false", "item005,,4,true"]
    (tmp_path / "stock.csv").write_text("\n".join(["item_id,price,stock,in_stock", *rows]))

    assert update(directory, "--values", tmp_path / "stock.csv", "--json", tmp_path / "out.json") == 3

    columns = Recommender.from_pretrained(directory).catalog.columns
    assert skipped_rows(tmp_path / "out.json") == [
        (0, "item001", "price", "n/a", f"{PRICE} 'n/a'"),
        (1, "item002", "stock", "2.5", "column 'stock': expected a whole number, got 2.5"),
        (2, "item003", "in_stock", "maybe", "column 'in_stock': expected true or false, got 'maybe'"),
    ]
    names = ("price", "stock", "in_stock")
    assert [columns.value("stock", row) for row in (1, 2, 3)] == [1, 2, 3]
    assert [columns.value(name, 4) for name in names] == [5.5, 3, False]
    assert [columns.value(name, 5) for name in names] == [None, 4, True]
    assert "skipped 3 rows: values, row 0" in capsys.readouterr().out


def test_a_row_with_two_values_that_do_not_fit_is_one_row(directory, tmp_path, capsys):
    (tmp_path / "stock.csv").write_text("item_id,price,in_stock\nitem001,n/a,maybe\nitem002,0.5,true\n")

    assert update(directory, "--values", tmp_path / "stock.csv", "--json", tmp_path / "out.json") == 3

    assert "skipped 1 row: " in capsys.readouterr().out
    assert [row[2] for row in skipped_rows(tmp_path / "out.json")] == ["price", "in_stock"]


def test_strict_refuses_a_value_that_does_not_fit(directory, tmp_path, capsys):
    (tmp_path / "stock.csv").write_text("item_id,price\nitem001,n/a\nitem002,0.5\n")
    files = contents(directory)

    assert update(directory, "--values", tmp_path / "stock.csv", "--strict") == 2

    assert contents(directory) == files and f"{PRICE} 'n/a'" in capsys.readouterr().err


def test_a_column_whose_values_do_not_fit_is_refused_as_a_whole(directory, tmp_path, capsys):
    (tmp_path / "stock.csv").write_text("item_id,price\nitem001,low\nitem002,0.5\nitem003,high\nitem004,\n")
    files = contents(directory)

    assert update(directory, "--values", tmp_path / "stock.csv") == 2

    error = capsys.readouterr().err
    assert contents(directory) == files
    assert f"values, row 0 (item_id 'item001'): {PRICE} 'low'; 2 of 3 values of the column do not fit" in error
    assert not any(word in error for word in ("double", "add_columns"))


def test_one_value_of_a_column_that_is_empty_elsewhere_is_skipped(directory, tmp_path):
    (tmp_path / "stock.csv").write_text("item_id,price,in_stock\nitem001,n/a,true\nitem002,,false\n")

    assert update(directory, "--values", tmp_path / "stock.csv") == 3

    columns = Recommender.from_pretrained(directory).catalog.columns
    assert columns.value("price", 2) is None and columns.value("in_stock", 2) is False


def test_prices_beside_one_that_does_not_fit_keep_their_decimal_comma(directory, tmp_path):
    rows = ["item001;n/a", "item002;1.299", "item003;3,5", "item004;7"]
    (tmp_path / "stock.csv").write_text("\n".join(["item_id;price", *rows]))
    form = json.dumps({"csv": {"sep": ";", "decimal": ","}})

    assert update(directory, "--values", tmp_path / "stock.csv", "--data", form) == 3

    columns = Recommender.from_pretrained(directory).catalog.columns
    assert [columns.value("price", row) for row in (1, 2, 3, 4)] == [2.5, 1299.0, 3.5, 7.0]


def test_values_of_typed_files_are_skipped_alike(directory, tmp_path):
    prices = [{"item_id": "item001", "price": True}, {"item_id": "item002", "price": 0.5}, {"item_id": "item003"}]
    (tmp_path / "stock.jsonl").write_text("\n".join(map(json.dumps, prices)))

    assert update(directory, "--values", tmp_path / "stock.jsonl", "--json", tmp_path / "out.json") == 3

    assert skipped_rows(tmp_path / "out.json") == [(0, "item001", "price", "True", f"{PRICE} True")]
    assert Recommender.from_pretrained(directory).catalog.columns.value("price", 2) == 0.5


SHOP = {"data.csv": {"sep": ";"}, "data.columns": {"item_id": "Artikel", "title": "Name"}}


@pytest.fixture
def shop_file(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("Artikel;Name\nnew;football in cairo\n")
    return path


def test_a_copy_reads_files_as_the_run_does(tmp_path, shop_file):
    run = tmp_path / "run"
    toy_text_recommender().save_pretrained(run / "recommender")
    Recipe.load("cost_quickstart", SHOP).save(run / "recipe.yaml")

    assert update(run / "recommender", "--remove", GONE, "--output_dir", tmp_path / "copy") == 0
    assert update(tmp_path / "copy", shop_file) == 0

    assert "new" in Recommender.from_pretrained(tmp_path / "copy").catalog


def test_a_copy_of_counts_reads_files_as_the_run_does(tmp_path, shop_file):
    run = tmp_path / "run"
    toy_counting("markov").save_pretrained(run / "recommender")
    Recipe.load("markov_text", SHOP).save(run / "recipe.yaml")
    (tmp_path / "clicks.csv").write_text("user_id;Artikel;position\nu;item003;0\nu;item000;1\n")

    arguments = ("--clicks", tmp_path / "clicks.csv", "--output_dir", tmp_path / "copy")
    assert update(run / "recommender", *arguments) == 0
    assert update(tmp_path / "copy", shop_file) == 0

    assert "new" in Recommender.from_pretrained(tmp_path / "copy").catalog


def test_a_published_recommender_reads_files_as_its_results_say(tmp_path, shop_file, capsys):
    folder = tmp_path / "published"
    toy_text_recommender().save_pretrained(folder)
    results = made_up_results(licence="MIT")
    fields = {name.removeprefix("data."): value for name, value in SHOP.items()}
    results["recipe"]["data"] = results["recipe"]["data"] | fields
    write_json(folder / "results.json", results)

    assert update(folder, shop_file) == 0

    assert "new" in Recommender.from_pretrained(folder).catalog
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("files are read")]
    assert "data.csv, data.columns" in line and line.endswith(str(folder / "results.json"))


def test_fields_of_the_command_come_before_those_of_the_run(tmp_path, directory, shop_file):
    assert update(directory, shop_file) == 2  # nothing is known of its form
    fields = json.dumps({"csv": {"sep": ";"}})

    assert update(directory, shop_file, "--data", fields, "--columns", "{item_id: Artikel, title: Name}") == 0


def test_a_rollback_may_be_planned(directory, full, capsys):
    update(directory, "--from-full-catalog", full)
    files = contents(directory)

    assert update(directory, "--rollback", "--dry-run") == 0

    assert contents(directory) == files and "would roll back changes of 4 items" in capsys.readouterr().out
