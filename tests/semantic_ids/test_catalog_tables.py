"""Parquet files of a catalog: what is written is read, and a small file that stands for much is refused."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_hf.files import DamagedFileError
from cost_hf.semantic_ids import catalog_tables
from cost_hf.semantic_ids.catalog_tables import read_table, write_table

COLUMNS = {
    "item_id": pa.array(["a", "b", "c"]),
    "title": pa.array(["A", None, "A"]),
    "tags": pa.array([["x", "y"], None, []], pa.list_(pa.string())),
    "scores": pa.array([[1.5], [], None], pa.list_(pa.float64())),
    "parts": pa.array([{"size": "m"}, None, {"size": None}]),
    "price": pa.array([1.0, None, 3.0]),
    "raw": pa.array([b"\xff", None, b""]),
}
TITLE_BYTES = 10_000_000


@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_is_read_as_it_was_written(tmp_path, rows):
    columns = {name: array.slice(0, rows) for name, array in COLUMNS.items()}

    write_table(tmp_path / "t.parquet", columns)

    assert read_table(tmp_path / "t.parquet", rows=rows).equals(pa.table(columns))


def test_a_table_of_several_batches_and_row_groups_is_read_whole(tmp_path, monkeypatch):
    table = pa.table({"item_id": [f"item {number % 7}" for number in range(50)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
    monkeypatch.setattr(catalog_tables, "BATCH_ROWS", 8)

    assert read_table(tmp_path / "t.parquet", rows=50).equals(table)


def repeated(value: pa.Array, count: int) -> pa.Array:
    """Return a text for many items, which takes no more memory than one."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), value)


@pytest.mark.parametrize("is_list", [False, True], ids=["texts", "lists, the first ones empty"])
def test_a_small_file_of_ten_gigabytes_of_titles_is_refused_before_they_are_written_out(tmp_path, is_list):
    rows = 3_000
    titles = repeated(pa.array(["x" * TITLE_BYTES]), rows)
    if is_list:
        ends = [max(0, row - 2_000) for row in range(rows + 1)]
        titles = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), titles)
    pq.write_table(pa.table({"title": titles}), tmp_path / "t.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    before = pa.total_allocated_bytes()

    with pytest.raises(DamagedFileError, match=r"t\.parquet has texts of more than \d+ bytes"):
        read_table(tmp_path / "t.parquet", rows=rows)

    assert pa.total_allocated_bytes() - before < 10 * TITLE_BYTES


LONG = repeated(pa.array(["x" * 100_000]), 3_000)
NESTED = pa.FixedSizeListArray.from_arrays(LONG, 1)
BOMBS = {
    "object": pa.table({"parts": pa.StructArray.from_arrays([LONG], ["size"])}),
    "list of one length": pa.table({"tags": NESTED}),
    "bytes of one length": pa.table({"raw": LONG.cast(pa.string()).cast(pa.binary(100_000))}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_of_much_text_of_any_kind_is_refused_before_it_is_written_out(tmp_path, monkeypatch, kind):
    pq.write_table(BOMBS[kind], tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 200_000
    monkeypatch.setattr(catalog_tables, "_bounded", lambda *_: pytest.fail("the texts are written out"))

    with pytest.raises(DamagedFileError, match=r"t\.parquet has texts of more than \d+ bytes"):
        read_table(tmp_path / "t.parquet", rows=3_000)


TWICE = {
    "twice": pa.Table.from_arrays([LONG, LONG], ["title", "title"]),
    "name of a field": pa.table({"a.b": LONG, "a": pa.StructArray.from_arrays([LONG], ["b"])}),
    "name of an object": pa.table({"a": pa.StructArray.from_arrays([LONG], ["b.c"]), "a.b": LONG}),
}


@pytest.mark.parametrize("kind", TWICE)
def test_a_file_in_which_a_name_stands_for_two_columns_is_refused(tmp_path, kind):
    pq.write_table(TWICE[kind], tmp_path / "t.parquet")

    with pytest.raises(DamagedFileError, match=r"t\.parquet has the column '.*' twice, expected it once"):
        read_table(tmp_path / "t.parquet", rows=3_000)


def test_types_of_extensions_are_refused(tmp_path):
    raw = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"] * 3))
    pq.write_table(pa.table({"raw": pa.ListArray.from_arrays([0, 1, 2, 3], raw)}), tmp_path / "t.parquet")

    with pytest.raises(DamagedFileError, match=r"t\.parquet has 'raw' of type list<.*>, which no catalog keeps"):
        read_table(tmp_path / "t.parquet", rows=3)


def test_columns_with_the_name_of_a_field_of_another_are_not_written(tmp_path):
    columns = {"parts": COLUMNS["parts"], "parts.size": COLUMNS["title"]}

    with pytest.raises(ValueError, match=r"two columns or fields of columns have the name 'parts.size'; rename one"):
        write_table(tmp_path / "t.parquet", columns)
    assert not (tmp_path / "t.parquet").exists()


def test_one_long_text_of_many_short_ones_is_read(tmp_path):
    """The longest text times the number of items is more than the file may hold, and their sum is not."""
    rows = 100_000
    texts = pa.array(["short", "x" * 1_000_000])
    brand = pa.DictionaryArray.from_arrays(pa.array([1] + [0] * (rows - 1), pa.int32()), texts).cast(pa.string())

    write_table(tmp_path / "t.parquet", {"brand": brand})

    assert pq.read_metadata(tmp_path / "t.parquet").row_group(0).column(0).has_dictionary_page
    assert read_table(tmp_path / "t.parquet", rows=rows)["brand"].combine_chunks().equals(brand)


def test_many_different_texts_are_read_in_linear_memory(tmp_path):
    rows = 200_000
    ids = pa.array([f"item {row}" for row in range(rows)])
    write_table(tmp_path / "t.parquet", {"item_id": ids})
    before = pa.total_allocated_bytes()

    table = read_table(tmp_path / "t.parquet", rows=rows)

    assert pa.total_allocated_bytes() - before < 4 * ids.nbytes
    assert table["item_id"].combine_chunks().equals(ids)


def test_more_rows_than_items_are_refused(tmp_path):
    write_table(tmp_path / "t.parquet", COLUMNS)

    with pytest.raises(DamagedFileError, match=r"t\.parquet has 3 rows, expected 2, one an item"):
        read_table(tmp_path / "t.parquet", rows=2)


def test_what_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_tables, "BYTES", 10)
    monkeypatch.setattr(catalog_tables, "BYTES_PER_ITEM", 1)

    with pytest.raises(ValueError, match=r"titles and columns of 3 items have \d+ bytes, expected at most 13; shorten"):
        write_table(tmp_path / "t.parquet", COLUMNS)
    assert not (tmp_path / "t.parquet").exists()


READS_WITH_A_CHANGED_BYTE = """
import sys
from pathlib import Path

from cost_hf.files import DamagedFileError
from cost_hf.row_groups import readable_parquet_errors
from cost_hf.semantic_ids.catalog_tables import read_table

path = Path(sys.argv[1])
whole = path.read_bytes()
footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for place in range(footer, len(whole)):
    for bit in (0, 2, 6):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        try:
            with readable_parquet_errors(path):
                read_table(path, rows=3)
        except DamagedFileError:
            pass
print("read", len(whole) - footer, "bytes")
"""


def test_no_changed_byte_of_the_metadata_ends_the_process(tmp_path):
    write_table(tmp_path / "t.parquet", COLUMNS)

    run = subprocess.run(
        [sys.executable, "-c", READS_WITH_A_CHANGED_BYTE, str(tmp_path / "t.parquet")], capture_output=True, text=True
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("read ")
