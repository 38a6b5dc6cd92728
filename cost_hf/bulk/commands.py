"""`cost-hf embed | encode`, and what `cost-hf recommend` does with files.

Arguments are checked before torch is imported, which takes seconds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cost_hf.bulk import ENGINES
from cost_hf.command_line import (
    CommandParser,
    check_target,
    columns_argument,
    print_text,
    report_errors,
    set_up_logging,
    source_argument,
)

if TYPE_CHECKING:
    from cost_hf.bulk.tasks import BulkTask

FILES = "Parquet file, or several of them as in 'items-*.parquet' (quoted)"


def embed_main(argv: Sequence[str]) -> int:
    """Write vectors of item texts."""
    parser = CommandParser("cost-hf embed", "Write vectors of item texts, from Parquet files to Parquet files.")
    parser.add_argument("model", help="text encoder, a Hub id or directory")
    parser.add_argument("--template", required=True, help="text of an item, as '{title}. {brand}'")
    parser.add_argument("--revision", default=None, help="branch, tag or commit of a Hub text encoder [its newest]")
    parser.add_argument("--max-length", type=int, default=None, help="longest text in tokens [the encoder's own]")
    parser.add_argument("--prompt", default=None, help="text set before every item text")
    add_bulk_arguments(parser, is_required=True)

    def command() -> None:
        known = parser.parse_args(argv)
        check_target(known.output, is_directory=True)
        set_up_logging()
        from cost_hf.bulk.tasks import EmbedTask
        from cost_hf.data.options import VectorOptions

        options = VectorOptions(
            model=whole_path(known.model),
            revision=known.revision,
            template=known.template,
            max_length=known.max_length,
            prompt=known.prompt,
        )
        run_command(EmbedTask(options), known)

    return report_errors(command)


def encode_main(argv: Sequence[str]) -> int:
    """Write semantic IDs of items."""
    parser = CommandParser("cost-hf encode", "Write semantic IDs of items, from Parquet files to Parquet files.")
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument(
        "--template", default=None, help="text of an item, for recommenders that were trained without vectors.template"
    )
    add_bulk_arguments(parser, is_required=True)

    def command() -> None:
        known = parser.parse_args(argv)
        check_target(known.output, is_directory=True)
        set_up_logging()
        from cost_hf.bulk.tasks import EncodeTask

        run_command(EncodeTask(whole_path(known.source), known.template), known)

    return report_errors(command)


def whole_path(source: str) -> str:
    """Return a directory from the root on, since workers may run in another one; Hub ids stay as they are."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def add_bulk_arguments(parser: CommandParser, *, is_required: bool) -> None:
    """Add input, output and engine of a bulk job."""
    group = parser.add_argument_group("files")
    group.add_argument("--input", required=is_required, default=None, help=FILES)
    group.add_argument("--output", required=is_required, default=None, help="folder that gets Parquet files")
    group.add_argument(
        "--columns", type=columns_argument, default=None, help="our column -> name in the files: {item_id: asin}"
    )
    group.add_argument("--engine", choices=ENGINES, default="local", help="this process, or workers of Ray [local]")
    group.add_argument("--batch-size", type=int, default=256, help="rows that a model gets at once [256]")
    group.add_argument("--workers", type=int, default=2, help="processes of Ray, one CPU each [2]")
    group.add_argument("--address", default=None, help="of a running Ray cluster [one on this machine]")


def run_command(task: "BulkTask", known: argparse.Namespace) -> None:
    """Run a job as the arguments demand and say what has been written."""
    from cost_hf.bulk.job import run_bulk

    summary = run_bulk(
        task,
        known.input,
        known.output,
        engine=known.engine,
        columns=known.columns,
        batch_size=known.batch_size,
        workers=known.workers,
        address=known.address,
    )
    files = "1 file" if summary["files"] == 1 else f"{summary['files']:,} files"
    print_text(f"{summary['rows']:,} rows in {files}: {known.output}")
