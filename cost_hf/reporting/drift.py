"""The report of `cost-hf drift`: verdict, reasons and all statistics beside their limits, as text and as a page."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.files import atomic_path
from cost_hf.reporting import numbers, words
from cost_hf.reporting.document import Cell, Column, Line, LineGroup, Page, Section, Table
from cost_hf.reporting.drawing import Scale, axis, interval_drawing
from cost_hf.reporting.html import to_html
from cost_hf.reporting.terminal import WIDTH
from cost_hf.terminal_text import terminal_text

HEADLINES = {
    "fine": "Fine: the new data are like those of the training",
    "watch": "Watch: some of the new data are unusual",
    "retrain": "Retrain: the new data are unlike those of the training",
}
STATUSES = {"fine": "fine", "watch": "▲ watch", "retrain": "■ retrain"}
MARKS = {"fine": "hybrid", "watch": "oracle", "retrain": "generative"}  # shapes and colors that differ
TITLES = {
    "texts": "Texts of the items",
    "item vectors": "Item vectors",
    "semantic IDs": "Semantic IDs",
    "clicks": "Clicks",
}
MOST = 3.0  # of the axis: what is farther from usual stands at its end
DISTANCES = Scale(0.0, MOST, (0.0, 1.0, 2.0, 3.0))  # from the usual value, in distances of the first limit
SHOWN_REASONS = 4  # on the page, whose table has all
LABEL = 46  # columns of the labels in the terminal
VALUE = 11
KEY = (
    "The usual range holds the middle 95 % of samples of the training that are as large as the new data. The first "
    "limit is beyond all samples: data like those of the training give about one false alarm in 100 checks, over all "
    "statistics. The second limit is twice as far from the usual value."
)


def drift_text(findings: Mapping[str, Any]) -> str:
    """Return the report for a terminal.

    Args:
        findings: of `drift`, as plain values: `DriftResult.to_dict()`.
    """
    lines = [f"{findings['verdict']}: {findings['source']}", *_wrapped(findings["advice"])]
    lines += [line for reason in findings["reasons"] for line in _wrapped(reason, first="- ", rest="  ")]
    head = f"{'':{LABEL}}{'new':>{VALUE}}{'usual':>{2 * VALUE}}{'watch':>{VALUE}}{'retrain':>{VALUE}}"
    for group in TITLES:
        rows = [own for own in findings["statistics"] if own["group"] == group]
        if rows:
            lines += ["", f"{group:{LABEL}}{head[LABEL:]}", *map(_row, rows)]
    if findings["not_applicable"]:
        lines.append("")
        for group, reason in findings["not_applicable"].items():
            lines += _wrapped(f"no statistics of {group}: {reason}")
    sentences = [*findings["notes"], *_protocol(findings["protocol"])]
    lines += ["", *(line for sentence in sentences for line in _wrapped(sentence))]
    return terminal_text("\n".join(lines))


def drift_page(findings: Mapping[str, Any]) -> Page:
    """Return the report as a page; `findings` as for `drift_text`."""
    protocol = findings["protocol"]
    unusual = sum(own["status"] != "fine" for own in findings["statistics"])
    facts = [("statistics", numbers.amount(len(findings["statistics"]))), ("unusual", numbers.amount(unusual))]
    facts += [
        (name, numbers.amount(protocol[key]))
        for name, key in (("items", "items"), ("clicks", "clicks"))
        if key in protocol
    ]
    return Page(
        title=f"Drift: {findings['source']}",
        kicker=f"Drift · {findings['source']}",
        headline=HEADLINES[findings["verdict"]],
        paragraphs=(findings["advice"], *_first_reasons(findings["reasons"])),
        facts=tuple(facts),
        protocol=(*findings["notes"], *_protocol(protocol)),
        sections=(Section("statistics", "Statistics", key=KEY, tables=(_table(findings),)),),
    )


def write_drift_page(findings: Mapping[str, Any], path: str | Path) -> None:
    """Write the page, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_html(drift_page(findings)), encoding="utf-8")


def _first_reasons(reasons: Sequence[str]) -> Iterator[str]:
    """Yield the worst reasons, and how many others there are."""
    yield from reasons[:SHOWN_REASONS]
    if len(reasons) > SHOWN_REASONS:
        yield f"{words.plural(len(reasons) - SHOWN_REASONS, 'other statistic')} of the table are unusual, too."


def shown_value(value: float | None, unit: str, usual: float) -> str:
    """Return the value of a statistic for readers.

    Args:
        unit: `share`, `number`, or `ratio` to the usual value.
        usual: the usual value.
    """
    if value is None or value < 0 or (unit == "share" and value > 1):  # a limit that no value reaches
        return numbers.DASH
    if unit == "share":
        return numbers.percent(value)
    if unit == "ratio":
        return f"{numbers.amount(value / usual if usual else 1.0)}×"
    return numbers.ratio(value)


def _table(findings: Mapping[str, Any]) -> Table:
    """Return all statistics by groups; a group without any says why."""
    columns = (
        Column("statistic", is_text=True),
        Column("new data"),
        Column("usual"),
        Column("watch"),
        Column("retrain"),
        Column("distance from usual", note="1: watch, 2: retrain", axis=axis(DISTANCES), is_text=True),
        Column("verdict", is_text=True),
    )
    missing = findings["not_applicable"]
    groups = []
    for group, title in TITLES.items():
        lines = tuple(_line(own) for own in findings["statistics"] if own["group"] == group)
        if lines or group in missing:
            groups.append(LineGroup(lines, title=title, note="" if lines else f"not applicable: {missing[group]}"))
    return Table("New data beside samples of the training", columns, tuple(groups), cards=True)


def _line(own: Mapping[str, Any]) -> Line:
    """Return the row of a statistic."""
    limits = own["limits"]

    def shown(value: float | None) -> str:
        return shown_value(value, own["unit"], limits["usual"])

    distance = min(own["distance"], MOST)
    text = f"{numbers.amount(own['distance'])}"
    drawing = interval_drawing(
        {"value": distance},
        DISTANCES,
        label=f"{own['label']}: {text} of the distance to the first limit",
        family=MARKS[own["status"]],
        band=(0.0, 1.0),
        rule=2.0,
    )
    cells = (
        Cell(own["label"]),
        Cell(shown(own["value"])),
        Cell(f"{shown(limits['low'])} to {shown(limits['high'])}"),
        Cell(_limit(limits["watch"], shown)),
        Cell(_limit(limits["retrain"], shown)),
        Cell(text, drawing=drawing),
        Cell(STATUSES[own["status"]]),
    )
    return Line(cells, family=MARKS[own["status"]], is_main=own["status"] != "fine")


def _limit(pair: Sequence[float | None], shown: Callable[[float | None], str]) -> str:
    """Return a limit on one side or both."""
    low, high = map(shown, pair)
    sides = [f"{sign} {text}" for sign, text in (("<", low), (">", high)) if text != numbers.DASH]
    return ", ".join(sides) or numbers.DASH


def _row(own: Mapping[str, Any]) -> str:
    limits = own["limits"]

    def shown(value: float | None) -> str:
        return shown_value(value, own["unit"], limits["usual"])

    side = (
        1 if limits["watch"][1] is not None and (own["value"] >= limits["usual"] or limits["watch"][0] is None) else 0
    )
    usual = f"{shown(limits['low'])} to {shown(limits['high'])}"
    marks = f"{shown(own['value']):>{VALUE}}{usual:>{2 * VALUE}}"
    marks += f"{shown(limits['watch'][side]):>{VALUE}}{shown(limits['retrain'][side]):>{VALUE}}"
    status = "" if own["status"] == "fine" else f"  {own['status']}"
    return f"  {own['label']:{LABEL - 2}}{marks}{status}".rstrip()


def _protocol(protocol: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was compared with what."""
    if "items" in protocol:
        looked = ""
        if protocol["items_looked_at"] < protocol["items"]:
            looked = f", of which {protocol['items_looked_at']:,} were looked at"
        yield (
            f"{words.plural(protocol['items'], 'item')}{looked}; limits from {protocol['draws']} samples of "
            f"{protocol['item_sample']:,} of {protocol['training_items']:,} training items, half of them at random and "
            "half of them stretches of the catalog."
        )
    if "clicks" in protocol:
        yield (
            f"{words.plural(protocol['clicks'], 'click')}; limits from {protocol['held_out_clicks']}, for samples of "
            f"{protocol['click_sample']:,}."
        )
        if protocol["recall_tolerance"] is not None:
            share = numbers.percent(protocol["recall_tolerance"])
            yield (
                f"Clicks on new items are watched from {share} at the earliest: the recall of the run is known to "
                f"± {share} of itself, or such a share is worth a look in any case."
            )


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split(" ")),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
