"""`cost-hf replay`: what a request log and the clicks after it show about the models that answered."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cost_hf.command_line import (
    CommandParser,
    check_target,
    file_argument,
    print_text,
    report_errors,
    set_up_logging,
    source_argument,
)

if TYPE_CHECKING:
    from cost_hf.serving.replay import ReplayResult

PARTIAL = 3  # status of a report on a log that could be read only in part
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
OUTPUTS = (".json", ".html")
REPLAY_STATUS = """exit status:
  0  the report is made
  2  an error
  3  the report is made, and some records of the log were damaged and left out"""


def replay_main(argv: Sequence[str]) -> int:
    """Report what was clicked of what a request log says was shown, by model."""
    parser = CommandParser(
        "cost-hf replay",
        "What was clicked of the lists in a request log, by model: click-through rates with intervals, and where the "
        "next\nclick was in the list. Nothing is ranked again.",
        epilog=REPLAY_STATUS,
    )
    parser.add_argument("log", nargs="+", help="request log of `cost-hf serve`: directories, files or patterns")
    parser.add_argument(
        "--clicks",
        required=True,
        type=file_argument,
        help="clicks after the lists: a file with user_id, item_id and timestamp",
    )
    parser.add_argument(
        "--run",
        type=source_argument,
        default=None,
        help="recommender of the log: clicks are read as those of its training",
    )
    parser.add_reading_arguments("event_column: type", default=" [as in --run]")
    parser.add_argument(
        "--timezone", default=None, help="of click times that carry no offset, such as Europe/Berlin [UTC]"
    )
    parser.add_argument(
        "--window", type=_seconds, default=86_400.0, help="longest time from a list to a click for it [24h]"
    )
    parser.add_argument(
        "--cutoffs", type=_cutoffs, default=(1, 5, 10), help="list lengths of the offline metrics [1,5,10]"
    )
    parser.add_argument("--next-clicks", type=_count, default=1, help="clicks after a list that are its targets [1]")
    parser.add_argument(
        "--by", choices=("model", "variant"), default="model", help="compare models, or arms of the test [model]"
    )
    parser.add_argument(
        "--baseline", default=None, help="model that the others are compared with [the one with the most lists]"
    )
    parser.add_argument(
        "--output", type=_output, action="append", default=[], help="write the report as .json or .html; repeatable"
    )
    damaged: list[int] = []

    def command() -> None:
        known = parser.parse_args(argv)
        for path in known.output:
            check_target(path, is_directory=False)
        set_up_logging()
        from cost_hf.experiments.reading_options import ReadingOptions
        from cost_hf.reporting.replay import replay_text
        from cost_hf.serving.replay import ReplayOptions, replay

        options = ReplayOptions(
            window_seconds=known.window,
            cutoffs=known.cutoffs,
            next_clicks=known.next_clicks,
            by=known.by,
            baseline=known.baseline,
        )
        reading = ReadingOptions() if known.run is None else ReadingOptions.of(known.run)
        reading = reading.changed(known.columns, known.data)
        result = replay(known.log, known.clicks, data=reading.options, timezone=known.timezone, options=options)
        print_text(replay_text(result.to_dict()))
        for path in known.output:
            _write(result, path)
            print_text(f"report: {path}")
        damaged.append(result.log["damaged"])

    return report_errors(command) or (PARTIAL if any(damaged) else 0)


def _write(result: "ReplayResult", path: str) -> None:
    from cost_hf.files import write_json
    from cost_hf.reporting.replay import write_replay_page

    if path.endswith(".json"):
        write_json(path, result.to_dict())
    else:
        write_replay_page(result.to_dict(), path)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not seconds:
        raise argparse.ArgumentTypeError(f"expected a time such as 30min, 24h or 7d, got {text!r:.40}")
    return seconds


def _cutoffs(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.strip("[] ").split(",")]
    return tuple(sorted({_count(part) for part in parts}))


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r:.40}")
    return int(text)


def _output(text: str) -> str:
    if not text.endswith(OUTPUTS):
        raise argparse.ArgumentTypeError(f"expected a file ending in .json or .html, got {text!r:.80}")
    return text
