"""Inputs that find new branches of the code, by atheris (libFuzzer), in place of random ones.

    pip install atheris
    python -m tests.fuzzing.guided yaml|table|manifest|request|catalog [-max_total_time=600] [options of libFuzzer]

The process ends at the first input whose result is no error of ours, and writes it to `crash-…`.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import pyarrow as pa

with atheris.instrument_imports(include=["cost_hf"]):
    from cost_hf.data import DataOptions
    from cost_hf.data.tables import read_tables
    from cost_hf.files import read_json
    from cost_hf.hub.handler import EndpointHandler
    from cost_hf.recommenders.base import Recommender
    from cost_hf.recommenders.example import example_recommender
    from cost_hf.recommenders.repository import MANIFEST
    from cost_hf.recommenders.requests import FailedRequest
    from cost_hf.row_groups import readable_parquet_errors
    from cost_hf.semantic_ids.catalog_tables import read_table, write_table
    from cost_hf.yaml_text import read_yaml

from tests.fuzzing import ends_in_an_error_of_ours
from tests.fuzzing.test_readers import ITEMS, SUFFIXES

Target = Callable[[bytes], None]


def yaml_target(folder: Path) -> tuple[Target, list[bytes]]:
    """Recipes of any text."""
    seeds = [b"a: &x [1, *x]\nb: 'c'", b"? [a]\n: {b: |\n  c}", b"!!python/object:os.system {}"]
    return lambda content: ends_in_an_error_of_ours(lambda: read_yaml(content.decode("latin-1"))), seeds


def table_target(folder: Path) -> tuple[Target, list[bytes]]:
    """Tables of clicks; the first byte is the format."""

    def reads(content: bytes) -> None:
        path = folder / f"table{SUFFIXES[content[0] % len(SUFFIXES)] if content else '.csv'}"
        path.write_bytes(content[1:])
        ends_in_an_error_of_ours(lambda: read_tables(DataOptions(), items=ITEMS, interactions=path))

    return reads, [
        b"\x00user_id,item_id,timestamp\nu,a,1\nu,b,2",
        b'\x02{"user_id": "u", "item_id": "a", "position": 1}',
    ]


def manifest_target(folder: Path) -> tuple[Target, list[bytes]]:
    """Manifests of a saved recommender."""
    directory = folder / "recommender"
    example_recommender().save_pretrained(directory)
    whole = (directory / MANIFEST).read_bytes()

    def loads(content: bytes) -> None:
        (directory / MANIFEST).write_bytes(content)
        ends_in_an_error_of_ours(lambda: Recommender.from_pretrained(directory))

    return loads, [whole]


def request_target(folder: Path) -> tuple[Target, list[bytes]]:
    """Requests to the handler of Inference Endpoints; those that are no JSON never reach it."""
    directory = folder / "recommender"
    path = folder / "request.json"
    example_recommender().save_pretrained(directory)
    handler = EndpointHandler(str(directory))

    def asks(content: bytes) -> None:
        path.write_bytes(content)
        try:
            request = read_json(path)
        except ValueError:
            return
        assert handler(request) != FailedRequest().as_json()

    return asks, [b'{"inputs": ["kettle"], "parameters": {"top_k": 3, "where": {"a": {"min": 1}}, "exact": true}}']


def catalog_target(folder: Path) -> tuple[Target, list[bytes]]:
    """Parquet files of a catalog."""
    path = folder / "items.parquet"
    write_table(path, {"item_id": pa.array(["a", "b"]), "tags": pa.array([["x", "x"], None], pa.list_(pa.string()))})
    whole = path.read_bytes()

    def reads(content: bytes) -> None:
        path.write_bytes(content)

        def read() -> None:
            with readable_parquet_errors(path):
                read_table(path, rows=2)

        ends_in_an_error_of_ours(read)

    return reads, [whole]


TARGETS = {
    "yaml": yaml_target,
    "table": table_target,
    "manifest": manifest_target,
    "request": request_target,
    "catalog": catalog_target,
}


def main() -> None:
    """Run libFuzzer on one target."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        raise SystemExit(f"expected one of {', '.join(TARGETS)}, got {name!r}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        target, seeds = TARGETS[name](folder)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, str(corpus)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
