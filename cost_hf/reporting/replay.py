"""The report of `cost-hf replay`: what was clicked of what was shown, by model, for the terminal and as a page."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cost_hf.files import atomic_path
from cost_hf.reporting import numbers, words
from cost_hf.reporting.document import NO_DRAWING, Cell, Column, Line, LineGroup, Page, Section, Table
from cost_hf.reporting.drawing import Scale, axis, interval_drawing, nice_scale
from cost_hf.reporting.html import to_html
from cost_hf.reporting.terminal import WIDTH
from cost_hf.terminal_text import terminal_line, terminal_text

CTR = "ctr"
CLICKED_LISTS = "clicked_lists"
OFFLINE = ("recall", "ndcg", "mrr")
GAP = "  "
SHOWN_RANKS = 10  # in the terminal
MAX_CATALOGS = 10  # in the terminal
RANKS = "First ranks are clicked more often whatever stands there: rates by rank say how lists are read."
NO_CELL: Mapping[str, Any] = {"value": None}


def replay_text(findings: Mapping[str, Any]) -> str:
    """Return the report for a terminal.

    Args:
        findings: of a replay, as plain values: `ReplayResult.to_dict()`.
    """
    events = _event_table(findings)
    parts = [*map(_wrapped, _facts(findings)), _rows(_online_table(findings))]
    parts += [_rows(events)] if events.groups[0].lines else []
    parts.append(_rows(_rank_table(findings, SHOWN_RANKS)))
    catalogs = _catalog_table(findings)
    if len(findings["catalogs"]) > len(findings["models"]):
        parts.append(_rows(catalogs, most=MAX_CATALOGS))
    offline = _offline_table(findings)
    parts.append(_rows(offline) if offline.groups[0].lines else "no list was followed by a click within the window")
    if findings["differences"]:
        parts.append(_rows(_difference_table(findings, is_short=True)))
    parts += [_wrapped(caution, first="- ", rest="  ") for caution in findings["cautions"]]
    return terminal_text("\n\n".join(parts))


def replay_page(findings: Mapping[str, Any]) -> Page:
    """Return the report as a page; `findings` as for `replay_text`."""
    log = findings["log"]
    shown = [
        ("lists", numbers.amount(log["judged"])),
        ("models", numbers.amount(len(findings["models"]))),
        ("impressions", numbers.amount(sum(row["impressions"] for row in findings["models"]))),
        ("clicks on lists", numbers.amount(findings["clicks"]["on_lists"])),
    ]
    return Page(
        title="Replay of a request log",
        kicker="Replay",
        headline=_headline(findings),
        paragraphs=(),
        warnings=tuple(findings["cautions"]),
        facts=tuple(shown),
        protocol=tuple(_facts(findings)),
        sections=tuple(section for section in _sections(findings) if not section.is_empty),
    )


def write_replay_page(findings: Mapping[str, Any], path: str | Path) -> None:
    """Write the page of a replay, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_html(replay_page(findings)), encoding="utf-8")


def _headline(findings: Mapping[str, Any]) -> str:
    """Return the click-through rates, and the tested difference where there are two models."""
    tested = [claim for claim in findings["differences"] if claim["metric"] == CTR]
    if len(tested) == 1:
        claim = tested[0]
        return (
            f"Click-through rate of {claim['a']} minus {claim['b']}: "
            f"{_percent_interval(claim['difference'], signed=True)}"
        )
    best = findings["models"][0]
    rate = f"Click-through rate {_percent_interval(best['rates'].get(CTR))}"
    return rate if len(findings["models"]) == 1 else f"{len(findings['models'])} models; {best['name']}: {rate}"


def _facts(findings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was read and left out, and what the rates mean."""
    log = findings["log"]
    clicks = findings["clicks"]
    protocol = findings["protocol"]
    yield (
        f"Log: {words.plural(log['lists'], 'list')} in {words.plural(log['files'], 'file')}, {log['first']} to "
        f"{log['last']} (UTC); {_left_out(log)}."
    )
    if log["damaged"]:
        first = "is damaged" if log["damaged"] == 1 else "are damaged, the first"
        yield f"{words.plural(log['damaged'], 'record')} of the log {first}: {log['first_damaged']}."
    unread = [
        f"{clicks[name]:,} {text}"
        for name, text in (("without_user", "without a user"), ("unreadable", "that can't be read"))
        if clicks[name]
    ]
    rest = f"; left out: {', '.join(unread)}" if unread else ""
    yield (
        f"Clicks: {clicks['clicks']:,} of {words.plural(clicks['users'], 'user')}, {clicks['first']} to "
        f"{clicks['last']} (UTC), {clicks['on_lists']:,} of them on an item that was shown to the user before{rest}."
    )
    window = _window(protocol["window_seconds"])
    yield (
        f"A click counts for the list with its item that was shown last to its user, at most {window} before. "
        f"Intervals are 95 %, from {numbers.amount(protocol['draws'])} bootstrap samples of users."
    )


def _window(seconds: float) -> str:
    """Return a time in the largest unit that has it whole or above one: `90 s`, `30 min`, `24 h`, `7 days`."""
    for unit, length in (("days", 86_400 * 2), ("h", 3_600), ("min", 60)):
        size = 86_400 if unit == "days" else length
        if seconds >= length and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _left_out(log: Mapping[str, Any]) -> str:
    parts = [
        (log["without_user"], "without a user id"),
        (log["outside"], "at other times than the clicks"),
    ]
    texts = [f"{count:,} {text}" for count, text in parts if count]
    if log["in_progress"]:
        texts.append(f"{words.plural(log['in_progress'], 'file')} in progress")
    return f"left out: {', '.join(texts)}" if texts else "all have a user id and were shown at the time of the clicks"


def _sections(findings: Mapping[str, Any]) -> Iterator[Section]:
    differences = _difference_table(findings)
    offline = _offline_table(findings)
    tables = [_online_table(findings), _event_table(findings), _rank_table(findings)]
    shown = tuple(table for table in tables if table.groups[0].lines)
    yield Section("online", "What was clicked", (RANKS,), tables=shown)
    if findings["differences"]:
        yield Section(
            "differences",
            "Differences between models",
            ("Differences in the click-through rate are tested, with p values corrected for their number (Holm).",),
            tables=(differences,),
        )
    if offline.groups[0].lines:
        yield Section("offline", "Next clicks in the lists that were shown", (_targets(findings),), tables=(offline,))
    yield Section("catalogs", "By catalog", tables=(_catalog_table(findings),))


def _targets(findings: Mapping[str, Any]) -> str:
    protocol = findings["protocol"]
    number = protocol["next_clicks"]
    which = "next click" if number == 1 else f"next {number} clicks"
    targets = "" if protocol["targets"] == "every click" else f" (targets are {protocol['targets']})"
    return (
        f"Cases are the user's {which} after a list within the window{targets}, wherever it came from; lists without "
        "one are no cases. Nothing was ranked again."
    )


def _online_table(findings: Mapping[str, Any]) -> Table:
    models = findings["models"]
    scale = _scale(row["rates"].get(CTR) for row in models)
    columns = [
        Column("model", is_text=True),
        *(Column(name) for name in ("catalogs", "lists", "users", "impressions")),
        Column("CTR", "95 % interval", axis(scale), is_text=True),
        Column("lists with a click", "95 % interval", is_text=True),
    ]
    lines = []
    for row in models:
        counts = [numbers.amount(row[name]) for name in ("catalogs", "lists", "users", "impressions")]
        rates = [_rate_cell(row, CTR, scale), _rate_cell(row, CLICKED_LISTS, None)]
        lines.append(Line((Cell(row["name"]), *map(Cell, counts), *rates), is_main=row["name"] == findings["baseline"]))
    return Table("What was clicked, by model", tuple(columns), (LineGroup(tuple(lines)),), cards=True)


def _event_table(findings: Mapping[str, Any]) -> Table:
    """Return the rates of every type of event; without lines where there are no types."""
    models = findings["models"]
    rates = dict.fromkeys(rate for row in models for rate in row["rates"])
    events = [name for name in rates if name.startswith("ctr.")]
    columns = (
        Column("model", is_text=True),
        *(Column(name.partition(".")[2], "95 % interval", is_text=True) for name in events),
    )
    lines = [Line((Cell(row["name"]), *(_rate_cell(row, name, None) for name in events))) for row in models]
    caption = "Items shown that had an event of each type, by model"
    return Table(caption, columns, (LineGroup(tuple(lines) if events else ()),), cards=True)


def _rank_table(findings: Mapping[str, Any], most: int | None = None) -> Table:
    ranks = list(dict.fromkeys(entry["rank"] for row in findings["models"] for entry in row["ranks"]))
    ranks.sort(key=lambda rank: int(rank.rstrip("+")))
    lines = []
    for row in findings["models"]:
        by_rank = {entry["rank"]: entry for entry in row["ranks"]}
        best = max((entry["ctr"] for entry in row["ranks"]), default=0.0)
        cells = [_shaded(by_rank[rank], best) if rank in by_rank else Cell(numbers.DASH) for rank in ranks[:most]]
        lines.append(Line((Cell(row["name"]), *cells)))
    columns = (Column("rank", is_text=True), *(Column(rank) for rank in ranks[:most]))
    return Table("CTR by rank", columns, (LineGroup(tuple(lines)),))


def _shaded(entry: Mapping[str, Any], best: float) -> Cell:
    return Cell(numbers.percent(entry["ctr"]), shade=entry["ctr"] / best if best else 0.0)


def _offline_table(findings: Mapping[str, Any]) -> Table:
    models = [row for row in findings["models"] if row["cases"]]
    cutoffs = _cutoffs(findings)
    columns = (
        Column("model", is_text=True),
        Column("cases"),
        Column("k"),
        *(Column(words.METRICS[kind], "95 % interval", is_text=True) for kind in OFFLINE),
    )
    lines = [
        Line(
            (
                Cell(row["name"] if cutoff == cutoffs[0] else ""),
                Cell(numbers.amount(row["cases"]) if cutoff == cutoffs[0] else ""),
                Cell(str(cutoff)),
                *(_score_cell(row["rates"].get(f"{kind}@{cutoff}")) for kind in OFFLINE),
            ),
            is_main=row["name"] == findings["baseline"],
        )
        for row in models
        for cutoff in cutoffs
    ]
    number = findings["protocol"]["next_clicks"]
    target = "The next click" if number == 1 else f"The next {number} clicks"
    caption = f"{target} in the list that was shown, by model and list length k"
    return Table(caption, columns, (LineGroup(tuple(lines)),), cards=True)


def _cutoffs(findings: Mapping[str, Any]) -> list[int]:
    """Return the list lengths for which there are offline metrics."""
    names = {name for row in findings["models"] for name in row["rates"] if "@" in name}
    return sorted({int(name.partition("@")[2]) for name in names})


def _catalog_table(findings: Mapping[str, Any]) -> Table:
    columns = (
        Column("model / catalog", is_text=True),
        Column("from", is_text=True),
        Column("to", is_text=True),
        Column("lists"),
        Column("users"),
        Column("CTR", "95 % interval", is_text=True),
    )
    lines = [
        Line(
            (
                Cell(row["name"]),
                Cell(row["first"]),
                Cell(row["last"]),
                Cell(numbers.amount(row["lists"])),
                Cell(numbers.amount(row["users"])),
                _rate_cell(row, CTR, None),
            )
        )
        for row in findings["catalogs"]
    ]
    return Table("CTR by model and catalog", columns, (LineGroup(tuple(lines)),), cards=True)


def _difference_table(findings: Mapping[str, Any], *, is_short: bool = False) -> Table:
    """Return the differences between models; a short table has the offline metrics of the longest lists alone."""
    longest = f"@{max(_cutoffs(findings), default=0)}"
    columns = (
        Column("difference", is_text=True),
        Column("metric", is_text=True),
        Column("value", "95 % interval", is_text=True),
        Column("relative"),
        Column("p, Holm"),
        Column("verdict", is_text=True),
    )
    lines = []
    for claim in findings["differences"]:
        is_rate = "@" not in claim["metric"]
        if is_short and not is_rate and not claim["metric"].endswith(longest):
            continue
        difference = claim["difference"]
        value = numbers.percent(difference["value"], signed=True, digits=2) if is_rate else None
        cells = [Cell(f"{claim['a']} - {claim['b']}"), Cell(_metric_title(claim["metric"]))]
        cells.append(
            Cell(value, _percent_bounds(difference, signed=True))
            if value is not None
            else Cell(numbers.score(difference["value"], signed=True), numbers.bounds(difference, signed=True))
        )
        is_tested = claim["purpose"] == "claim"
        cells += [
            Cell(numbers.percent(claim["relative"], signed=True)),
            Cell(numbers.probability(claim["p_holm"]) if is_tested else numbers.DASH),
            Cell(words.verdict(claim["verdict"]) if is_tested else numbers.DASH),
        ]
        lines.append(Line(tuple(cells)))
    return Table("Model minus baseline", columns, (LineGroup(tuple(lines)),), cards=True)


def _metric_title(metric: str) -> str:
    if metric == CTR:
        return "CTR"
    if metric == CLICKED_LISTS:
        return "lists with a click"
    return f"CTR, {metric.partition('.')[2]}" if metric.startswith("ctr.") else words.metric_name(metric)


def _rate_cell(row: Mapping[str, Any], metric: str, scale: Scale | None) -> Cell:
    cell = row["rates"].get(metric)
    text = numbers.percent((cell or NO_CELL)["value"], digits=2)
    drawing = NO_DRAWING
    if cell is not None and scale is not None:
        label = f"{row['name']}, {_metric_title(metric)} {_percent_interval(cell)}"
        drawing = interval_drawing(cell, scale, label=label, family="")
    return Cell(text, _percent_bounds(cell), drawing)


def _score_cell(cell: Mapping[str, Any] | None) -> Cell:
    return Cell(numbers.score((cell or NO_CELL)["value"]), numbers.bounds(cell))


def _percent_bounds(cell: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if not cell or cell.get("low") is None:
        return ""
    low, high = (numbers.percent(cell[name], signed=signed, digits=2) for name in ("low", "high"))
    return f"[{low}, {high}]"


def _percent_interval(cell: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    value = numbers.percent((cell or NO_CELL)["value"], signed=signed, digits=2)
    return f"{value} {_percent_bounds(cell, signed=signed)}".rstrip()


def _scale(cells: Any) -> Scale:
    return nice_scale(cell.get(part) for cell in cells if cell for part in ("value", "low", "high"))


def _rows(table: Table, *, most: int | None = None) -> str:
    """Return a table as text under its caption; a line that is wider than the terminal loses the intervals of rates."""
    lines = list(table.lines)[:most]
    left_out = len(list(table.lines)) - len(lines)
    titles = [column.title for column in table.columns]
    grid = [titles, *([_cell_text(cell) for cell in line.cells] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    is_text = [column.is_text for column in table.columns]
    text = [table.caption]
    for row in grid:
        cells = zip(row, widths, is_text, strict=True)
        text.append(GAP.join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells).rstrip())
    if left_out:
        text.append(f"and {left_out} more, which --output writes")
    return "\n".join(text)


def _cell_text(cell: Cell) -> str:
    return terminal_line(f"{cell.text} {cell.note}".rstrip())


def _wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    return textwrap.fill(" ".join(text.split(" ")), WIDTH, initial_indent=first, subsequent_indent=rest)
