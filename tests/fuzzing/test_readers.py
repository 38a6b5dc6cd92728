"""Tables and recipes of any content: rows, or an error that names the file."""

import bz2
import gzip
import io
import json
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data import DataOptions
from cost_hf.data.tables import read_items, read_tables
from cost_hf.yaml_text import read_yaml
from tests.fuzzing import ends_in_an_error_of_ours, long, quick, slow

ITEMS = pd.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})
CELLS = st.sampled_from(["a", "b", "u", "1", "2", "01", "1,5", "", " ", '"', '""', "\x00", "\ufeff", "2024-01-01", "é"])
CELLS |= st.text(max_size=6) | st.integers().map(str) | st.floats().map(str)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5)
HEADERS = st.sampled_from(
    [["user_id", "item_id", "timestamp"], ["item_id", "title"], ["user_id", "item_id", "position"]]
)
SEPARATED = st.builds(
    lambda header, rows, separator, end: end.join(separator.join(cells) for cells in [header, *rows]).encode(
        "utf-8", "surrogatepass"
    ),
    HEADERS | st.lists(CELLS, max_size=3),
    ROWS,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["a", "b", "u"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["user_id", "item_id", "timestamp", "position", "title", "x", ""])
LINES = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=5).map(
    lambda rows: "\n".join(map(json.dumps, rows)).encode()
)
CONTENTS = SEPARATED | LINES | st.binary(max_size=200)
SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".csv.gz", ".jsonl.bz2", ".zip"]


def packed(content: bytes, suffix: str) -> bytes:
    """Return the content as a file with this end holds it."""
    if suffix.endswith(".gz"):
        return gzip.compress(content)
    if suffix.endswith(".bz2"):
        return bz2.compress(content)
    if suffix == ".zip":
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("clicks.csv", content)
        return whole.getvalue()
    return content


def reads(folder, content: bytes, suffix: str, is_packed: bool) -> None:
    path = folder / f"table{suffix}"
    path.write_bytes(packed(content, suffix) if is_packed else content)
    ends_in_an_error_of_ours(lambda: read_tables(DataOptions(), items=ITEMS, interactions=path))
    ends_in_an_error_of_ours(lambda: read_items(path))


def reads_parquet(folder, columns) -> None:
    try:
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        pq.write_table(table, folder / "table.parquet")
    except (pa.ArrowException, OverflowError, ValueError):  # values that no column holds
        return
    ends_in_an_error_of_ours(lambda: read_tables(DataOptions(), items=ITEMS, interactions=folder / "table.parquet"))


COLUMNS = st.integers(1, 3).flatmap(
    lambda rows: st.dictionaries(NAMES, st.lists(VALUES, min_size=rows, max_size=rows), min_size=1, max_size=4)
)


@quick
@given(content=CONTENTS, suffix=st.sampled_from(SUFFIXES), is_packed=st.booleans())
def test_a_table_of_any_content_is_read_or_refused(tmp_path, content, suffix, is_packed):
    reads(tmp_path, content, suffix, is_packed)


@slow
@long
@given(content=CONTENTS, suffix=st.sampled_from(SUFFIXES), is_packed=st.booleans())
def test_many_tables_of_any_content_are_read_or_refused(tmp_path, content, suffix, is_packed):
    reads(tmp_path, content, suffix, is_packed)


@quick
@given(columns=COLUMNS)
def test_a_parquet_table_of_any_values_is_read_or_refused(tmp_path, columns):
    reads_parquet(tmp_path, columns)


@slow
@long
@given(columns=COLUMNS)
def test_many_parquet_tables_of_any_values_are_read_or_refused(tmp_path, columns):
    reads_parquet(tmp_path, columns)


YAML = st.text(max_size=80) | st.lists(
    st.sampled_from(
        ["a", "&x ", "*x", "!!python/object:os.system", "- ", ": ", "\n", "  ", "{", "}", "[", "]", "|", "?", "1:30"]
    ),
    max_size=30,
).map("".join)


@quick
@given(text=YAML)
def test_any_yaml_is_read_or_refused(text):
    ends_in_an_error_of_ours(lambda: read_yaml(text))


@slow
@long
@given(text=YAML)
def test_much_yaml_is_read_or_refused(text):
    ends_in_an_error_of_ours(lambda: read_yaml(text))
