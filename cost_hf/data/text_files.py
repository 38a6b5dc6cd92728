"""Tables in text files: csv, tsv and jsonl, plain or compressed (gzip, zip), read line by line.

A csv is read twice: first row by row, because pandas' fast parser takes a row with one field too many for a row with an
index and fills short rows up, then by that parser. Cells are read as text and become numbers only where the whole
column is numeric and no digit is lost: "007" stays a string. Errors name file and line; a list of bad rows may be given
instead, which are then left out.
"""

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from cost_hf.data.cells import EXACT_WHOLE
from cost_hf.data.errors import DataError
from cost_hf.files import readable_os_errors

GZIP_START = b"\x1f\x8b"
OTHER_STARTS = {b"PK\x03\x04": "a zip archive", b"BZh9": "bzip2 data", b"\xfd7zXZ": "xz data"}
OTHER_STARTS |= {b"\x28\xb5\x2f\xfd": "zstandard data", b"\xd0\xcf\x11\xe0": "a spreadsheet"}
UTF16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATED = (".csv", ".tsv")
KINDS = (*SEPARATED, ".jsonl")
COMPRESSED = {".gz": "gzip", ".zip": "zip"}
ENCRYPTED = 1  # flag of an entry of a zip archive


@dataclass(frozen=True)
class TextFormat:
    """How a table is written as text.

    Attributes:
        sep: between fields; None is a comma, or a tab in files that end in .tsv.
        encoding: of the characters.
        decimal: point or comma of numbers; with a comma, points separate thousands.
    """

    sep: str | None = None
    encoding: str = "utf-8"
    decimal: str = "."

    @property
    def is_utf8(self) -> bool:
        """Whether this is UTF-8, with or without a byte order mark."""
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig")

    def separator(self, kind: str) -> str:
        """Return what is between the fields of a file of a kind."""
        return self.sep or ("\t" if kind == ".tsv" else ",")


@dataclass(frozen=True)
class BadRow:
    """A row of a text file that can't be read."""

    line: int
    fault: str


def kind_of(path: Path) -> str | None:
    """Return the kind of a text file by its name, one of `KINDS`; in a zip archive, by that of the table in it."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    kind = next((kind for kind in KINDS if name.endswith(kind)), None)
    if kind is None and path.suffix.lower() == ".zip":
        kind = next(kind for kind in KINDS if _zipped_table(path).lower().endswith(kind))
    return kind


@contextmanager
def open_table(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file, decompressed where its name ends in .gz or .zip."""
    ending = path.suffix.lower()
    with readable_os_errors():
        if ending == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_zipped_table(path)) as table:
                yield table
        else:
            with gzip.open(path) if ending == ".gz" else path.open("rb") as table:
                yield table  # type: ignore[misc]


def _zipped_table(path: Path) -> str:
    """Return the name of the one table in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.startswith("__MACOSX/")]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path.name}: expected a zip archive, got a damaged one ({error}); pack it again") from error
    tables = [entry for entry in entries if entry.filename.lower().endswith(KINDS)]
    if len(tables) != 1:
        raise DataError(
            f"{path.name}: expected one table in the archive ({', '.join(KINDS)}), got "
            f"{[entry.filename for entry in entries[:8]]}; pack each table into an archive of its own, or unpack them "
            "and name them by a pattern"
        )
    if tables[0].flag_bits & ENCRYPTED:
        raise DataError(f"{path.name}: expected an archive without a password, got an encrypted one; unpack it")
    return tables[0].filename


def decoded_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text with its line end) of each line, one at a time.

    Lines end at newlines only: texts may contain other characters that Python treats as line ends. A byte order mark is
    skipped.

    Raises:
        DataError: for bytes that are not valid in this encoding, and for a damaged file.
        OSError: for a file that can't be read.
    """
    number = 0
    try:
        with open_table(path) as lines:
            if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):  # a newline has several bytes
                for number, text in enumerate(io.TextIOWrapper(lines, encoding=encoding, newline="\n"), start=1):
                    yield number, text.removeprefix("\ufeff")
                return
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = _without_mark(path, line)
                if b"\0" in line:
                    raise _undecodable(path, number, encoding, "a NUL byte, as in UTF-16 or a damaged file")
                yield number, line.decode(encoding)
    except UnicodeError as error:
        raise _undecodable(path, number, encoding, f"invalid bytes ({error})") from error
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        kind = COMPRESSED[path.suffix.lower()]
        raise DataError(
            f"{path.name}, after line {number}: expected a complete {kind} file, got a damaged one "
            f"({error}); download the file again, or remove {path.suffix} from its name if it is not compressed"
        ) from error


def read_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text without its line end) of each non-blank line; otherwise as `decoded_lines`."""
    for number, line in decoded_lines(path, encoding=encoding):
        text = line.rstrip("\r\n")
        if text.strip():
            yield number, text


def _without_mark(path: Path, line: bytes) -> bytes:
    """Check the start of a file and remove the byte order mark of UTF-8."""
    if line.startswith(GZIP_START):
        raise DataError(
            f"{path.name}, line 1: expected text, got gzip data; end the name in .gz, or unpack the file (once for "
            "each .gz)"
        )
    for start, kind in OTHER_STARTS.items():
        if line.startswith(start):
            raise DataError(
                f"{path.name}, line 1: expected text, got {kind}; unpack or export the table as text, or give the file "
                "the ending of its kind"
            )
    if line.startswith(UTF16_STARTS):
        raise _undecodable(path, 1, "utf-8", "UTF-16 (by its byte order mark)")
    return line.removeprefix(codecs.BOM_UTF8)


def _undecodable(path: Path, number: int, encoding: str, got: str) -> DataError:
    remedies = {
        "utf-8": "name its encoding, as with data.csv: {encoding: cp1252} (or utf-16), or save it as UTF-8, as with "
        "`iconv -f latin1 -t utf-8`"
    }
    return DataError(
        f"{path.name}, line {number}: expected text in {encoding}, got {got}; "
        f"{remedies.get(encoding, 'download the file again or convert it')}"
    )


Quoting: TypeAlias = Literal[0, 3]  # csv.QUOTE_MINIMAL and csv.QUOTE_NONE
CHUNK_RECORDS = 2**16
BLOCK_BYTES = 2**22
MAX_NESTED = 32  # depth of lists and objects in a record
WHOLE_FLOAT = re.compile(r"-?\d+\.0")
EXPONENT = re.compile(r"-?\d(\.\d+)?[eE]\+\d+")  # how floats from 1e16 on are written
SPREADSHEET = re.compile(r"-?\d\.\d+E\+\d+")  # how a spreadsheet writes whole numbers of twelve digits and more
WHOLE = re.compile(r"[+-]?\d+")
COMMA_NUMBER = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
SEPARATORS = {"a comma": ",", "a semicolon": ";", "a tab": "\t", "a bar": "|"}
TRUTH = {"True": True, "False": False, "true": True, "false": False, "TRUE": True, "FALSE": False}


def read_cells(path: Path, *, separator: str, form: TextFormat, bad_rows: list[BadRow] | None = None) -> pd.DataFrame:
    """Read a csv or tsv file with quoted fields, all cells as text; a tsv may use quotes as plain characters instead.

    Args:
        path: the file; one that ends in .gz or .zip is decompressed.
        separator: between fields.
        form: encoding of the characters.
        bad_rows: gets the rows with another number of fields than the header, which are left out; None raises for one.

    Raises:
        DataError: for an empty file, a repeated column name, a bad row, or quotes that do not close.
    """
    quoting, header, num_rows, bad = _check_rows(path, separator, form.encoding, collects=bad_rows is not None)
    if bad_rows is not None:
        bad_rows += bad
    frame = _good_rows(path, separator, form, quoting, header) if bad else _parsed(path, separator, form, quoting)
    if len(frame) != num_rows:
        raise DataError(
            f"{path.name}: expected {num_rows} rows below the header, got {len(frame)}; its quotes or line ends can be "
            "read in two ways: rewrite the file, or save it as parquet"
        )
    return frame


def typed_columns(
    frame: pd.DataFrame, *, source: str, ids: Sequence[str], texts: Sequence[str], times: Sequence[str], decimal: str
) -> pd.DataFrame:
    """Return a table of text cells with numbers and booleans where a whole column holds nothing else.

    Args:
        frame: the rows of all files of the table.
        source: name of the files, for errors.
        ids: columns that are always texts.
        texts: likewise, character by character: a title "3.10" is not "3.1".
        times: columns whose fractions are kept as text, since a float would round them.
        decimal: mark of numbers.

    Raises:
        DataError: for ids that were rounded when they were written.
    """
    columns = {}
    for name, cells in frame.items():
        if name in ids:
            columns[name] = _id_cells(source, cells)
        elif name in texts:
            columns[name] = cells
        else:
            plain = with_points(cells) if decimal == "," else cells
            if name in times and plain.str.contains(".", regex=False).any():
                columns[name] = plain
            else:
                typed = _typed(plain)
                columns[name] = cells if typed is plain else typed
    return pd.DataFrame(columns)


def with_points(cells: pd.Series) -> pd.Series:
    """Return numbers with a decimal comma as those with a point; other columns are returned as they are.

    Examples:
        >>> import pandas as pd
        >>> with_points(pd.Series(["1.299,00", "3,5", "7"], dtype=str)).tolist()
        ['1299.00', '3.5', '7']
    """
    known = cells.dropna()
    if known.empty or not known.str.fullmatch(COMMA_NUMBER).all():
        return cells
    return cells.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)


def _parsed(path: Path, separator: str, form: TextFormat, quoting: Quoting) -> pd.DataFrame:
    try:
        with open_table(path) as table:
            return _text_cells(
                table, sep=separator, quoting=quoting, encoding="utf-8-sig" if form.is_utf8 else form.encoding
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path.name} can't be read as a table ({error}); rewrite it, or save it as parquet") from error


def _text_cells(table: Any, **options: Any) -> pd.DataFrame:
    """Return all cells as text, missing where they are empty."""
    return pd.read_csv(table, dtype=str, keep_default_na=False, na_values=[""], index_col=False, **options)


def _good_rows(path: Path, separator: str, form: TextFormat, quoting: Quoting, header: list[str]) -> pd.DataFrame:
    """Read a file without its bad rows; pandas would fill short ones up."""
    buffer = io.StringIO()
    rows = (row for _, row in _table_rows(path, separator, form.encoding, quoting) if len(row) == len(header))
    csv.writer(buffer).writerows(rows)
    buffer.seek(0)
    return _text_cells(buffer)


def read_jsonl(path: Path, *, encoding: str = "utf-8", bad_rows: list[BadRow] | None = None) -> pd.DataFrame:
    """Read a file with one JSON object per line; a file that ends in .gz or .zip is decompressed.

    Args:
        path: the file.
        encoding: of the characters.
        bad_rows: gets the lines that can't be read, which are left out; None raises for one.

    Raises:
        DataError: for a line that is not a JSON object, repeats a field, nests too deep or has a lone surrogate.
    """
    bad: list[BadRow] | None = None if bad_rows is None else []
    records = _records(path, encoding, bad)
    chunks = []
    while chunk := list(islice(records, CHUNK_RECORDS)):
        chunks.append(pd.DataFrame(chunk))  # a row as an object takes ten times the memory of its cells in columns
    frame = _joined_chunks(chunks)
    if frame is None:
        bad = None if bad_rows is None else []
        frame = pd.DataFrame(list(_records(path, encoding, bad)))
    if bad_rows is not None:
        bad_rows += bad or []
    return frame


def _records(path: Path, encoding: str, bad_rows: list[BadRow] | None) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; `bad_rows` as for `read_jsonl`."""
    for number, line in read_lines(path, encoding=encoding):
        try:
            yield parse_record(path, number, line)
        except DataError as error:
            if bad_rows is None:
                raise
            bad_rows.append(BadRow(number, str(error)))


def _joined_chunks(chunks: list[pd.DataFrame]) -> pd.DataFrame | None:
    """Return chunks of records as the table of all of them; None where the types of the whole can't be told.

    The type of a column follows from all its cells: whole numbers with a gap are floats, numbers among texts objects.
    """
    if len(chunks) < 2:
        return chunks[0] if chunks else pd.DataFrame([])
    for name in dict.fromkeys(name for chunk in chunks for name in chunk):
        known = [chunk[name] for chunk in chunks if name in chunk and chunk[name].notna().any()]
        kinds = {values.dtype for values in known}
        are_texts = all(isinstance(kind, pd.StringDtype) for kind in kinds)
        if not kinds or not (are_texts or kinds <= {np.dtype(np.int64), np.dtype(np.float64)}):
            return None
    filled = [chunk.loc[:, chunk.notna().any()] for chunk in chunks]
    return pd.concat(filled, ignore_index=True)[list(dict.fromkeys(name for chunk in chunks for name in chunk))]


def parse_record(path: Path, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object of a line; `DataError` naming file and line for anything else."""
    try:
        record = json.loads(line, object_pairs_hook=_unique_fields)
    except (ValueError, RecursionError) as error:
        raise _bad_record(path, number, line, f"{type(error).__name__}: {error}") from error
    if not isinstance(record, dict):
        raise _bad_record(path, number, line, f"this is a {type(record).__name__}")
    if _is_deeper(record, MAX_NESTED):
        raise _bad_record(path, number, line, f"it nests more than {MAX_NESTED} lists and objects")
    if "\\u" in line:
        check_whole_characters(record, f"{path.name}, line {number}")
    return record


def check_whole_characters(value: Any, place: str) -> None:
    """Raise `DataError` if a text contains a lone surrogate: half a character, which no file can store."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        broken = error.object[max(0, error.start - 20) : error.end + 20]
        raise DataError(
            f"{place}: expected text, got half of a character (a lone surrogate) in {broken!a}; remove it, or write "
            "the text again with the whole character"
        ) from error


class _QuoteError(DataError):
    """Quotes are not placed as in csv."""


def _check_rows(
    path: Path, separator: str, encoding: str, *, collects: bool
) -> tuple[Quoting, list[str], int, list[BadRow]]:
    """Return how the file quotes, its header, its number of good rows, and the bad ones: those with other fields.

    Without `collects` the first bad row is a `DataError`.
    """
    plain = _plain_rows(path, separator, encoding)
    if plain is not None:
        return (csv.QUOTE_MINIMAL, *plain, [])
    quotings: tuple[Quoting, ...] = (csv.QUOTE_MINIMAL,)
    if separator == "\t":  # many tsv files do not use quoting: a title may start with a quote
        quotings = (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)
    for quoting in quotings:
        try:
            return (quoting, *_count_rows(path, separator, encoding, quoting, collects=collects))
        except _QuoteError:
            if quoting == quotings[-1]:
                raise
    raise AssertionError(quotings)


def _plain_rows(path: Path, separator: str, encoding: str) -> tuple[list[str], int] | None:
    """Return header and number of rows of a file in which every line is a row with the fields of the header.

    None for any other file, such as one with quotes, blank lines or several kinds of line ends: it is read row by row.
    """
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig") or not separator.isascii():
        return None
    header: list[str] = []
    count = 0
    try:
        for number, lines in enumerate(_whole_lines(path)):
            if number == 0:
                lines = _without_mark(path, lines)
            text = lines.decode()
            if any(mark in text for mark in '"\r\0'):
                return None
            if number == 0:
                header = text[: text.index("\n")].split(separator)
                if len(header) == 1 or len(set(header)) < len(header):
                    return None
            content = np.frombuffer(lines, dtype=np.uint8)
            ends = np.flatnonzero(content == ord("\n"))
            fields = np.diff(np.searchsorted(np.flatnonzero(content == ord(separator)), ends), prepend=0) + 1
            if (fields != len(header)).any():
                return None
            count += len(ends)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error):
        return None
    return (header, count - 1) if header else None


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a text file in blocks that end at a line end; one is added after the last line."""
    pieces: list[bytes] = []  # of a line whose end is still to come
    with open_table(path) as table:
        while block := table.read(BLOCK_BYTES):
            lines, end, rest = block.rpartition(b"\n")
            if end:
                yield b"".join([*pieces, lines, end])
                pieces = []
            pieces.append(rest)
    if last := b"".join(pieces):
        yield last + b"\n"


def _count_rows(
    path: Path, separator: str, encoding: str, quoting: Quoting, *, collects: bool
) -> tuple[list[str], int, list[BadRow]]:
    header: list[str] | None = None
    count = 0
    bad: list[BadRow] = []
    for line, row in _table_rows(path, separator, encoding, quoting):
        if header is None:
            header = _checked_header(path, line, row)
        elif len(row) != len(header):
            if len(header) == 1:
                _check_separator(path, separator, row)
            fault = (
                f"expected {len(header)} fields as in the header ({', '.join(header)}), got {len(row)}: {row!r:.200}"
            )
            if not collects:
                raise DataError(
                    f"{path.name}, line {line}: {fault}; correct the line, quote fields that contain the separator, or "
                    "leave such rows out with data.on_bad_row: drop"
                )
            bad.append(BadRow(line, fault))
        else:
            count += 1
    if header is None:
        raise DataError(f"{path.name} is empty, expected a header and rows; write the table again")
    if len(header) == 1:
        _check_separator(path, separator, header)
    return header, count, bad


def bad_rows_of(path: Path, *, separator: str, form: TextFormat) -> list[BadRow]:
    """Return the rows with another number of fields than the header."""
    return _check_rows(path, separator, form.encoding, collects=True)[-1]


def table_lines(path: Path, *, separator: str, form: TextFormat) -> Iterator[int]:
    """Yield the line in which each row begins, the header first; blank lines and bad rows are left out."""
    quoting, header, _, _ = _check_rows(path, separator, form.encoding, collects=True)
    for line, row in _table_rows(path, separator, form.encoding, quoting):
        if len(row) == len(header):
            yield line


def _check_separator(path: Path, separator: str, header: list[str]) -> None:
    """Raise `DataError` for a header with another separator."""
    names = {mark: name for name, mark in SEPARATORS.items()}
    other = next((mark for mark in names if mark != separator and mark in header[0]), None)
    if other is not None:
        raise DataError(
            f"{path.name}, line 1: expected fields separated by {names.get(separator, repr(separator))}, got "
            f"{header[0]!r:.200}, which looks separated by {names[other]}; name it with data.csv: {{sep: {other!r}}}, "
            "or write the table with commas (.csv) or tabs (.tsv)"
        )


def _table_rows(path: Path, separator: str, encoding: str, quoting: Quoting) -> Iterator[tuple[int, list[str]]]:
    """Yield (line in which it begins, fields) of each row that is not blank, the header first."""
    limit = csv.field_size_limit(sys.maxsize)  # the default limit is shorter than some descriptions
    try:
        lines: Iterable[str] = (line for _, line in decoded_lines(path, encoding=encoding))
        rows = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
        start = 1
        for row in _rows(path, rows):
            line = start
            start = rows.line_num + 1
            if row and (len(row) > 1 or row[0].strip()):
                yield line, row
    finally:
        csv.field_size_limit(limit)


def _rows(path: Path, rows: Any) -> Iterator[list[str]]:
    start = 1
    try:
        for row in rows:
            start = rows.line_num + 1
            yield row
    except csv.Error as error:
        if "new-line character" in str(error):  # a carriage return without a newline
            raise DataError(
                f"{path.name}, line {start}: expected lines that end in a newline, got a carriage return alone; "
                "convert the line ends, as with `tr '\\r' '\\n'`, or quote the field that contains it"
            ) from error
        raise _QuoteError(
            f"{path.name}, line {start}: expected a row whose quotes close, got {error}; double the quotes within a "
            "quoted field, or write the table as parquet"
        ) from error


def _checked_header(path: Path, line: int, names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path.name}, line {line}: expected each column name once, got {repeated} more often; rename the columns"
        )
    return names


def _id_cells(source: str, cells: pd.Series) -> pd.Series:
    """Return ids as text; the `.0` of a column that was written from floats is removed.

    A column of floats is written so in all its rows.
    """
    known = cells.dropna()
    numbers, distinct = pd.factorize(known)  # equal ids are looked at once
    is_float = not known.empty and all(map(_looks_like_float, distinct))
    inexact = [
        SPREADSHEET.fullmatch(text) is not None or (is_float and abs(float(text)) >= EXACT_WHOLE) for text in distinct
    ]
    is_inexact = np.array(inexact, dtype=bool)[numbers]
    if is_inexact.any():
        row, text = next(iter(known[is_inexact].items()))
        raise DataError(
            f"{source}, column {cells.name!r}, row {row}: expected an id, got {text!r}, a number that was "
            f"rounded when it was written (floats are exact only below 2^53, spreadsheets show fewer "
            f"digits; {int(is_inexact.sum())} like this); write ids as text or int64"
        )
    if not is_float:
        return cells
    whole = pd.Series([str(int(float(text))) for text in distinct], dtype=cells.dtype).take(numbers)
    return whole.set_axis(known.index).reindex(cells.index)


def _looks_like_float(text: str) -> bool:
    return WHOLE_FLOAT.fullmatch(text) is not None or EXPONENT.fullmatch(text) is not None


def _typed(cells: pd.Series) -> pd.Series:
    """Return numbers or booleans if every cell is one, else the texts."""
    known = cells.dropna()
    if known.empty or known.str.match(r"[+-]?0\d").any():
        return cells
    if known.iloc[0] in TRUTH and known.isin(list(TRUTH)).all():
        truth = cells.map(TRUTH)
        return truth.astype(bool) if len(known) == len(cells) else truth.astype(object)
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.isna().any():
        return cells
    is_large = numbers.abs() >= EXACT_WHOLE
    becomes_float = pd.api.types.is_float_dtype(numbers) or len(known) < len(cells)
    if becomes_float and known[is_large].map(lambda text: WHOLE.fullmatch(text) is not None).any():
        return cells  # as floats they would be rounded
    return numbers.reindex(cells.index)


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} twice")
    return record


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether lists and objects nest deeper than `most`, without recursing deeper than that."""
    if not isinstance(value, (list, dict)):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(part, most - 1) for part in parts)


def _bad_record(path: Path, number: int, line: str, fault: str) -> DataError:
    return DataError(
        f"{path.name}, line {number}: expected a JSON object, got {line.strip()!r:.80} ({fault}); "
        "write one object per line"
    )
