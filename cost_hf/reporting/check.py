"""The report of `cost-hf check` for the terminal: facts, costs, problems with their remedies, and commands to run."""

import json
import math
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from cost_hf.reporting import numbers
from cost_hf.reporting.terminal import WIDTH
from cost_hf.terminal_text import terminal_text

LABEL = 12  # columns of the labels
INDENT = "  "
BREAK = " \\"
SHOWN_SIZES = 4
STAGES = {"vectors": "item texts"}  # names of stages for readers
ORIGINS = {
    "lsa": "LSA vectors",
    "encoder": "cached vectors of the text encoder",
    "stand_in": "letter n-grams (a text encoder separates more texts)",
}


def check_text(findings: Mapping[str, Any]) -> str:
    """Return the whole report.

    Args:
        findings: of a check, as plain values: `CheckResult.to_dict()`.
    """
    clicks = findings["clicks"]
    head = (
        f"{findings['source']}: {clicks['users']:,} users, {clicks['items']:,} items, {clicks['interactions']:,} "
        f"clicks (density {numbers.percent(clicks['density'], digits=3)})"
    )
    sections = [
        ("columns", _columns(findings)),
        ("item text", _texts(findings["texts"])),
        ("histories", _histories(clicks)),
        ("items", _items(clicks)),
        ("time", _time(clicks["time"])),
        ("splits", [_split(facts) for facts in clicks["splits"]]),
        ("power", _power(findings["power"])),
        ("code sizes", _code_sizes(findings)),
        ("costs", _costs(findings["estimate"], findings["recipe"])),
        ("not used", [_unused(column) for column in findings["unused"]]),
    ]
    lines = [head, ""]
    for label, texts in sections:
        for number, text in enumerate(texts):
            lines += _paragraph(label if number == 0 else "", text)
    lines += ["", *_problems(findings["problems"]), "", *_commands(findings["commands"])]
    return terminal_text("\n".join(lines))


def flag_value(value: Any) -> str:
    """Return a value as the command line takes it: text as it stands, everything else as YAML on one line.

    Examples:
        >>> flag_value({"item_id": "sku"}), flag_value({"sep": ";", "decimal": ","})
        ('{item_id: sku}', '{"sep": ";", "decimal": ","}')
    """
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf)
    if "'" in text:  # a shell has quotes of its own
        text = json.dumps(value, ensure_ascii=False)
    return text.removesuffix("...\n").strip()  # a document of one bare value ends with three points


def command_line(start: str, flags: Mapping[str, str]) -> str:
    """Return a shell command with `--name value` pairs, wrapped with backslashes."""
    parts = [start, *(f"--{name} {shlex.quote(value)}" for name, value in flags.items())]
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + len(" ") <= WIDTH - len(INDENT) - len(BREAK):
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return f"{BREAK}\n".join(lines)


def _columns(findings: Mapping[str, Any]) -> Iterator[str]:
    options = findings["options"]
    guess = findings["guess"]
    if options["reader"] != "tables":
        yield f"raw files of a known format, read with --data.reader {options['reader']}"
        return
    files = [f"--data.{name} {shlex.quote(options[name])}" for name in ("items", "interactions") if options[name]]
    if files:
        yield " ".join(files)
    given = {ours: theirs for ours, theirs in options["columns"].items() if ours not in guess["columns"]}
    if given:
        yield "given: " + ", ".join(f"{ours} = {theirs!r}" for ours, theirs in given.items())
    if guess["columns"]:
        pairs = [f"{ours} = {theirs!r} ({guess['reasons'][ours]})" for ours, theirs in guess["columns"].items()]
        yield "guessed: " + ", ".join(pairs)
        yield f"--data.columns {shlex.quote(findings['flags']['data.columns'])}"
    elif not given:
        yield "all columns have the expected names"


def _unused(column: Mapping[str, str]) -> str:
    return f"{column['table']}.{column['name']} ({column['content']}): {column['use']}"


def _texts(texts: Mapping[str, Any]) -> list[str]:
    filled = ", ".join(f"{column['name']} {numbers.percent(column['filled'], digits=0)}" for column in texts["columns"])
    shared = f"{texts['shared']:,} items have the text of another item (up to {texts['largest_shared']} with the same)"
    near = numbers.percent(texts["near_share"], digits=0)
    return [
        f"{shlex.quote(texts['template'])}: {texts['mean_words']:.0f} words on average; filled: {filled}",
        f"{shared if texts['shared'] else 'all texts differ'}; {near} have a near duplicate",
    ]


def _histories(clicks: Mapping[str, Any]) -> list[str]:
    lengths = clicks["lengths"]
    repeated = numbers.percent(clicks["repeated_pairs"] / clicks["interactions"])
    return [
        f"{lengths['least']} to {lengths['most']} clicks per user, median {lengths['median']:.0f}, mean "
        f"{lengths['mean']:.1f}, 90th percentile {lengths['ninety']:.0f}; {clicks['short_users']:,} users with fewer "
        "than 3 clicks",
        f"{clicks['repeated_pairs']:,} clicks ({repeated}) repeat an item of the same user",
    ]


def _items(clicks: Mapping[str, Any]) -> list[str]:
    return [
        f"{clicks['interactions'] / clicks['items']:.1f} clicks per item; {clicks['unclicked_items']:,} items without "
        f"clicks; the most clicked tenth has {numbers.percent(clicks['top_share'], digits=0)} of all clicks"
    ]


def _time(time: Mapping[str, Any]) -> list[str]:
    if time["null_share"] == 1:
        return ["only the order of a user's clicks is known, no times"]
    share = numbers.percent(1 - time["null_share"], digits=0)
    known = "every click has a time" if time["null_share"] == 0 else f"{share} of the clicks have a time"
    tied = numbers.percent(time["tied_share"], digits=0)
    ties = f"; {tied} of the clicks have the time of another click of their user" if time["tied_share"] else ""
    return [f"{known}, {time['first']} to {time['last']}{ties}"]


def _split(facts: Mapping[str, Any]) -> str:
    if facts["failure"] is not None:
        return f"{facts['name']:<13} not possible"
    return (
        f"{facts['name']:<13} {facts['cases']:>9,} test cases of {facts['users']:>9,} users; "
        f"{numbers.percent(facts['unseen'])} of the targets are not in training"
    )


def _power(power: Mapping[str, Any] | None) -> list[str]:
    if power is None:
        return ["no split, so no test users"]
    users = f"{power['users']:,}"
    share = ""
    if power["relative"] is not None:
        relative = numbers.percent(power["relative"], digits=0)
        share = f", {relative} of a simple baseline's {numbers.score(power['level'])}"
    pair = f" of {' minus '.join(power['pair'])}" if power.get("pair") else ""
    spread = f"{power['spread']:.2f}"
    return [
        f"{users} test users can detect NDCG@10 differences from about {numbers.score(power['detectable'])} "
        f"(80{numbers.HARD_SPACE}% power){share} (2.8 × {spread} / √{users}; standard deviation{pair}: {spread})",
    ]


def _code_sizes(findings: Mapping[str, Any]) -> list[str]:
    sizes = findings["code_sizes"]
    advised = findings["advised"]
    shown = sizes[-SHOWN_SIZES:] if advised in sizes[-SHOWN_SIZES:] else sizes[:SHOWN_SIZES]
    lines = [f"{'size':<10}{'combinations':>15}{'colliding texts':>20}{'largest group':>17}"]
    for size in shown:
        combinations = f"{size['places']:,}"
        collided = numbers.percent(size["collided"], digits=0)
        row = f"{numbers.level_sizes(size['level_sizes']):<10}{combinations:>15}{collided:>20}"
        row += f"{size['largest_group']:>17,}"
        lines.append(row + ("   <- recommended" if size == advised else ""))
    origin = ORIGINS[findings["vector_origin"]]
    return [*lines, f"residual k-means on {origin}; texts are clustered, so most combinations stay unused"]


def _costs(costs: Mapping[str, Any] | str, recipe: str) -> list[str]:
    if isinstance(costs, str):
        return [f"not measured: {costs}"]
    seconds = costs["seconds"]
    parts = (f"{STAGES.get(name, name)} {numbers.estimated_duration(value)}" for name, value in seconds.items())
    return [
        f"{recipe}, one seed: {numbers.estimated_duration(sum(seconds.values()))} on this CPU while it is idle "
        f"(threads: {costs['threads']}), {numbers.estimated_memory(costs['memory_mb'])} of memory",
        ", ".join(parts),
        f"assumes {', '.join(costs['assumptions']) or 'nothing else'}",
    ]


def _problems(problems: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if not problems:
        yield "No problems found."
        return
    yield "Problems and notes"
    for number, problem in enumerate(problems, start=1):
        remedy = f" -> {problem['remedy']}" if problem["remedy"] else ""
        yield from _wrapped(f"{number:>2}. {problem['severity']}: {problem['message']}{remedy}", rest="    ")


def _commands(commands: Sequence[str]) -> list[str]:
    return ["Next", *(textwrap.indent(command, INDENT) for command in commands)]


def _paragraph(label: str, text: str) -> list[str]:
    """Wrap a text beside its label; runs of spaces are kept, since they align columns."""
    return _wrapped(text, first=f"{label:<{LABEL}}", rest=" " * LABEL)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
