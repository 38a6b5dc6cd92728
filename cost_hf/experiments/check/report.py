"""What `cost-hf check` says in the terminal: facts first, then what to mend, then the commands to run next."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cost_hf.experiments.check.advice import sizes_text
from cost_hf.experiments.check.estimates import RunCosts, duration, memory
from cost_hf.experiments.check.facts import ClickFacts, SplitFacts
from cost_hf.experiments.check.power import Power
from cost_hf.experiments.check.problems import percent
from cost_hf.experiments.check.texts import TextFacts

if TYPE_CHECKING:
    from cost_hf.experiments.check.check import CheckResult

STAGES = {"vectors": "item texts"}  # names of stages that a reader would not know
WIDTH = 110
LABEL = 12
INDENT, BREAK = "  ", " \\"
SHOWN_SIZES = 4
COST_SIZES = (64, 64, 64)  # arXiv 2404.14774


def check_text(result: "CheckResult") -> str:
    """Return the whole report."""
    clicks = result.clicks
    head = (
        f"{result.source}: {clicks.users:,} users, {clicks.items:,} items, {clicks.interactions:,} clicks "
        f"(density {clicks.density:.3%})"
    )
    sections = [
        ("columns", _columns(result)),
        ("item text", _texts(result.texts, clicks)),
        ("histories", _histories(clicks)),
        ("items", _items(clicks)),
        ("time", _time(clicks)),
        ("splits", [_split(facts) for facts in clicks.splits]),
        ("evidence", _power(result.power)),
        ("code sizes", _code_sizes(result)),
        ("to expect", _costs(result.estimate, result.recipe)),
    ]
    lines = [head, ""]
    for label, texts in sections:
        for number, text in enumerate(texts):
            lines += _paragraph(label if number == 0 else "", text)
    return "\n".join(map(_printable, [*lines, "", *_problems(result), "", *_commands(result)]))


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


def _columns(result: "CheckResult") -> list[str]:
    options, guessed = result.options, result.guess.columns
    if options.reader != "tables":
        return [f"raw files of a known form, read with --data.reader {options.reader}"]
    named = {name: getattr(options, name) for name in ("items", "interactions")}
    lines = [", ".join(f"--data.{name} {file}" for name, file in named.items() if file)] if any(named.values()) else []
    given = {ours: theirs for ours, theirs in options.columns.items() if ours not in guessed}
    if given:
        lines.append("as told: " + ", ".join(f"{ours} = {theirs!r}" for ours, theirs in given.items()))
    if guessed:
        pairs = [f"{ours} = {theirs!r} ({result.guess.reasons[ours]})" for ours, theirs in guessed.items()]
        lines += ["guessed: " + ", ".join(pairs), f"--data.columns {shlex.quote(result.flags['data.columns'])}"]
    elif not given:
        lines.append("all names are ours; nothing to map")
    return lines


def _texts(texts: TextFacts, clicks: ClickFacts) -> list[str]:
    filled = ", ".join(f"{column.name} {column.filled:.0%}" for column in texts.columns)
    shared = f"{texts.shared:,} items share their text with another (up to {texts.largest_shared} the same)"
    return [
        f"{shlex.quote(texts.template)}: {texts.mean_words:.0f} words on average; filled: {filled}",
        f"{shared if texts.shared else 'all texts differ'}; {percent(texts.near_share)} have another nearly the same",
    ]


def _histories(clicks: ClickFacts) -> list[str]:
    lengths = clicks.lengths
    return [
        f"{lengths.least} to {lengths.most} clicks a user, median {lengths.median:.0f}, mean {lengths.mean:.1f}, 90% "
        f"at most {lengths.ninety:.0f}; {clicks.short_users:,} users too short to be tested",
        f"{clicks.repeated_pairs:,} clicks ({clicks.repeated_pairs / clicks.interactions:.1%}) repeat an item of the "
        "same user",
    ]


def _items(clicks: ClickFacts) -> list[str]:
    return [
        f"{clicks.interactions / clicks.items:.1f} clicks an item; {clicks.unclicked_items:,} items never clicked; the "
        f"most clicked tenth takes {clicks.top_share:.0%} of all clicks"
    ]


def _time(clicks: ClickFacts) -> list[str]:
    time = clicks.time
    if time.null_share == 1:
        return ["only the order of a user's clicks is known, no times"]
    known = "every click has a time" if time.null_share == 0 else f"{1 - time.null_share:.0%} of the clicks have a time"
    tied = f"; {percent(time.tied_share)} of the clicks share it with another of their user" if time.tied_share else ""
    return [f"{known}, {time.first} to {time.last}{tied}"]


def _split(facts: SplitFacts) -> str:
    if facts.failure is not None:
        return f"{facts.name:<13} not possible"
    return (
        f"{facts.name:<13} {facts.cases:>9,} test cases of {facts.users:>9,} users; {facts.unseen:.1%} of the targets "
        "are not in training"
    )


def _power(power: Power | None) -> list[str]:
    if power is None:
        return ["no split, so no test users"]
    share = f", {power.relative:.0%} of a simple baseline's {power.level:.3f}" if power.level else ""
    return [
        f"{power.users:,} test users show NDCG@10 differences from about {power.detectable:.4f} (80% power){share} "
        f"(2.8 × {power.spread:.2f} / √{power.users:,}; {power.spread:.2f}: spread of {' minus '.join(power.pair)})",
    ]


def _code_sizes(result: "CheckResult") -> list[str]:
    sizes, advised = result.code_sizes, result.advised
    shown = sizes[-SHOWN_SIZES:] if advised in sizes[-SHOWN_SIZES:] else sizes[:SHOWN_SIZES]
    lines = [f"{'size':<10}{'places':>15}{'texts that collide':>22}{'largest group':>17}"]
    for size in shown:
        marks = ["CoST's own"] if size.level_sizes == COST_SIZES else []
        marks += ["advised"] if size == advised else []
        places = f"{size.places:,}"
        row = f"{sizes_text(size.level_sizes):<10}{places:>15}{size.collided:>22.0%}{size.largest_group:>17,}"
        lines.append(row + (f"   <- {', '.join(marks)}" if marks else ""))
    origin = {
        "lsa": "lsa vectors",
        "encoder": "the encoder's cached vectors",
        "stand_in": "groups of letters (a text encoder tells more texts apart)",
    }[result.vector_origin]
    return [*lines, f"by residual k-means on {origin}; most places stay empty: texts crowd in few"]


def _costs(costs: RunCosts | str, recipe: str) -> list[str]:
    if isinstance(costs, str):
        return [f"not measured: {costs}"]
    parts = ", ".join(f"{STAGES.get(name, name)} {duration(seconds)}" for name, seconds in costs.seconds.items())
    return [
        f"{recipe}, one seed: {duration(costs.run)} on this CPU while it is idle (threads: {costs.threads}), "
        f"{memory(costs.memory_mb)} of memory",
        parts,
        f"assumes {', '.join(costs.assumptions)}",
    ]


def _problems(result: "CheckResult") -> list[str]:
    if not result.problems:
        return ["Nothing to fix."]
    lines = ["To fix or to know"]
    for number, problem in enumerate(result.problems, start=1):
        arrow = f" -> {problem.remedy}" if problem.remedy else ""
        lines += textwrap.wrap(
            f"{number:>2}. {problem.severity}: {problem.message}{arrow}",
            WIDTH,
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines


def _commands(result: "CheckResult") -> Sequence[str]:
    return ["Next", *(textwrap.indent(command, INDENT) for command in result.commands)]


def _printable(text: str) -> str:
    """Return a text whose control characters, as column names may hold them, do nothing to a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def _paragraph(label: str, text: str) -> list[str]:
    """Wrap a text beside its label; runs of spaces stay, they align columns."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<{LABEL}}",
        subsequent_indent=" " * LABEL,
        break_on_hyphens=False,
        break_long_words=False,
    )
