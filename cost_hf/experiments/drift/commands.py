"""`cost-hf drift`: whether new items and clicks are still like those of the training."""

from collections.abc import Sequence

from cost_hf.command_line import (
    CommandParser,
    check_target,
    file_argument,
    print_text,
    report_errors,
    set_up_logging,
    source_argument,
)

STATUS_OF = {"fine": 0, "watch": 3, "retrain": 4}
DRIFT_STATUS = """exit status:
  0  fine: the new data are like those of the training
  2  an error
  3  watch: some of them are unusual
  4  retrain: they are unlike those of the training"""


def drift_main(argv: Sequence[str]) -> int:
    """Compare new items and clicks with those of the training; the status says the verdict."""
    parser = CommandParser(
        "cost-hf drift",
        "Compare new items and clicks with those of the training: fine, watch or retrain, and why.",
        epilog=DRIFT_STATUS,
    )
    parser.add_argument("source", type=source_argument, help="run directory, recommender directory, or Hub id")
    parser.add_argument(
        "--items",
        type=file_argument,
        default=None,
        help="new items: a parquet, xlsx, csv, tsv or jsonl file, or a pattern; items of the training are left out",
    )
    parser.add_argument(
        "--clicks",
        type=file_argument,
        default=None,
        help="clicks after the training: likewise, with user_id, item_id and timestamp or position",
    )
    parser.add_reading_arguments("on_bad_row: drop")
    parser.add_argument("--html", default=None, help="write the report to this web page, too")
    parser.add_argument("--json", default=None, help="write the findings to this file, too")
    parser.add_argument("--seed", type=int, default=0, help="of the samples [0]")
    verdicts: list[str] = []

    def command() -> None:
        known = parser.parse_args(argv)
        if known.items is None and known.clicks is None:
            raise ValueError("drift needs new items, new clicks or both; give --items FILE or --clicks FILE")
        for path in (known.html, known.json):
            check_target(path, is_directory=False)
        set_up_logging()
        from cost_hf.experiments.drift.drift import drift
        from cost_hf.files import write_json

        result = drift(
            known.source,
            items=known.items,
            clicks=known.clicks,
            columns=known.columns,
            data=known.data,
            seed=known.seed,
        )
        print_text(result.text())
        if known.html is not None:
            result.write_html(known.html)
        if known.json is not None:
            write_json(known.json, result.to_dict())
        verdicts.append(result.verdict)

    return report_errors(command) or STATUS_OF[verdicts[-1]]
