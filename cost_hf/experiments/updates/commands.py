"""`cost-hf update` and `cost-hf rollback`: the day after, and the way back."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.command_line import (
    CommandParser,
    print_text,
    report_errors,
    set_up_logging,
)
from cost_hf.experiments.updates.options import UpdateOptions

REFUSED = 3  # exit status of an update whose model is not served


def update_main(argv: Sequence[str]) -> int:
    """Train a run on with new clicks; the status is 3 where the new model is refused."""
    parser = CommandParser(
        "cost-hf update",
        "Train a finished run on with new clicks and items; a model that is worse is refused, and yesterday's is kept.",
    )
    parser.add_argument("run", help="directory of a finished run")
    parser.add_argument("--clicks", required=True, help="new clicks: a file or pattern of files, as for training")
    parser.add_argument("--items", default=None, help="new items, with the text columns of the run")
    parser.add_reading_arguments("on_unknown_item: drop")
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and training [0]")
    for entry in dataclasses.fields(UpdateOptions):
        kind = type(entry.default)
        flag = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(
            flag, dest=entry.name, type=kind, default=entry.default, help=f"{entry.metadata['help']} [{entry.default}]"
        )
    refused: list[str] = []

    def command() -> None:
        known = vars(parser.parse_args(argv))
        options = UpdateOptions(**{entry.name: known[entry.name] for entry in dataclasses.fields(UpdateOptions)})
        options.validate()
        set_up_logging()
        from cost_hf.experiments.reading_options import LEAVING_OUT, ReadingOptions
        from cost_hf.experiments.updates.update import updatable_recipe, update_run
        from cost_hf.reporting.words import plural

        own = ReadingOptions(updatable_recipe(Path(known["run"])).data)
        update = update_run(
            known["run"],
            clicks=known["clicks"],
            items=known["items"],
            data=own.changed(known["columns"], known["data"], more=LEAVING_OUT).options,
            options=options,
            seed=known["seed"],
        )
        if update.record is None:
            text = f"nothing to do: {known['run']} knows these clicks, or none of their items"
            if update.left_items:
                left = plural(len(update.left_items), "new item")
                text = (
                    f"nothing to learn: {known['run']} knows these clicks; {left} "
                    f"{'was' if len(update.left_items) == 1 else 'were'} not added: cost-hf update-catalog "
                    f"{known['run']} {known['items']}"
                )
            print_text(text)
            return
        print_text(update_text(update.record, known["run"]))
        if not update.is_accepted:
            refused.append(update.record["reason"])

    return report_errors(command) or (REFUSED if refused else 0)


def rollback_main(argv: Sequence[str]) -> int:
    """Return a run to the model before its last update."""
    parser = CommandParser(
        "cost-hf rollback", "Return a run to the day before: model, catalog and known clicks, in one step."
    )
    parser.add_argument("run", help="directory of a run that was updated")

    def command() -> None:
        run = parser.parse_args(argv).run
        set_up_logging()
        from cost_hf.experiments.updates.update import rollback_run

        number = rollback_run(run)
        served = f"update {number}" if number else "the model of its training"
        print_text(f"{run} serves {served}")

    return report_errors(command)


def update_text(record: Mapping[str, Any], run: str | Path) -> str:
    """Return what an update did, for the terminal."""
    number = record["number"]
    clicks = record["clicks"]
    minutes = record["seconds"] / 60
    lines = [
        f"update {number} of {run}: {minutes:.1f} min",
        f"  clicks: {clicks['new']} new ({clicks['held_out']} of them held out), {clicks['known']} known before, "
        f"{clicks['unknown_items']} on unknown items",
        f"  learned: {clicks['learned']} clicks, and {clicks['labels'] - clicks['learned']} of earlier days again",
        f"  items: {record['items']['new']} new, {record['items']['catalog']} in the catalog",
    ]
    for part, figures in record["guard"].items():
        for name, found in figures.items():
            if name != "cases":
                lines.append(
                    f"  {part} ({figures['cases']} cases), {name}: {found['before']:.4f} -> {found['after']:.4f} "
                    f"({found['difference']:+.4f}, 95 % interval {found['low']:+.4f} to {found['high']:+.4f})"
                )
    if record["is_accepted"]:
        lines.append(f"served: update {number}; `cost-hf rollback {run}` returns to the day before")
    else:
        lines.append(f"refused: {record['reason']}; the model is kept in updates/{number:04d}-refused")
        lines.append("its clicks and new items are not in the run: give them to the next update again")
    return "\n".join(lines)
