"""Files of every kind: read as they are, or refused with file, line and remedy."""

import bz2
import gzip
import json
import random
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError, DataOptions, read_tables, render_texts, text_files
from cost_hf.data.tables import read_items
from cost_hf.data.text_files import read_jsonl

ITEMS = pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["Red", "Green", "Blue"]})
CLICKS = pd.DataFrame({"user_id": ["u", "u", "u"], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]})


def read_clicks(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tables(DataOptions(), items=ITEMS, interactions=path).interactions


def catalog(path, content):
    path.write_text(content)
    return read_items(path)


HEADER = "user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "user_id,item_id,position,x\n1,a,1,0,\n", "line 2: expected 4 fields as in the header .* got 5"),
        ("c.csv", HEADER + "u,a,1\nu,b\n", "line 3: expected 3 fields .* got 2"),
        ("c.csv", HEADER + "u,a,1\n" * 3 + "u,a,1,1\n", "line 5: expected 3 fields .* got 4"),
        ("c.csv", 'user_id,item_id,timestamp,t\nu,a,1,"two\nlines"\nu,b,2\n', "line 4: expected 4 fields .* got 3"),
        ("c.tsv", "user_id\titem_id\ttimestamp\nu\ta\t1\t\n", "line 2: expected 3 fields .* got 4"),
        ("c.csv", "user_id,item_id,item_id\nu,a,1\n", r"line 1: expected each column name once, got \['item_id'\]"),
        ("c.csv", "", "is empty, expected a header"),
        ("c.csv", "\n\n", "is empty, expected a header"),
        ("c.csv", HEADER, "interactions has 0 rows"),
        ("c.csv", HEADER + 'u,"a,1\nu,b,2\n', "line 2: expected a row whose quotes close"),
        ("c.csv", HEADER + 'u,"a" b,1\n', "line 2: expected a row whose quotes close"),
        ("c.csv", (HEADER + "u,caf\xe9,1\n").encode("latin-1"), "line 2: expected text in utf-8.*iconv"),
        ("c.csv", (HEADER + "u,a,1\n").encode("utf-16"), "line 1: expected text in utf-8, got UTF-16"),
        ("c.csv", (HEADER + "u,a,1\n").encode("utf-16-le"), "line 1: expected text in utf-8, got a NUL byte"),
        ("c.csv", gzip.compress(HEADER.encode(), mtime=0), "got gzip data; end the name in .gz"),
        ("c.csv.gz", HEADER.encode(), "expected a complete gzip file"),
        (
            "c.csv.gz",
            gzip.compress(random.Random(0).randbytes(9000).hex().encode(), mtime=0)[:-50],
            "expected a complete gzip file",
        ),
        ("c.jsonl", "", "is empty, expected rows"),
        ("c.jsonl", '{"user_id": "u"}\n[1]\n', "line 2: expected a JSON object, got '.1.' .this is a list"),
        ("c.jsonl", '\n{"user_id": "u", "user_id": "v"}\n', "line 2: .*field 'user_id' twice"),
        ("c.jsonl", '{"user_id": "\\ud83d"}\n', "line 1: expected text, got half of a character"),
        ("c.jsonl", "[" * 100_000, "line 1: expected a JSON object.*RecursionError"),
        ("c.jsonl", '{"x": ' + "[" * 200 + "]" * 200 + "}", "line 1: .*nests more than"),
        ("c.jsonl", '{"x": ' + "1" * 5000 + "}", "line 1: expected a JSON object"),
        ("c.jsonl", '{"user_id": "caf\xe9"}\n'.encode("latin-1"), "line 1: expected text in utf-8"),
        ("c.jsonl.gz", gzip.compress(b'{"user_id": "u"}\n' * 5000, mtime=0)[:-9], "damaged"),
        ("c.csv", (HEADER + "u,a,1\nu,b,2\n").replace("\n", "\r"), "line 1: expected lines that end in a newline"),
        ("c.csv", HEADER.replace(",", ";") + "u;a;1\n", "line 1: expected fields separated by a comma.* semicolon"),
        ("c.csv", HEADER.replace(",", ";") + "u;a;1,5\n", "line 1: expected fields separated by a comma.* semicolon"),
        ("c.tsv", HEADER + "u,a,1\n", "line 1: expected fields separated by a tab.* by a comma"),
        ("c.csv", b"PK\x03\x04 zipped", "line 1: expected text, got a zip archive"),
        ("c.jsonl", bz2.compress(b"{}"), "line 1: expected text, got bzip2 data"),
        ("c.parquet", "no parquet", "not a valid parquet file"),
        ("c.parquet", "", "not a valid parquet file"),
        ("c.csv.bak", HEADER, "cannot read 'c.csv.bak': expected a file ending in .parquet"),
    ],
)
def test_malformed_file_is_refused_by_name_and_line(tmp_path, name, content, message):
    with pytest.raises(DataError, match=f"(?s){re.escape(name)}.*{message}|^{message}"):
        read_clicks(tmp_path / name, content)


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_truncated_parquet_is_refused(tmp_path, cut):
    CLICKS.to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()

    with pytest.raises(DataError, match=r"cut.parquet is not a valid parquet file"):
        read_clicks(tmp_path / "cut.parquet", content[: int(cut * len(content))])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", "\ufeff" + HEADER + "u,a,1\n\n   \nu,b,2\nu,c,3\n"),
        ("c.csv", HEADER.replace("\n", "\r\n") + "u,a,1\r\nu,b,2\r\nu,c,3"),
        ("c.csv", '"user_id",item_id,"timestamp"\n"u","a",1\nu,b,"2"\nu,c,3\n'),
        ("C.CSV", HEADER + "u,a,1\nu,b,2\nu,c,3\n"),
        ("c.csv.gz", gzip.compress((HEADER + "u,a,1\nu,b,2\nu,c,3\n").encode(), mtime=0)),
        ("c.tsv.gz", gzip.compress((HEADER + "u,a,1\nu,b,2\nu,c,3\n").replace(",", "\t").encode(), mtime=0)),
        ("c.jsonl.gz", gzip.compress(CLICKS.to_json(orient="records", lines=True).encode(), mtime=0)),
        ("c.jsonl", "\ufeff" + CLICKS.to_json(orient="records", lines=True)),
    ],
)
def test_form_of_the_file_makes_no_difference(tmp_path, name, content):
    found = read_clicks(tmp_path / name, content)

    assert found[["user_id", "item_id", "timestamp"]].to_numpy().tolist() == CLICKS.to_numpy().tolist()


def test_directory_may_hold_compressed_tables(tmp_path):
    ITEMS.to_csv(tmp_path / "items.csv.gz", index=False)
    (tmp_path / "interactions.jsonl.gz").write_bytes(
        gzip.compress(CLICKS.to_json(orient="records", lines=True).encode(), mtime=0)
    )

    assert read_tables(DataOptions(path=str(tmp_path))).items["title"].tolist() == ["Red", "Green", "Blue"]


def test_item_is_never_called_by_another_field(tmp_path):
    with pytest.raises(DataError, match=r"new.csv, line 2: expected 2 fields .*got 3"):
        catalog(tmp_path / "new.csv", "item_id,title\n9,Nine,extra\n")


def test_lines_within_quotes_stay_in_their_field(tmp_path):
    items = catalog(tmp_path / "i.csv", 'item_id,title\na,"two\n\nlines, ""quoted"""\nb,x\n')

    assert items["title"].tolist() == ['two\n\nlines, "quoted"', "x"]


def test_tsv_without_quoting_keeps_quotes_as_they_are(tmp_path):
    items = catalog(tmp_path / "i.tsv", 'item_id\ttitle\na\t"Weird Al" Yankovic\nb\t5" nails\nc\t"open\n')

    assert items["title"].tolist() == ['"Weird Al" Yankovic', '5" nails', '"open']


def test_csv_cells_become_numbers_only_where_no_text_is_lost(tmp_path):
    text = "item_id,code,year,size,ean,flag\n01,007,1984,1.5,9007199254740993,True\n2,42,,2,,False\n"
    items = catalog(tmp_path / "i.csv", text)

    assert items["item_id"].tolist() == ["01", "2"]
    assert items["code"].tolist() == ["007", "42"]
    assert items["size"].tolist() == [1.5, 2.0]
    assert items["flag"].tolist() == [True, False]
    assert render_texts(items, "{code} {year} {ean}") == ["007 1984 9007199254740993", "42"]


def test_ids_that_a_csv_got_from_floats_are_the_whole_numbers(tmp_path):
    assert read_items_ids(tmp_path, "1.0\n12.0\n") == ["1", "12"]
    assert read_items_ids(tmp_path, "1.0\nx\n") == ["1.0", "x"]
    assert read_items_ids(tmp_path, "1e5\n2e5\n") == ["1e5", "2e5"]


def test_titles_of_a_csv_are_texts_whatever_they_look_like(tmp_path):
    titles = ["3.10", "3.1", "1e5", "+5", "2.0", "007"]
    text = "item_id,name\n" + "".join(f"{row},{title}\n" for row, title in enumerate(titles))
    (tmp_path / "i.csv").write_text(text)

    items = read_items(tmp_path / "i.csv", columns={"title": "name"})

    assert items["title"].tolist() == render_texts(items, None) == titles


def test_whole_numbers_beyond_every_integer_stay_apart(tmp_path):
    items = catalog(tmp_path / "i.csv", f"item_id,ean\na,{10**22}\nb,{10**22 + 1}\n")

    assert render_texts(items, "{ean}") == [str(10**22), str(10**22 + 1)]


def test_repeated_column_of_a_parquet_file_is_named(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["item_id", "title", "title"])
    pq.write_table(table, tmp_path / "i.parquet")

    with pytest.raises(DataError, match=r"i.parquet has more than one column 'title'"):
        read_items(tmp_path / "i.parquet")


@pytest.mark.parametrize(
    "ids", ["1e+19\n2e+19\n", "1.0\n9007199254740992.0\n", "1.23457E+18\n12\n", "1E+18\n1.5E+18\n"]
)
def test_ids_that_were_rounded_in_a_csv_are_refused(tmp_path, ids):
    with pytest.raises(DataError, match=r"i.csv, column 'item_id', row [01]: .*rounded when it was written"):
        read_items_ids(tmp_path, ids)


def read_items_ids(folder, lines):
    rows = [f"{line},title" for line in lines.split()]
    return catalog(folder / "i.csv", "\n".join(["item_id,title", *rows]))["item_id"].tolist()


ODD = [2**53 + 1, 2**63, 2**70, 0.5, -0.0, True, "a", "7", "", [1], {"b": 1}, 3, None]
KINDS = st.sampled_from(
    [st.integers(0, 9), st.sampled_from([0.5, 3.0]), st.sampled_from(["a", ""]), st.booleans(), st.sampled_from(ODD)]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_jsonl_read_in_chunks_is_that_read_at_once(tmp_path, monkeypatch, data):
    kinds = {name: data.draw(KINDS) for name in "xyz"}
    fields = {name: st.one_of(st.none(), kind) if data.draw(st.booleans()) else kind for name, kind in kinds.items()}
    record = st.fixed_dictionaries({"x": fields["x"]}, optional={"y": fields["y"], "z": fields["z"]})
    records = data.draw(st.lists(record, min_size=1, max_size=7))
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    monkeypatch.setattr("cost_hf.data.text_files.CHUNK_RECORDS", data.draw(st.integers(1, 4)))

    found = read_jsonl(path)

    expected = pd.DataFrame(records)
    pd.testing.assert_frame_equal(found, expected)
    assert repr(found.to_dict("list")) == repr(expected.to_dict("list"))  # 0.0 and -0.0, True and 1


def checked_rows(path, separator):
    try:
        return text_files._check_rows(path, separator, "utf-8", collects=True)
    except DataError as error:
        return str(error)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text(alphabet='ab,\t" é\0\ufeff\x0b', max_size=6), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    last=st.sampled_from(["", "\n"]),
    separator=st.sampled_from([",", "\t"]),
    size=st.integers(1, 12),
)
def test_rows_of_plain_files_are_counted_as_one_by_one(tmp_path, lines, end, last, separator, size):
    path = tmp_path / "c.csv"
    path.write_bytes((end.join(lines) + last).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK_BYTES", size)
        found = checked_rows(path, separator)
        patch.setattr(text_files, "_plain_rows", lambda *_: None)

        assert found == checked_rows(path, separator)


def test_a_plain_file_is_not_read_row_by_row(tmp_path, monkeypatch):
    path = tmp_path / "c.csv"
    path.write_text("a,b\n1,2\n3,")
    monkeypatch.setattr(text_files, "_count_rows", None)

    assert text_files._check_rows(path, ",", "utf-8", collects=False)[1:] == (["a", "b"], 2, [])


def test_bad_lines_of_a_chunked_jsonl_are_found_once(tmp_path, monkeypatch):
    (tmp_path / "c.jsonl").write_text('{"a": true}\n[]\n{"a": "x"}\n')
    monkeypatch.setattr("cost_hf.data.text_files.CHUNK_RECORDS", 1)
    bad = []

    found = read_jsonl(tmp_path / "c.jsonl", bad_rows=bad)

    assert found["a"].tolist() == [True, "x"]
    assert [row.line for row in bad] == [2]


def test_large_jsonl_ids_stay_apart(tmp_path):
    rows = [{"item_id": 2**53 + step, "title": "x"} for step in (0, 1)]

    items = catalog(tmp_path / "i.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    assert items["item_id"].tolist() == ["9007199254740992", "9007199254740993"]
