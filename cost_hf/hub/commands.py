"""Commands for finished runs: `cost-hf upload | update-catalog | recommend | export | demo`.

Arguments are checked before torch and gradio are imported, which takes seconds.
"""

import argparse
import math
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost_hf.bulk.commands import add_bulk_arguments, run_command, whole_path
from cost_hf.command_line import (
    USER_ERRORS,
    CommandParser,
    check_target,
    file_argument,
    mapping_argument,
    print_text,
    report_errors,
    set_up_logging,
    source_argument,
)
from cost_hf.hub import FORMATS, PARTS, WEIGHTS
from cost_hf.recipe_fields import nearest
from cost_hf.terminal_text import terminal_line

if TYPE_CHECKING:
    from pandas import DataFrame

    from cost_hf.data.options import DataOptions
    from cost_hf.recommenders.base import Recommendation


def upload_main(argv: Sequence[str]) -> int:
    """Publish a finished run; the entry point of `upload.py`."""
    parser = CommandParser("upload.py", "Publish a finished run on the Hugging Face Hub.")
    parser.add_argument("run", type=_directory, help="run directory")
    parser.add_argument("--namespace", required=True, help="user or organisation on the Hub")
    parser.add_argument(
        "--what", type=_parts, default=None, help=f"parts, separated by commas: {', '.join(PARTS)} [all]"
    )
    parser.add_argument("--name", default=None, help="name of the repositories [the name of the recipe]")
    parser.add_argument(
        "--weights",
        default=None,
        choices=WEIGHTS,
        help="of a LoRA run: the adapter alone, or merged into its base [adapter where the base is on the Hub]",
    )
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--create-pr", action="store_true", help="open pull requests in place of commits")
    parser.add_argument("--dry-run", action="store_true", help="stage, check and print the plan; needs no network")

    def command() -> None:
        known = parser.parse_args(argv)
        set_up_logging()
        from cost_hf.hub.upload import upload

        upload(
            known.run,
            namespace=known.namespace,
            what=known.what,
            name=known.name,
            weights=known.weights,
            private=known.private,
            create_pr=known.create_pr,
            dry_run=known.dry_run,
        )

    return report_errors(command)


PARTIAL = 3  # status of an update that has skipped rows
UPDATE_STATUS = """exit status:
  0  the catalog is as the files demand; or there was nothing to do
  2  an error, and nothing has changed
  3  rows were skipped (items without text, unknown ids, values that do not fit their column), and the rest is
     applied; --strict makes it 2"""


def update_catalog_main(argv: Sequence[str]) -> int:
    """Add, change or remove items of a saved recommender, count new clicks, or roll its catalog back.

    The status is 3 where rows of the files were skipped and the rest is applied.
    """
    parser = CommandParser(
        "cost-hf update-catalog",
        "Add, change or remove items, or count new clicks; existing semantic IDs and weights stay as they are.",
        epilog=UPDATE_STATUS,
    )
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument(
        "items",
        nargs="?",
        type=file_argument,
        default=None,
        help="items to add: a parquet, xlsx, csv, tsv or jsonl file, or a pattern of them",
    )
    parser.add_argument(
        "--from-full-catalog",
        type=file_argument,
        default=None,
        help="the whole catalog as it is now: new items are added, changed ones updated, and those that it does not "
        "name are removed",
    )
    parser.add_argument(
        "--max-gone",
        type=_share,
        default=None,
        help="largest share of the catalog that --from-full-catalog may remove, or leave without a value of a column "
        "[0.1]",
    )
    parser.add_argument(
        "--clicks",
        type=file_argument,
        default=None,
        help="clicks after training, for counting methods: a file with user_id, item_id and timestamp or position; a "
        "column counted is true for first clicks of a user that were counted before",
    )
    parser.add_argument("--remove", default=None, help="items to remove: a file as for items, or ids and commas")
    parser.add_argument(
        "--update", action="store_true", help="change texts, titles and columns of items that the catalog holds"
    )
    parser.add_argument(
        "--values",
        type=file_argument,
        default=None,
        help="new values of columns, such as price and stock: a file with item_id and these columns alone",
    )
    parser.add_argument("--rollback", action="store_true", help="return to the catalog before the last update")
    parser.add_reading_arguments("on_duplicate_item: last")
    parser.add_argument("--strict", action="store_true", help="change nothing where a row would be skipped")
    parser.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    parser.add_argument("--json", default=None, help="write what has changed to this file, too")
    parser.add_argument("--output_dir", default=None, help="write a changed copy there")
    parser.add_argument("--push", action="store_true", help="of a Hub id: commit the change there")
    skipped: list[int] = []

    def command() -> None:
        known = parser.parse_args(argv)
        check_target(known.output_dir, is_directory=True)
        check_target(known.json, is_directory=False)
        set_up_logging()
        from cost_hf.files import write_json

        try:
            summary = _update_catalog(known)
        except USER_ERRORS as error:
            if known.json is not None:
                write_json(known.json, {"status": "refused", "source": known.source, "error": str(error)})
            raise
        skipped.append(len(summary["skipped"]))
        if known.json is not None:
            write_json(known.json, summary)

    return report_errors(command) or (PARTIAL if any(skipped) else 0)


def _update_catalog(known: argparse.Namespace) -> dict[str, Any]:
    """Update a catalog as the arguments demand, print what has changed, and return it as plain values."""
    from cost_hf.data.options import csv_option
    from cost_hf.data.tables import read_interactions, read_items
    from cost_hf.experiments.reading_options import ReadingOptions
    from cost_hf.hub.catalog_update import ALL, CHANGED, MAX_GONE, NEW, UpdateRequest, push_update, update_catalog
    from cost_hf.hub.update_summary import update_lines

    if known.items is not None and known.from_full_catalog is not None:
        raise ValueError("give new items or --from-full-catalog, not both: the whole catalog has the new items, too")
    if known.max_gone is not None and known.from_full_catalog is None:
        raise ValueError("--max-gone belongs to --from-full-catalog; leave it out")
    reading = ReadingOptions.of(known.source).changed(known.columns, known.data)
    data = reading.options
    items = known.items or known.from_full_catalog
    request = UpdateRequest(
        items=None if items is None else read_items(items, options=data),
        clicks=None if known.clicks is None else read_interactions(known.clicks, options=data),
        values=None if known.values is None else read_items(known.values, options=data),
        remove=[] if known.remove is None else _ids(known.remove, data),
        items_are=ALL if known.from_full_catalog is not None else CHANGED if known.update else NEW,
        max_gone=MAX_GONE if known.max_gone is None else known.max_gone,
        strict=known.strict,
        rolls_back=known.rollback,
        decimal=csv_option(data.csv, "items", "decimal") or ".",
    )
    if any(given is not None for given in (items, known.clicks, known.values, known.remove)):
        print_text(reading.sentence)
    if known.push and not known.dry_run:
        updates = push_update(known.source, request)
    else:
        directory, updates = update_catalog(known.source, request, output_dir=known.output_dir, dry_run=known.dry_run)
        print_text(f"recommender: {directory}")
    print_text("\n".join(update_lines(updates)))
    outcome = "planned" if known.dry_run else "updated"
    return {
        "status": outcome if updates.has_effect else "nothing to do",
        "source": known.source,
        "read_by": reading.described(),
        **updates.summary,
    }


def recommend_main(argv: Sequence[str]) -> int:
    """Print what a recommender lists for a history, and why, or write lists for a file of histories."""
    parser = CommandParser(
        "cost-hf recommend",
        "Print what a recommender lists for a history, and why; with --input, write lists for all histories of files.",
    )
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument("history", nargs="*", metavar="item_id", help="items of the history, oldest first")
    parser.add_argument("--top-k", type=_count, default=10, help="items wanted [10]")
    parser.add_argument(
        "--where",
        type=mapping_argument,
        default=None,
        help="only items whose columns fulfil this, as YAML: '{price: {max: 50}, brand: [a, b], in_stock: true}'",
    )
    parser.add_argument(
        "--diversify",
        type=mapping_argument,
        default=None,
        help="most items with one value of a column, as YAML: '{brand: 2}'",
    )
    parser.add_argument("--explain", action="store_true", help="say what every item has to do with the history")
    parser.add_argument(
        "--exact",
        action="store_true",
        help="prove that no other item of the catalog has a higher score, for generators",
    )
    add_bulk_arguments(parser, is_required=False)

    def command() -> None:
        known = parser.parse_args(argv)
        if (known.input is None) != (known.output is None):
            parser.error("--input and --output go together")
        if bool(known.history) == (known.input is not None):
            parser.error("give the items of one history, or --input with the histories of many")
        if known.input is not None and (known.explain or known.exact):
            parser.error("--explain and --exact are for one history; leave them out with --input")
        check_target(known.output, is_directory=True)
        set_up_logging()
        if known.input is not None:
            from cost_hf.bulk.tasks import RecommendTask

            run_command(RecommendTask(whole_path(known.source), known.top_k, known.where, known.diversify), known)
            return
        from cost_hf.data.cells import in_forms
        from cost_hf.experiments.reading_options import ReadingOptions
        from cost_hf.recommenders.base import Recommender
        from cost_hf.recommenders.explanations import explanation_text

        recommender = Recommender.from_pretrained(known.source)
        forms = ReadingOptions.of(known.source).options.normalize_ids
        answers = recommender.recommend(
            [in_forms(item, forms) for item in known.history],
            top_k=known.top_k,
            where=known.where,
            diversify=known.diversify,
            explain=known.explain,
            exact=known.exact,
        )
        width = max((len(terminal_line(answer.item_id)) for answer in answers), default=0)
        for place, answer in enumerate(answers, start=1):
            title = terminal_line(answer.fields.get("title") or "")
            print_text(f"{place:>3}  {terminal_line(answer.item_id):<{width}}  {answer.score:>9.4f}  {title}".rstrip())
            if known.explain:
                print_text(textwrap.indent(explanation_text(answer), " " * 5))
        if known.exact:
            print_text(_format_proof(answers))

    return report_errors(command)


def export_main(argv: Sequence[str]) -> int:
    """Write the catalog of a run, or its merged weights, for another program."""
    parser = CommandParser("cost-hf export", "Write a catalog for another program.")
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument("--to", required=True, type=_format, help=f"format: {', '.join(FORMATS)}")
    parser.add_argument("--output", default="exported", help="folder that receives the files [exported]")

    def command() -> None:
        known = parser.parse_args(argv)
        check_target(known.output, is_directory=True)
        set_up_logging()
        from cost_hf.hub.export import export_run

        for path in export_run(known.source, to=known.to, output=known.output):
            print_text(path)

    return report_errors(command)


def demo_main(argv: Sequence[str]) -> int:
    """Serve the demo of a run."""
    parser = CommandParser("cost-hf demo", "See in a browser what is recommended, and why.")
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address of the server [127.0.0.1]")
    parser.add_argument("--port", type=_port, default=None, help="port [any free one]")

    def command() -> None:
        known = parser.parse_args(argv)
        if find_spec("gradio") is None:
            raise ValueError('the demo needs gradio; pip install "cost-hf[demo]"')
        set_up_logging()
        from cost_hf.hub.space.app import launch_demo  # gradio is an extra

        launch_demo(known.source, host=known.host, port=known.port)

    return report_errors(command)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r:.40}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r:.40}")
    return int(text)


def _directory(text: str) -> str:
    if not Path(text).is_dir():
        state = "is a file, expected a run directory" if Path(text).is_file() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {state}; check the path")
    return text


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, such as 0.1, got {text!r:.40}")
    return share


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected parts of {', '.join(PARTS)}, got {unknown[0]!r}{nearest(unknown[0], PARTS)}"
        )
    return parts


def _format(text: str) -> str:
    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(FORMATS)}, got {text!r}{nearest(text, FORMATS)}")
    return text


def _ids(text: str, options: "DataOptions") -> "Sequence[str] | DataFrame":
    """Return what `--remove` names: the items of a file of that name, else the text split at commas."""
    from cost_hf.data.cells import in_forms
    from cost_hf.data.tables import read_items

    if Path(text).is_file():
        return read_items(text, options=options)
    return [in_forms(item.strip(), options.normalize_ids) for item in text.split(",") if item.strip()]


def _format_proof(answers: "Sequence[Recommendation]") -> str:
    """Return how many positions of a list are proved, and how high an item may score that it does not hold."""
    open_answers = [answer for answer in answers if not answer.fields["is_exact"]]
    if not open_answers:
        return "proved: no other item has a higher score"
    proved = len(answers) - len(open_answers)
    bound = open_answers[0].fields["bound"]
    return f"proved: the first {proved} of {len(answers)}; an item that is not listed may score up to {bound:.4f}"
