"""Cells of tables for digests, without a Python object a cell: columns of texts are read in blocks of Arrow buffers."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from cost_hf.data.cells import cell_text, is_empty
from cost_hf.files import ListedParts

BLOCK_TEXTS = 2**18
ESCAPED = '[\x00-\x1f"\\\\]'  # what JSON writes in another way, where characters beyond ASCII stay as they are


def digest_cells(frame: pd.DataFrame) -> list[Any]:
    """Return names and cells of a table, columns sorted by name, as parts of `content_digest`.

    Whole numbers without a gap are an array, all other cells a list of texts with null for an empty one.
    """
    parts: list[Any] = []
    for column in sorted(frame.columns):
        values = frame[column]
        if pd.api.types.is_integer_dtype(values) and not values.isna().any():
            parts += [column, values.to_numpy(dtype=np.int64)]
        else:
            parts += [column, _texts(values)]
    return parts


def arrow_texts(values: pd.Series) -> pa.LargeStringArray:
    """Return a column of texts as one Arrow array."""
    texts = pa.array(values.array, from_pandas=True)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts.cast(pa.large_string())


def _texts(values: pd.Series) -> Any:
    if isinstance(values.dtype, pd.StringDtype):
        texts = arrow_texts(values)
        is_blank = compute.equal(texts, "")
        if compute.any(is_blank).as_py():
            texts = compute.if_else(is_blank, pa.scalar(None, pa.large_string()), texts)
        return ListedParts(lambda: _json_pieces(texts))
    if pd.api.types.is_float_dtype(values) and isinstance(values.dtype, np.dtype) and values.dtype.itemsize in (4, 8):
        cells = values.to_numpy()
        bits = np.ascontiguousarray(cells).view(f"i{cells.dtype.itemsize}")  # 0.0 and -0.0 are different texts
        places, distinct = pd.factorize(bits)
        known = pa.array([_text(value) for value in distinct.view(cells.dtype).tolist()], pa.large_string())
        texts = known.take(pa.array(places))
        return ListedParts(lambda: _json_pieces(texts))
    return [_text(value) for value in values]


def _text(value: Any) -> str | None:
    # a list of a jsonl file and an array of a parquet file are equal
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        return cell_text(value)
    return None if is_empty(value) else str(value)


def _json_pieces(texts: pa.LargeStringArray) -> Iterator[bytes]:
    """Yield the JSON of the texts, separated by commas, in blocks."""
    for start in range(0, len(texts), BLOCK_TEXTS):
        block = texts.slice(start, BLOCK_TEXTS)
        if block.null_count or compute.any(compute.match_substring_regex(block, ESCAPED)).as_py():
            yield json.dumps(block.to_pylist(), separators=(",", ":"), ensure_ascii=False)[1:-1].encode()
        else:
            whole = pa.ListArray.from_arrays(pa.array([0, len(block)], pa.int32()), block)
            joined = compute.binary_join(whole, pa.scalar('","', pa.large_string()))
            yield b'"' + joined[0].as_buffer().to_pybytes() + b'"'
