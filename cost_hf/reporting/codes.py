"""The sections on semantic IDs: codebook utilization, SID-level against item-level hits, quality of the codes."""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.document import Cell, Column, Line, LineGroup, Section, Table
from cost_hf.reporting.drawing import axis, bar, dumbbell, nice_scale
from cost_hf.reporting.standings import Standings

UTILIZATION_LEAD = (
    "A level is well used where its perplexity (the effective number of codes) is near its number of codes; the share "
    "of codes in use alone does not reveal one giant cluster with a few outliers. “Adds” is the conditional entropy of "
    "a level given the levels before it."
)
INFLATION_LEAD = (
    "A hit on the semantic ID counts every item that shares it. The difference to hits on items is credit for items "
    "that were not clicked; only the item figure is comparable with systems without semantic IDs."
)
QUALITY_LEAD = (
    "Measured without a generator, one figure per prefix length, the chance value in brackets. All of them increase "
    "with the size of the groups that share a prefix."
)

QUALITY = (
    ("group_sizes", "group size", "mean items"),
    ("knn_same_prefix", "nearest items with the same prefix", "share"),
    ("category_purity", "same category", "share"),
    ("history_target_overlap", "target shares a prefix with the history", "share"),
    ("co_click_affinity", "co-click lift", "1 is chance"),
)


def code_sections(standings: Standings) -> list[Section]:
    """Return the sections on codebook utilization, on SID-level against item-level hits, and on quality."""
    codes = standings.compare.get("codes") or {}
    names = [name for name in standings.in_order if codes.get(name)]
    names += [name for name in codes if name not in names and codes[name]]
    measured = [name for name in names if codes[name].get("levels")]
    utilization = [_utilization_table(name, codes[name], standings.family(name)) for name in measured]
    quality = _quality_table(standings, {name: codes[name] for name in names})
    return [
        Section("codes", "Codebook utilization", (UTILIZATION_LEAD,), tables=tuple(utilization), side_by_side=True),
        Section("inflation", "Hits on semantic IDs against hits on items", (INFLATION_LEAD,), _inflation(standings)),
        Section("quality", "Quality of the semantic IDs", (QUALITY_LEAD,), tables=(quality,) if quality else ()),
    ]


def _utilization_table(name: str, facts: Mapping[str, Any], family: str) -> Table:
    columns = (
        Column("level", is_text=True),
        Column("used"),
        Column("perplexity", "of the codes", is_text=True),
        Column("entropy", "bits"),
        Column("adds", "bits"),
    )
    return Table(name, columns, (LineGroup(_levels(name, facts, family)),), note=_collisions(facts), family=family)


def _levels(name: str, facts: Mapping[str, Any], family: str) -> tuple[Line, ...]:
    quality = facts.get("quality") or {}
    lines = []
    for number, level in enumerate(facts.get("levels") or []):
        size = level["num_codes"]
        perplexity = level["perplexity"]
        label = f"{name}, level {number + 1}: perplexity {perplexity:.1f} of {size}"
        drawing = bar(perplexity / size, label=label, family=family)
        bits = [_item(quality.get(key), number) for key in ("entropy", "conditional_entropy")]
        cells = (
            Cell(str(number + 1)),
            Cell(numbers.percent(level.get("use"), digits=0)),
            Cell(f"{perplexity:.1f} of {size:,}", drawing=drawing),
            Cell(numbers.amount(bits[0], digits=2)),
            Cell(numbers.amount(bits[1], digits=2)),
        )
        lines.append(Line(cells, family=family))
    return tuple(lines)


def _collisions(facts: Mapping[str, Any]) -> str:
    parts = (
        ("unique_share", "{} unique semantic IDs", numbers.percent),
        ("collided_share", "{} of the items share theirs", numbers.percent),
        ("largest_group", "largest group {}", numbers.amount),
    )
    texts = [text.format(write(facts[key])) for key, text, write in parts if facts.get(key) is not None]
    moved = (facts.get("catalog") or {}).get("moved")
    return ", ".join([*texts, *([f"{numbers.amount(moved)} items moved by the collision policy"] if moved else [])])


def _inflation(standings: Standings) -> tuple[Table, ...]:
    """Return one table per setting of seen items, rows that have both kinds of hits."""
    order = dict.fromkeys([standings.primary["seen"], *words.SEEN])
    tables = [_inflation_table(standings, seen) for seen in order]
    return tuple(table for table in tables if table is not None)


def _inflation_table(standings: Standings, seen: str) -> Table | None:
    metric = "recall@10"
    pairs = {
        name: [standings.cell(name, metric, seen=seen, unit=unit) for unit in ("metrics", "sid")]
        for name in standings.in_order
    }
    values = {name: [cell["value"] for cell in pair if cell] for name, pair in pairs.items() if all(pair)}
    if not values:
        return None
    scale = nice_scale(value for pair in values.values() for value in pair)
    lines = []
    for name, (item, sid) in values.items():
        family = standings.family(name)
        label = f"{name}: {numbers.score(item)} on items, {numbers.score(sid)} on semantic IDs"
        share = ((standings.compare.get("codes") or {}).get(name) or {}).get("collided_share")
        cells = (
            Cell(name),
            Cell(numbers.score(item)),
            Cell(numbers.score(sid), drawing=dumbbell((item, sid), scale, label=label, family=family)),
            Cell(numbers.percent(sid / item - 1, signed=True) if item > 0 else numbers.DASH),
            Cell(numbers.percent(share)),
        )
        lines.append(Line(cells, family=family, is_main=name == standings.main))
    columns = (
        Column("row", is_text=True),
        Column("item", "filled"),
        Column("semantic ID", "open", axis(scale), is_text=True),
        Column("inflation"),
        Column("items that collide"),
    )
    caption = f"{words.metric_name(metric)}, {words.SEEN[seen].lower()}"
    return Table(caption, columns, (LineGroup(tuple(lines)),), cards=True)


def _quality_table(standings: Standings, codes: Mapping[str, Mapping[str, Any]]) -> Table | None:
    found = {name: {**own, **(own.get("quality") or {})} for name, own in codes.items()}
    measured = [entry for entry in QUALITY if any(facts.get(entry[0]) for facts in found.values())]
    if not measured:
        return None
    has_overlap = any(facts.get("knn_overlap_prefix") is not None for facts in found.values())
    lines = []
    for name, facts in found.items():
        cells = [Cell(name)]
        if has_overlap:
            cells.append(Cell(numbers.score(facts.get("knn_overlap_prefix"))))
        cells += [_prefix_cell(facts.get(key), facts.get(f"{key}_chance")) for key, _, _ in measured]
        lines.append(Line(tuple(cells), family=standings.family(name), is_main=name == standings.main))
    columns = [Column("row", is_text=True)]
    if has_overlap:
        width = max(facts.get("knn") or 10 for facts in found.values())
        columns.append(Column("neighbor overlap", f"of {width} nearest item vectors"))
    columns += [Column(title, note) for _, title, note in measured]
    return Table("Quality, one figure per prefix length", tuple(columns), (LineGroup(tuple(lines)),))


def _prefix_cell(values: Any, chance: Sequence[float | None] | None) -> Cell:
    """Return the figures per prefix length, with the chance values below where they are known."""
    if isinstance(values, Mapping):
        chance = values.get("chance")
        values = values.get("observed")
    return Cell(_by_prefix(values), f"({_by_prefix(chance)})" if chance else "")


def _by_prefix(values: Sequence[float | None] | None) -> str:
    if not values:
        return numbers.DASH
    return " · ".join(numbers.ratio(value) for value in values)


def _item(values: Sequence[float] | None, index: int) -> float | None:
    return values[index] if values and index < len(values) else None
