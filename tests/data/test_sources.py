"""Every kind of source gives the same tables; sources of other types and odd column names are named."""

import json

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables, render_texts

ITEMS = pd.DataFrame(
    {"item_id": ["007", "8", "NA"], "title": ["null", "Two, words", 'Quote "x"'], "price": [1.5, None, 2.0]}
)
CLICKS = pd.DataFrame(
    {
        "user_id": ["01", "01", "2"],
        "item_id": ["007", "NA", "8"],
        "timestamp": [3, 4, 5],
        "split": ["train", "test", "train"],
    }
)


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in json.loads(frame.to_json(orient="records"))))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.fixture
def expected():
    return read_tables(DataOptions(), items=ITEMS, interactions=CLICKS)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_directory_of_any_format_reads_the_same(tmp_path, suffix, expected):
    write(ITEMS, tmp_path / f"items{suffix}")
    write(CLICKS, tmp_path / f"interactions{suffix}")

    assert read_tables(DataOptions(path=str(tmp_path))).digest == expected.digest


def test_file_names_are_looked_up_in_the_directory_first(tmp_path, expected):
    write(ITEMS, tmp_path / "catalog.csv")
    write(CLICKS, tmp_path / "interactions.parquet")

    tables = read_tables(DataOptions(path=str(tmp_path), items="catalog.csv"))

    assert tables.digest == expected.digest


def test_paths_may_be_passed_in_place_of_frames(tmp_path, expected):
    write(ITEMS, tmp_path / "a.jsonl")
    write(CLICKS, tmp_path / "b.csv")

    assert (
        read_tables(DataOptions(), items=tmp_path / "a.jsonl", interactions=str(tmp_path / "b.csv")).digest
        == expected.digest
    )


def test_frames_passed_in_win_over_the_path(tmp_path, expected):
    options = DataOptions(path=str(tmp_path / "absent"))

    assert read_tables(options, items=ITEMS, interactions=CLICKS).digest == expected.digest


def test_datasets_read_like_frames(expected):
    import datasets

    items, clicks = (datasets.Dataset.from_pandas(frame) for frame in (ITEMS, CLICKS))

    assert read_tables(DataOptions(), items=items, interactions=clicks).digest == expected.digest


def test_parts_of_a_dataset_dict_are_joined_under_their_names():
    import datasets

    plain = CLICKS.drop(columns="split")
    parts = {"train": plain[CLICKS["split"] == "train"], "test": plain[CLICKS["split"] == "test"]}
    clicks = datasets.DatasetDict({k: datasets.Dataset.from_pandas(v, preserve_index=False) for k, v in parts.items()})

    tables = read_tables(DataOptions(), items=ITEMS, interactions=clicks)

    assert tables.interactions["split"].tolist() == ["train", "test", "train"]


@pytest.fixture
def hub_like(tmp_path, monkeypatch):
    """A directory that only its README describes, as a Hub data set is laid out; read through datasets.load_dataset."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    directory = tmp_path / "hub"
    (directory / "tables").mkdir(parents=True)
    write(ITEMS, directory / "tables" / "catalog.parquet")
    write(CLICKS, directory / "tables" / "log.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files: tables/{file}.parquet\n"
        for name, file in (("items", "catalog"), ("interactions", "log"))
    )
    (directory / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return directory


def test_data_set_configs_read_through_load_dataset(hub_like, expected):
    assert read_tables(DataOptions(path=str(hub_like))).digest == expected.digest


def test_missing_config_names_the_data_set(hub_like):
    readme = hub_like / "README.md"
    readme.write_text(readme.read_text().replace("config_name: interactions", "config_name: clicks"))
    with pytest.raises(DataError, match=r"cannot read config 'interactions' of data set .*check the name"):
        read_tables(DataOptions(path=str(hub_like)))


def test_columns_are_mapped_for_both_tables_or_one(expected):
    items = ITEMS.rename(columns={"item_id": "parent", "title": "name"})
    clicks = CLICKS.rename(columns={"item_id": "asin", "user_id": "reader", "timestamp": "time"})
    columns = {"items.item_id": "parent", "title": "name", "item_id": "asin", "user_id": "reader", "timestamp": "time"}

    assert read_tables(DataOptions(columns=columns), items=items, interactions=clicks).digest == expected.digest


def test_mapped_ids_in_csv_keep_their_zeros(tmp_path):
    write(ITEMS.rename(columns={"item_id": "sku"}), tmp_path / "items.csv")
    write(CLICKS.rename(columns={"item_id": "sku", "user_id": "who"}), tmp_path / "interactions.csv")
    columns = {"item_id": "sku", "user_id": "who"}

    tables = read_tables(DataOptions(path=str(tmp_path), columns=columns))

    assert tables.items["item_id"].tolist() == ["007", "8", "NA"]
    assert set(tables.interactions["user_id"]) == {"01", "2"}


def test_mapping_of_one_table_to_an_absent_column_is_an_error():
    options = DataOptions(columns={"items.title": "label"})
    with pytest.raises(DataError, match=r"items has no column 'label' \(data\.columns\.items\.title\), only"):
        read_tables(options, items=ITEMS, interactions=CLICKS)


def test_mapping_of_both_tables_to_an_absent_column_is_an_error():
    options = DataOptions(columns={"rating": "stars"})
    with pytest.raises(
        DataError, match=r"data\.columns\.rating names 'stars', which neither items .* nor interactions"
    ):
        read_tables(options, items=ITEMS, interactions=CLICKS)


def test_mapping_onto_a_column_that_exists_is_an_error():
    options = DataOptions(columns={"title": "name"})
    with pytest.raises(DataError, match=r"items has both 'title' and 'name'"):
        read_tables(options, items=ITEMS.assign(name="x"), interactions=CLICKS)


def test_mapping_with_an_unknown_prefix_is_an_error():
    with pytest.raises(DataError, match=r"data\.columns names 'users\.id'"):
        read_tables(DataOptions(columns={"users.id": "x"}), items=ITEMS, interactions=CLICKS)


def test_no_source_at_all_is_an_error():
    with pytest.raises(DataError, match=r"no source for items: expected data\.path .* or data\.items"):
        read_tables(DataOptions())


def test_directory_without_a_table_lists_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"has no items file: expected one of \['items\.parquet'"):
        read_tables(DataOptions(path=str(tmp_path)))


def test_two_files_for_one_table_are_an_error(tmp_path):
    write(ITEMS, tmp_path / "items.csv")
    write(ITEMS, tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"contains \['items\.parquet', 'items\.csv'\], expected one of them"):
        read_tables(DataOptions(path=str(tmp_path)))


def test_path_that_is_neither_directory_nor_hub_id_is_an_error():
    with pytest.raises(DataError, match=r"data\.path '/no/such/place' is neither a directory nor a Hub id"):
        read_tables(DataOptions(path="/no/such/place"))


def test_absent_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no file 'gone\.csv'"):
        read_tables(DataOptions(), items="gone.csv", interactions=CLICKS)


def test_unknown_format_is_an_error(tmp_path):
    (tmp_path / "items.ods").write_text("")
    with pytest.raises(DataError, match=r"cannot read 'items\.ods': expected a file ending in \.parquet"):
        read_tables(DataOptions(), items=tmp_path / "items.ods", interactions=CLICKS)


def test_broken_json_line_is_named(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"item_id": "1", "title": "x"}\n{"item_id": \n')
    with pytest.raises(DataError, match=r"items\.jsonl, line 2: expected a JSON object"):
        read_tables(DataOptions(), items=tmp_path / "items.jsonl", interactions=CLICKS)


def test_unreadable_object_is_an_error():
    with pytest.raises(DataError, match=r"cannot read items from int 5: expected a DataFrame"):
        read_tables(DataOptions(), items=5, interactions=CLICKS)


PLAIN_ITEMS = pd.DataFrame({"item_id": ["a", "b"], "title": ["Red", "Green"]})
PLAIN_CLICKS = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2]})


def read(items=PLAIN_ITEMS, clicks=PLAIN_CLICKS, **options):
    return read_tables(DataOptions(**options), items=items, interactions=clicks)


@pytest.mark.parametrize(
    "source",
    [
        {"a", "b"},
        (row for row in [1]),
        [{"item_id": "a"}],
        {"item_id": ["a"]},
        {},
        5,
        b"items.csv",
        PLAIN_ITEMS["title"],
        PLAIN_ITEMS.to_numpy(),
    ],
    ids=["set", "generator", "rows", "columns", "empty", "number", "bytes", "series", "array"],
)
def test_other_types_are_refused_with_what_is_expected(source):
    with pytest.raises(DataError, match=r"cannot read items from .*expected a DataFrame, a datasets.Dataset"):
        read(source)


def test_number_as_column_name_is_its_text():
    assert read(PLAIN_ITEMS.assign(x=[1, 2]).rename(columns={"x": 7})).items["7"].tolist() == [1, 2]


@pytest.mark.parametrize("names", [["item_id", "title", "title"], ["item_id", 7, "7"]])
def test_equal_column_names_are_refused(names):
    items = pd.DataFrame([["a", "x", "y"]]).set_axis(names, axis=1)

    with pytest.raises(DataError, match=r"items has more than one column '(title|7)'"):
        read(items)


def test_column_names_of_several_levels_are_refused():
    with pytest.raises(DataError, match="items has column names of 2 levels"):
        read(pd.concat({"x": PLAIN_ITEMS}, axis=1))


def test_an_index_that_is_a_column_counts_as_one():
    indexed = PLAIN_ITEMS.set_index("item_id")

    assert read(indexed).items["item_id"].tolist() == ["a", "b"]
    assert read(indexed.rename_axis("sku"), columns={"items.item_id": "sku"}).items["item_id"].tolist() == ["a", "b"]


def test_sorted_frames_keep_their_rows_together():
    assert read(PLAIN_ITEMS.sort_values("item_id", ascending=False)).items["title"].tolist() == ["Green", "Red"]


def test_frames_by_part_are_joined_under_their_names():
    assert read(clicks={"train": PLAIN_CLICKS[:1], "test": PLAIN_CLICKS[1:]}).interactions["split"].tolist() == [
        "train",
        "test",
    ]


def test_one_column_is_not_mapped_twice():
    with pytest.raises(DataError, match="maps both 'title' and 'brand' to 'title' of items"):
        read(columns={"title": "title", "brand": "title"})


def test_catalog_without_rows_is_refused():
    with pytest.raises(DataError, match="items has 0 rows"):
        read(PLAIN_ITEMS.head(0))


def test_half_characters_are_refused_wherever_they_stand():
    for column in (["a\ud800", "b"], [["x", "y\udfff"], []]):
        with pytest.raises(DataError, match=r"items.tags, row 0: expected text, got half of a character"):
            read(PLAIN_ITEMS.assign(tags=pd.Series(column, dtype=object)))


def test_title_of_bytes_is_named():
    with pytest.raises(DataError, match=r"items.title, row 1: expected text, got bytes b'Gr\\xfcn'; decode"):
        read(PLAIN_ITEMS.assign(title=["Red", b"Gr\xfcn"]))


def test_column_of_bytes_is_no_text_and_said_to_be_left_out():
    tables = read(PLAIN_ITEMS.assign(brand=[b"x", b"y"]))

    assert render_texts(tables.items, None) == ["Red", "Green"]
    assert [notice.message for notice in tables.notices] == [
        "items.brand contains bytes instead of text and is left out"
    ]


def test_half_a_character_in_a_categorical_column_is_named():
    names = pd.Index(["\ud800", "b"], dtype=object)

    with pytest.raises(DataError, match=r"items.title, row 0: expected text, got half of a character"):
        read(PLAIN_ITEMS.assign(title=pd.Categorical(names)))


def test_sparse_columns_are_read_as_plain_ones():
    clicks = PLAIN_CLICKS.assign(timestamp=pd.arrays.SparseArray([2.5, 1.0]))

    assert read(clicks=clicks).interactions["timestamp"].tolist() == [1, 2]
