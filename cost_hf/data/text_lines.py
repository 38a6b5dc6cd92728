"""Lines of text files, plain or gzip: bounded in memory, every fault named with file and line."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from cost_hf.data.schema import DataError
from cost_hf.files import readable_os_errors

GZIP_START = b"\x1f\x8b"
OTHER_STARTS = {b"PK\x03\x04": "a zip archive", b"BZh9": "bzip2 data", b"\xfd7zXZ": "xz data"}
OTHER_STARTS |= {b"\x28\xb5\x2f\xfd": "zstandard data", b"\xd0\xcf\x11\xe0": "a spreadsheet"}
UTF16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text with its end) of each line, one at a time.

    Lines end at newlines only: texts may hold other characters that Python takes for line ends. A byte order mark of
    UTF-8 is left out.

    Raises:
        DataError: for bytes that are no text of this encoding, and for a damaged gzip file.
        OSError: where the file can't be read.
    """
    number = 0
    try:
        with readable_os_errors(), gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = _without_mark(path, line)
                if b"\0" in line:
                    raise _undecodable(path, number, encoding, "a NUL byte, as in UTF-16 or a damaged file")
                yield number, line.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(path, number, encoding, f"bytes that are none ({error})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path.name}, after line {number}: expected a whole gzip file, got a damaged one ({error}); "
            "download the file again, or remove .gz from its name if it is not compressed"
        ) from error


def read_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text without its end) of each line that is not blank; otherwise as `decoded_lines`."""
    for number, line in decoded_lines(path, encoding=encoding):
        text = line.rstrip("\r\n")
        if text.strip():
            yield number, text


def _without_mark(path: Path, line: bytes) -> bytes:
    """Check the start of a file and take the byte order mark of UTF-8 away."""
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
    remedies = {"utf-8": "save it as UTF-8, as with `iconv -f latin1 -t utf-8` (or -f utf-16), or download it again"}
    return DataError(
        f"{path.name}, line {number}: expected text in {encoding}, got {got}; "
        f"{remedies.get(encoding, 'download the file again or convert it')}"
    )
