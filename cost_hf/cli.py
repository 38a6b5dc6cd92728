"""`cost-hf`: the door to all commands. `train.py` and `upload.py` of the repository are `train` and `upload`."""

import sys
from collections.abc import Sequence
from importlib import import_module

from cost_hf.command_line import CommandParser, report_errors
from cost_hf.recipe_fields import nearest

# by name, so that a command imports only what it needs: all of it together takes seconds
COMMANDS = {
    "train": ("cost_hf.experiments.commands:train_main", "run a recipe from data to results"),
    "check": (
        "cost_hf.experiments.commands:check_main",
        "read your data before training: what to expect and to fix",
    ),
    "compare": (
        "cost_hf.experiments.commands:compare_main",
        "methods and baselines on your data, with advice",
    ),
    "upload": ("cost_hf.hub.commands:upload_main", "publish a finished run on the Hugging Face Hub"),
    "update": (
        "cost_hf.experiments.updates.commands:update_main",
        "train a run on with the clicks and items of another day",
    ),
    "rollback": ("cost_hf.experiments.updates.commands:rollback_main", "return a run to the day before"),
    "update-catalog": ("cost_hf.hub.commands:update_catalog_main", "add, change or remove items, or roll back"),
    "drift": (
        "cost_hf.experiments.drift.commands:drift_main",
        "compare new items and clicks with those of the training",
    ),
    "recommend": (
        "cost_hf.hub.commands:recommend_main",
        "print what a recommender lists for a history, and why, or write lists for a file of histories",
    ),
    "embed": ("cost_hf.bulk.commands:embed_main", "write vectors of item texts, from files to files"),
    "encode": ("cost_hf.bulk.commands:encode_main", "write semantic IDs of items, from files to files"),
    "replay": (
        "cost_hf.serving.replay_command:replay_main",
        "what was clicked of the lists in a request log, by model",
    ),
    "export": ("cost_hf.hub.commands:export_main", "write a catalog for another program"),
    "serve": (
        "cost_hf.serving.serve_command:serve_main",
        "answer requests over HTTP, in batches, and follow the directory",
    ),
    "demo": ("cost_hf.hub.commands:demo_main", "see in a browser what is recommended, and why"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `cost-hf`; return the exit status (2 for errors that the user can fix)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in COMMANDS:
        module, _, function = COMMANDS[arguments[0]][0].partition(":")
        return getattr(import_module(module), function)(arguments[1:])
    texts = "\n".join(f"  {name:<16} {text}" for name, (_, text) in COMMANDS.items())
    parser = CommandParser(
        "cost-hf",
        "Generative recommendation with semantic IDs.",
        epilog=f"commands (each has --help):\n{texts}",
    )
    parser.add_argument("command", metavar="command")
    if not arguments:
        parser.print_help()
        return 2
    return report_errors(lambda: _refuse(parser, arguments))


def _refuse(parser: CommandParser, arguments: list[str]) -> None:
    command = parser.parse_args(arguments[:1]).command
    parser.error(f"unknown command {command!r}{nearest(command, COMMANDS)}; commands are {', '.join(COMMANDS)}")


if __name__ == "__main__":
    sys.exit(main())
