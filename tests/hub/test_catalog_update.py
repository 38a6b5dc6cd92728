"""`cost-hf update-catalog`: a catalog on disk takes new, changed and removed items, or one step back."""

import pandas as pd
import pytest

from cost_hf.cli import main
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json
from cost_hf.recommenders.base import Recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.recommenders.toys import TOY_IDS, toy_recommender, toy_text_recommender, with_columns


@pytest.fixture
def directory(tmp_path):
    toy_text_recommender().save_pretrained(tmp_path / "run" / "recommender")
    return tmp_path / "run"


@pytest.fixture
def new_items(tmp_path):
    path = tmp_path / "new.csv"
    pd.DataFrame({"item_id": ["new1", "007"], "title": ["football in lima", "weather in oslo"]}).to_csv(
        path, index=False
    )
    return path


def update(*arguments) -> int:
    return main(["update-catalog", *map(str, arguments)])


def test_added_items_are_there_in_the_next_process_and_old_sids_stay(directory, new_items, capsys):
    before = Recommender.from_pretrained(directory).catalog

    assert update(directory, new_items) == 0

    after = Recommender.from_pretrained(directory).catalog
    assert after.item_ids == (*TOY_IDS, "007", "new1") and after.titles[-1] == "football in lima"
    assert (after.codes[: len(before)] == before.codes).all()
    assert "add: 2 items (" in capsys.readouterr().out


def test_adding_again_changes_nothing(directory, new_items, capsys):
    update(directory, new_items)
    manifest = read_json(directory / "recommender" / "recommender.json")

    assert update(directory, new_items) == 0

    assert read_json(directory / "recommender" / "recommender.json") == manifest
    assert "nothing to do" in capsys.readouterr().out


def test_ids_of_the_command_line_take_the_forms_of_the_training(directory):
    Recipe.load("cost_quickstart", {"data.normalize_ids": ["strip", "lower"]}).save(directory / "recipe.yaml")

    assert main(["recommend", str(directory / "recommender"), " ITEM003", "--top-k", "3"]) == 0
    assert update(directory / "recommender", "--remove", "ITEM001, item002") == 0

    catalog = Recommender.from_pretrained(directory / "recommender").catalog
    assert [item for item, is_removed in zip(catalog.item_ids, catalog.removed, strict=True) if is_removed] == [
        "item001",
        "item002",
    ]


def test_remove_takes_ids_or_a_file_and_rollback_undoes_it(directory, new_items):
    update(directory, new_items)

    assert update(directory, "--remove", "item001, item002") == 0
    assert update(directory, "--remove", new_items) == 0
    removed = Recommender.from_pretrained(directory).catalog
    assert update(directory, "--rollback") == 0

    assert [removed.item_ids[row] for row in removed.removed.nonzero()[0]] == ["item001", "item002", "007", "new1"]
    assert Recommender.from_pretrained(directory).catalog.removed.sum() == 2
    actions = [change.action for change in Recommender.from_pretrained(directory).journal]
    assert actions == ["add", "remove", "remove", "rollback"]


def test_update_changes_titles_of_known_items_and_counts_codes_that_would_differ(directory, tmp_path, capsys):
    before = Recommender.from_pretrained(directory).catalog
    frame = pd.DataFrame({"item_id": ["item000"], "title": [before.titles[19]]})
    frame.to_parquet(tmp_path / "changed.parquet")

    assert update(directory, tmp_path / "changed.parquet", "--update") == 0

    after = Recommender.from_pretrained(directory).catalog
    assert after.titles[0] == before.titles[19] and (after.codes == before.codes).all()
    assert "1 would have other codes now, their SIDs stay" in capsys.readouterr().out


def test_columns_of_new_and_known_items_come_with_the_file_and_values_alone_too(tmp_path, capsys):
    directory = tmp_path / "run"
    with_columns(toy_text_recommender()).save_pretrained(directory / "recommender")
    rows = {"item_id": ["item001", "new"], "title": ["a", "b in oslo"], "price": [7, 8], "brand": ["X", "X"], "note": 1}
    pd.DataFrame(rows).to_csv(tmp_path / "items.csv", index=False)
    pd.DataFrame({"item_id": ["item003", "new"], "in_stock": [False, True]}).to_csv(tmp_path / "stock.csv", index=False)

    def value(item: str, name: str):
        catalog = Recommender.from_pretrained(directory).catalog
        return catalog.columns.value(name, catalog.row_of(item))

    assert update(directory, tmp_path / "items.csv") == 0
    assert [value("new", "price"), value("new", "brand"), value("item001", "price")] == [8.0, "X", 2.5]
    assert value("new", "in_stock") is None
    assert update(directory, tmp_path / "items.csv", "--update") == 0
    assert [value("item001", "price"), value("item001", "brand")] == [7.0, "X"]
    weights = (directory / "recommender" / "model.safetensors").stat().st_mtime_ns
    assert update(directory, "--values", tmp_path / "stock.csv") == 0
    assert [value("item003", "in_stock"), value("new", "in_stock")] == [False, True]
    assert (directory / "recommender" / "model.safetensors").stat().st_mtime_ns == weights
    assert "update: 1 item (new)" in capsys.readouterr().out
    assert update(directory, "--rollback") == 0
    assert value("new", "in_stock") is None


def test_a_file_of_few_items_need_not_show_the_types_of_the_catalog(tmp_path):
    directory = tmp_path / "run"
    with_columns(toy_text_recommender()).save_pretrained(directory / "recommender")
    (tmp_path / "items.csv").write_text("item_id,title,brand\nnew,b in oslo,4711\n")
    (tmp_path / "values.csv").write_text("item_id,brand,price\nitem001,17,\nitem002,18,\n")

    assert update(directory, tmp_path / "items.csv", "--values", tmp_path / "values.csv") == 0

    catalog = Recommender.from_pretrained(directory).catalog
    values = {item: catalog.columns.value("brand", catalog.row_of(item)) for item in ("new", "item001", "item002")}
    assert values == {"new": "4711", "item001": "17", "item002": "18"}
    assert [catalog.columns.value("price", row) for row in (0, 1, 2)] == [0.0, None, None]


def test_a_copy_leaves_the_source_as_it_was(directory, new_items, tmp_path):
    assert update(directory, new_items, "--output_dir", tmp_path / "copy") == 0

    assert len(Recommender.from_pretrained(directory).catalog) == len(TOY_IDS)
    assert len(Recommender.from_pretrained(tmp_path / "copy").catalog) == len(TOY_IDS) + 2


def test_a_copy_is_never_written_over_what_is_there(directory, new_items, tmp_path, capsys):
    (tmp_path / "copy").mkdir()

    assert update(directory, new_items, "--output_dir", tmp_path / "copy") == 2

    assert "exists already; give a new directory" in capsys.readouterr().err
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_cell_without_a_title_is_no_title(directory, tmp_path):
    frame = pd.DataFrame({"item_id": ["x", "y"], "title": ["football in lima", None], "text": ["a", "weather in oslo"]})
    frame.to_parquet(tmp_path / "new.parquet")

    assert update(directory, tmp_path / "new.parquet") == 0

    assert Recommender.from_pretrained(directory).catalog.titles[-2:] == ("football in lima", None)


def test_columns_may_have_other_names(directory, tmp_path):
    pd.DataFrame({"asin": ["x"], "title": ["markets in quito"]}).to_csv(tmp_path / "new.csv", index=False)

    assert update(directory, tmp_path / "new.csv", "--columns", "{item_id: asin}") == 0

    assert "x" in Recommender.from_pretrained(directory).catalog


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected items, values, clicks, ids to remove, or a rollback alone"),
        (["--values", "stock.csv"], "names the column 'stock', which the catalog does not have"),
        (["--rollback", "--remove", "item001"], "or a rollback alone"),
        (["--rollback"], "there is no older catalog to return to"),
        (["--remove", "item001,gone", "--strict"], "1 row: remove, row 1 (item_id 'gone'): not in the catalog"),
        (["missing.csv"], "'missing.csv' does not exist"),
        (["empty.csv", "--strict"], "1 row: items, row 1 (item_id 'b'): no text; correct"),
        (["empty.csv", "--from-full-catalog", "empty.csv"], "give new items or --from-full-catalog, not both"),
        (["--from-full-catalog", "empty.csv", "--remove", "item001"], "and no ids to remove"),
        (["--from-full-catalog", "empty.csv"], "lacks 20 of its 20 items (100.0%), more than --max-gone 0.1 allows"),
        (["empty.csv", "--max-gone", "1"], "--max-gone belongs to --from-full-catalog"),
        (["--from-full-catalog", "empty.csv", "--max-gone", "10%"], "expected a share from 0 to 1"),
        (["empty.csv", "--data", "{seperator: x}"], "--data has 'seperator', expected csv, columns"),
        (["empty.csv", "--data", "{normalize_ids: 5}"], "--data {'normalize_ids': 5} can't be used"),
        (["twice.csv"], "twice"),
        (["empty.csv", "--columns", "[a"], "argument --columns: expected a map of names as YAML"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(directory, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("item_id,title\na,football\nb,\n")
    (tmp_path / "stock.csv").write_text("item_id,stock\nitem001,3\n")
    (tmp_path / "twice.csv").write_text("item_id,title\ntwice,football\ntwice,oslo\n")
    files = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    status = update(directory, *arguments)

    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == files


def test_codes_from_elsewhere_have_no_way_in_by_text(tmp_path, new_items, capsys):
    toy_recommender().save_pretrained(tmp_path / "codes")

    assert update(tmp_path / "codes", new_items) == 2

    assert "has no text encoder" in capsys.readouterr().err


@pytest.fixture
def new_clicks(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("reader,item_id,when\nu,new1,20\nu,item003,10\nv,new1,5\n")
    return path


def test_items_and_clicks_on_them_come_in_one_call(tmp_path, new_items, new_clicks, capsys):
    toy_counting("markov").save_pretrained(tmp_path / "counted")
    columns = ("--columns", "{user_id: reader, timestamp: when}")

    assert update(tmp_path / "counted", new_items, "--clicks", new_clicks, *columns) == 0

    loaded = Recommender.from_pretrained(tmp_path / "counted")
    assert loaded.recommend(["item003"], top_k=1, allowed=["new1", "item000"])[0].item_id == "new1"
    assert loaded.popularity[loaded.catalog.row_of("new1")] == 2
    assert "counted: 3 clicks" in capsys.readouterr().out


def test_files_are_read_as_those_of_the_run_were(tmp_path):
    run = tmp_path / "run"
    toy_counting("popularity").save_pretrained(run / "recommender")
    fields = {
        "data.csv": {"sep": ";"},
        "data.columns": {"user_id": "Kunde", "item_id": "Artikel", "timestamp": "Zeit"},
        "data.event_column": "Art",
        "data.event_weights": {"view": 0, "buy": 5},
    }
    Recipe.load("markov_text", fields).save(run / "recipe.yaml")
    (tmp_path / "clicks.csv").write_text("Kunde;Artikel;Zeit;Art\nu;item003;1;buy\nu;item001;2;view\n")
    before = Recommender.from_pretrained(run / "recommender")

    assert update(run / "recommender", "--clicks", tmp_path / "clicks.csv", "--output_dir", tmp_path / "counted") == 0

    after = Recommender.from_pretrained(tmp_path / "counted")
    rows = [after.catalog.row_of(item) for item in ("item003", "item001")]
    assert (after.popularity - before.popularity)[rows].tolist() == [5, 0]


@pytest.mark.parametrize("name", ["popularity", "markov"])
def test_a_recommender_that_reads_no_texts_takes_items_by_their_titles(tmp_path, new_items, name):
    toy_counting(name).save_pretrained(tmp_path / "counted")

    assert update(tmp_path / "counted", new_items) == 0

    assert Recommender.from_pretrained(tmp_path / "counted").catalog.titles[-1] == "football in lima"


def test_counts_that_results_describe_change_in_a_copy(tmp_path, new_clicks, capsys):
    toy_counting("markov").save_pretrained(tmp_path / "run" / "recommender")
    (tmp_path / "run" / "recipe.yaml").write_text("method: markov\n")
    new_clicks.write_text("user_id,item_id,position\nu,item003,0\nu,item000,1\n")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    run = tmp_path / "run" / "recommender"

    assert update(run, "--clicks", new_clicks) == 2
    assert "holds evaluation results, which are of the counts before; save" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files} == files
    assert update(run, "--clicks", new_clicks, "--output_dir", tmp_path / "copy") == 0

    assert Recommender.from_pretrained(run).popularity[0] == toy_counting("markov").popularity[0]
    assert Recommender.from_pretrained(tmp_path / "copy").popularity[0] == 1 + toy_counting("markov").popularity[0]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("user_id,item_id,position\nu,gone,0\n", "1 of 1 item ids are not in the catalog"),
        ("item_id,position\nitem003,0\n", "interactions has no column 'user_id'"),
    ],
)
def test_clicks_that_can_t_be_counted_are_one_line_and_nothing_is_written(tmp_path, new_clicks, capsys, log, message):
    toy_counting("markov").save_pretrained(tmp_path / "counted")
    new_clicks.write_text(log)

    assert update(tmp_path / "counted", "--clicks", new_clicks) == 2

    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert Recommender.from_pretrained(tmp_path / "counted").identity == toy_counting("markov").identity


def test_a_generator_takes_no_clicks(directory, new_clicks, capsys):
    new_clicks.write_text("user_id,item_id,position\nu,item003,0\n")

    assert update(directory, "--clicks", new_clicks) == 2

    assert "learns from clicks by training alone; train its run on" in capsys.readouterr().err
