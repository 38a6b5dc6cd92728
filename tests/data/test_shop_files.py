"""Files as shops write them: separators, encodings, decimal commas, dates, archives, workbooks, patterns, bad rows."""

import gzip
import zipfile

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.tables import read_items

ITEMS = pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["Lampe", "Stuhl", "Tisch"]})
LOG = "user_id,item_id,timestamp\nu,a,1\nu,b,2\nu,c,3\n"
GERMAN = "kunde;item_id;zeit;preis\nu;a;31.01.2024 10:30;1.299,00\nv;b;01.02.2024 09:05;3,5\nu;c;02.02.2024 08:00;7\n"
COLUMNS = {"user_id": "kunde", "timestamp": "zeit"}
FORM = {"sep": ";", "decimal": ",", "date_format": "%d.%m.%Y %H:%M"}


def read(source, **options):
    return read_tables(DataOptions(**options), items=ITEMS, interactions=source)


def test_a_german_export_is_read_by_its_form(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(GERMAN)

    clicks = read(path, csv=FORM, columns=COLUMNS).interactions

    assert clicks["item_id"].tolist() == ["a", "c", "b"]
    assert clicks["preis"].tolist() == [1299.0, 7.0, 3.5]
    assert clicks["timestamp"].tolist()[0] == int(pd.Timestamp("2024-01-31 10:30").timestamp())


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "items.csv"
    path.write_bytes("item_id,title\na,Größe\nb,Café\n".encode(encoding))

    items = read_items(path, options=DataOptions(csv={"encoding": encoding}))

    assert items["title"].tolist() == ["Größe", "Café"]
    assert items.columns.tolist() == ["item_id", "title"]


def test_an_option_of_one_table_does_not_apply_to_the_other(tmp_path):
    (tmp_path / "items.csv").write_text("item_id;title\na;x, y\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,position\nu,a,0\n")

    tables = read_tables(DataOptions(path=str(tmp_path), csv={"items.sep": ";"}))

    assert tables.items["title"].tolist() == ["x, y"]
    assert len(tables.interactions) == 1


def test_a_comma_in_a_column_of_words_is_no_decimal_comma(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id;title;size;code\na;Stuhl;1,5;007\nb;Tisch;gross;012\n")

    items = read_items(path, options=DataOptions(csv={"sep": ";", "decimal": ","}))

    assert items["size"].tolist() == ["1,5", "gross"]
    assert items["code"].tolist() == ["007", "012"]


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [("ms", [1_700_000_000_123, 1_700_000_001_000], [1_700_000_000, 1_700_000_001]), ("s", [5, 6], [5, 6])],
)
def test_units_of_numbers(unit, values, expected):
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["a", "b"], "timestamp": values})

    assert read(clicks, csv={"date_format": unit}).interactions["timestamp"].tolist() == expected


def test_milliseconds_order_clicks_within_a_second():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["a", "b"], "timestamp": [1_700_000_000_900, 1_700_000_000_100]})

    tables = read(clicks, csv={"date_format": "ms"})

    assert tables.interactions["item_id"].tolist() == ["b", "a"]
    assert tables.counts["tied_timestamps"] == 0


def test_compact_dates_are_read_by_their_format():
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["a", "b"], "timestamp": [20240131, 20240201]})

    times = read(clicks, csv={"date_format": "%Y%m%d"}).interactions["timestamp"]

    assert times.diff().iloc[1] == 86_400


def test_archives_are_the_file_in_them(tmp_path):
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("log.csv", LOG)
        archive.writestr("__MACOSX/._log.csv", "x")
    with zipfile.ZipFile(tmp_path / "log.jsonl.zip", "w") as archive:
        archive.writestr("log.jsonl", '{"user_id": "u", "item_id": "a", "timestamp": 1}\n')

    digests = {read(tmp_path / name).source_digest for name in ("log.csv.gz", "log.zip")}

    assert len(digests) == 1
    assert len(read(tmp_path / "log.jsonl.zip").interactions) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [({"a.csv": LOG, "b.csv": LOG}, r"expected one table .*'a.csv', 'b.csv'"), ({"a.txt": LOG}, "expected one table")],
)
def test_an_archive_holds_one_table(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)

    with pytest.raises(DataError, match=message):
        read(tmp_path / "log.zip")


def test_a_file_that_is_no_archive_is_an_error(tmp_path):
    (tmp_path / "log.csv.zip").write_text(LOG)

    with pytest.raises(DataError, match="zip"):
        read(tmp_path / "log.csv.zip")


def test_a_pattern_names_the_parts_of_a_table(tmp_path):
    rows = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]})
    rows.iloc[:2].to_parquet(tmp_path / "log-1.parquet")
    rows.iloc[2:].to_parquet(tmp_path / "log-2.parquet")

    whole = read(rows)
    parts = read("log-*.parquet", path=str(tmp_path))

    assert parts.source_digest == whole.source_digest
    assert parts.interactions["item_id"].tolist() == ["a", "b", "c"]


def test_a_column_has_one_type_in_all_parts(tmp_path):
    (tmp_path / "log-1.csv").write_text("user_id,item_id,timestamp,session,size\nu,a,1,10,5\n,b,2,11,6\n")
    (tmp_path / "log-2.csv").write_text("user_id,item_id,timestamp,session,size\nu,c,3,1e1,L\n,a,4,007,S\n")

    clicks = read("log-*.csv", path=str(tmp_path), on_missing_user="session", session_column="session").interactions

    assert sorted(clicks["user_id"]) == ["session:007", "session:11", "u", "u"]
    assert sorted(clicks["size"]) == ["5", "6", "L", "S"]


def test_parts_of_two_kinds_are_an_error(tmp_path):
    (tmp_path / "log-1.csv").write_text(LOG)
    (tmp_path / "log-2.tsv").write_text(LOG.replace(",", "\t"))

    with pytest.raises(DataError, match=r"interactions are of the kinds \.csv, \.tsv, expected one"):
        read("log-*", path=str(tmp_path))


def test_parts_with_other_columns_are_an_error(tmp_path):
    (tmp_path / "log-1.csv").write_text(LOG)
    (tmp_path / "log-2.csv").write_text(LOG.replace("timestamp", "time"))

    with pytest.raises(DataError, match=r"log-2.csv has the columns .*'time'.* expected those of log-1.csv"):
        read("log-*.csv", path=str(tmp_path))


def test_a_pattern_without_a_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no file 'log-\*.csv'"):
        read("log-*.csv", path=str(tmp_path))


def test_a_workbook_has_a_sheet_for_each_table(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "shop.xlsx"
    clicks = pd.DataFrame({"user_id": [7, 7, None], "item_id": ["a", "b", None], "timestamp": [1, 2, None]})
    with pd.ExcelWriter(path, engine="openpyxl") as book:
        ITEMS.to_excel(book, sheet_name="items", index=False)
        clicks.to_excel(book, sheet_name="interactions", index=False)

    tables = read_tables(DataOptions(items=str(path), interactions=str(path)))

    assert tables.items["title"].tolist() == ITEMS["title"].tolist()
    assert tables.interactions["user_id"].tolist() == ["7", "7"]


def test_texts_of_a_workbook_stay_texts(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "items.xlsx"
    given = pd.DataFrame({"item_id": ["007", "7"], "title": ["1.10", "NA"], "price": [1.5, 2], "stock": [3, None]})
    given.to_excel(path, index=False)

    items = read_items(path)

    assert items[["item_id", "title"]].to_numpy().tolist() == [["007", "1.10"], ["7", "NA"]]
    assert items["price"].tolist() == [1.5, 2]
    assert pd.api.types.is_numeric_dtype(items["stock"])


def test_a_workbook_of_other_sheets_is_an_error(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "shop.xlsx"
    with pd.ExcelWriter(path, engine="openpyxl") as book:
        for name in ("A", "B"):
            ITEMS.to_excel(book, sheet_name=name, index=False)

    with pytest.raises(DataError, match=r"sheets \['A', 'B'\], expected one, or one called 'items'"):
        read_items(path)


def test_bad_rows_can_be_dropped(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,1\nu,b\nu,,2\nu,c,soon\nu,b,\nu,b,5,9\nu,c,4\n")

    with pytest.raises(DataError, match=r"line 3: expected 3 fields .* got 2.*on_bad_row: drop"):
        read(path)
    tables = read(path, on_bad_row="drop")

    assert tables.interactions["item_id"].tolist() == ["a", "c"]
    assert tables.counts["dropped_unreadable_rows_of_interactions"] == 5


def test_lines_that_are_no_json_can_be_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"user_id": "u", "item_id": "a", "timestamp": 1}\nnonsense\n')

    tables = read(path, on_bad_row="drop")

    assert len(tables.interactions) == tables.counts["dropped_unreadable_rows_of_interactions"] == 1


@pytest.mark.parametrize(("choice", "title"), [("first", "old"), ("last", "new")])
def test_one_of_several_rows_of_an_item_is_kept(choice, title):
    items = pd.DataFrame({"item_id": ["a", "b", "a"], "title": ["old", "chair", "new"]})
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["a", "b"], "position": [0, 1]})

    with pytest.raises(DataError, match="on_duplicate_item: first"):
        read_tables(DataOptions(), items=items, interactions=clicks)
    tables = read_tables(DataOptions(on_duplicate_item=choice), items=items, interactions=clicks)

    assert tables.items.set_index("item_id")["title"]["a"] == title
    assert tables.counts["dropped_duplicate_items"] == 1


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ({"separator": ";"}, "has 'separator', expected sep, encoding"),
        ({"users.sep": ";"}, "has 'users.sep'"),
        ({"items.date_format": "ms"}, "items have no times"),
        ({"sep": ";;"}, "one character"),
        ({"decimal": ";"}, "a point or a comma"),
        ({"encoding": "ansi?"}, "an encoding that Python knows"),
        ({"date_format": "dd.mm.yyyy"}, "a format such as"),
        ({"sep": ",", "decimal": ","}, "two marks"),
    ],
)
def test_the_form_of_files_is_checked(csv, message):
    with pytest.raises(DataError, match=message):
        DataOptions(csv=csv)
