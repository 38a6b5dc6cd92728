"""What the page "from exports to production" shows of its run: outputs of commands, and a table of times."""

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cost_hf.files import read_json
from cost_hf.reporting import numbers

SHOP = Path(__file__).parent / "results" / "shop.json"
SHOWN = 90  # characters of a command in the table of times
WIDTH = 110
FENCE = "```"


def check_section() -> str:
    """Return the faults that the check lists."""
    lines = _output("cost-hf check")
    return _block(_between(lines, "Problems and notes", "Next"))


def train_section() -> str:
    """Return why the recipe was chosen, and the results of the run."""
    lines = _output("cost-hf train --data.path")
    reason = next(line for line in lines if line.startswith("recipe "))
    table = _between(lines, "row ", "")
    costs = next(line for line in lines if line.startswith("vectors "))
    return _block([*textwrap.wrap(reason, WIDTH), "", *table, "", costs])


def recommend_section() -> str:
    """Return the list."""
    return _block(_output("cost-hf recommend"))


def catalog_section() -> str:
    """Return what the nightly job reports."""
    lines = _output("cost-hf update-catalog runs/shop --from-full-catalog export/tomorrow/products.csv.gz")
    return _block(line for line in lines if not line.startswith(("files are read", "recommender:")))


def drift_section() -> str:
    """Return the report of the drift."""
    lines = _output("cost-hf drift")
    return _block(line for line in lines if not line.startswith("files are read"))


def update_section() -> str:
    """Return what the warm start reports."""
    lines = _output("cost-hf update runs/shop")
    start = next(number for number, line in enumerate(lines) if line.startswith("update ") and " of runs/" in line)
    return _block(lines[start:])


def serve_section() -> str:
    """Return the answer of the server."""
    answer = json.loads(_output("curl")[-1])
    (answers,) = answer["recommendations"]
    entries = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in answers)
    return _block(['{"recommendations": [[', *entries.splitlines(), "]]}"])


def replay_section() -> str:
    """Return the report of the replay, without the sentences that every report has."""
    lines = _output("cost-hf replay")
    start = next(number for number, line in enumerate(lines) if line.startswith("What was clicked"))
    end = next(number for number, line in enumerate(lines) if line.startswith("- "))
    return _block(_without_last_empty(lines[start:end]))


def times_section() -> str:
    """Return the seconds of every command."""
    found = read_json(SHOP)
    lines = ["| section | command | seconds |", "| --- | --- | --- |"]
    section = ""
    for step in found["steps"]:
        title = step["section"] if step["section"] != section else ""
        section = step["section"]
        lines.append(f"| {title} | `{_short(step['command'])}` | {numbers.amount(step['seconds'], digits=1)} |")
    total = sum(step["seconds"] for step in found["steps"])
    machine = found["machine"]
    about = (
        f"On {machine['cores']} cores ({machine['processor']}). Every command is a process of its own, so its seconds "
        f"hold the start; those of a server run until it is ready. {_load(machine)}Together {numbers.duration(total)}:"
    )
    return "\n\n".join([about, "\n".join(lines)])


def _load(machine: Mapping[str, Any]) -> str:
    """Return a sentence where the machine had other work, too."""
    if machine["load"] <= machine["cores"]:
        return ""
    return f"The machine was shared (load {machine['load']:.0f}), so these are upper bounds. "


def _output(command: str) -> list[str]:
    """Return what the last command of this beginning has printed."""
    steps = [step for step in read_json(SHOP)["steps"] if step["command"].startswith(command)]
    return list(_matching(steps, command)["output"])


def _matching(steps: list[Mapping[str, Any]], command: str) -> Mapping[str, Any]:
    if not steps:
        raise SystemExit(f"{SHOP.name} has no command {command!r}; run python benchmarks/shop.py")
    return steps[-1]


def _between(lines: list[str], first: str, after: str) -> list[str]:
    """Return the lines from one that begins with `first` to the last one before `after`, without empty ones there."""
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    length = next(
        (number for number, line in enumerate(lines[start:]) if line == after or (after and line.startswith(after))),
        len(lines) - start,
    )
    return _without_last_empty(lines[start : start + length])


def _without_last_empty(lines: list[str]) -> list[str]:
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


def _block(lines: Any) -> str:
    return "\n".join([FENCE, *lines, FENCE])


def _short(command: str) -> str:
    """Return a command that fits a cell: of a long one its beginning and its last option."""
    if len(command) <= SHOWN:
        return command
    first, *_, last = command.split(" --") if " --" in command else (command, "")
    first = " ".join(first.split()[:3])
    short = f"{first} … --{last}" if last else f"{first} …"
    return short if len(short) <= SHOWN else f"{first} …"


SECTIONS: dict[str, Callable[[], str]] = {
    "shop_check": check_section,
    "shop_train": train_section,
    "shop_recommend": recommend_section,
    "shop_catalog": catalog_section,
    "shop_drift": drift_section,
    "shop_update": update_section,
    "shop_serve": serve_section,
    "shop_replay": replay_section,
    "shop_times": times_section,
}
