"""What the semantic IDs are like: use of the codes per level, what collisions hide, and quality without a generator."""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.drawing import nice_scale
from cost_hf.reporting.page import Cell, Column, Line, LineGroup, Section, Table
from cost_hf.reporting.row_drawings import axis, bar, dumbbell
from cost_hf.reporting.standings import Standings

USE_LEAD = (
    "A level is alive where its perplexity (the number of codes in even use) is near its number of codes; use alone "
    "does not show a giant code beside a few outliers. “Adds” is the entropy that a level has left once the levels "
    "before it are known."
)
INFLATION_LEAD = (
    "A hit on the semantic ID counts every item that shares it. The gap to the hit on the item is credit for items "
    "that nobody clicked; only the item figure can be compared with systems without semantic IDs."
)
QUALITY_LEAD = (
    "Measured without any generator, one figure per prefix length, chance in brackets. All of them grow with the size "
    "of the groups that share a prefix, so read them beside that size."
)


def code_sections(standings: Standings) -> list[Section]:
    """Return the sections on code use, on SID-level against item-level hits, and on quality."""
    codes = standings.compare.get("codes") or {}
    names = [name for name in standings.in_order if codes.get(name)]
    names += [name for name in codes if name not in names and codes[name]]
    use = [_use_table(name, codes[name], standings.family(name)) for name in names if codes[name].get("levels")]
    quality = _quality_table(standings, {name: codes[name] for name in names})
    return [
        Section("codes", "How the codes are used", (USE_LEAD,), tables=tuple(use), side_by_side=True),
        Section("inflation", "Hits on semantic IDs against hits on items", (INFLATION_LEAD,), _inflation(standings)),
        Section("quality", "What the semantic IDs know", (QUALITY_LEAD,), tables=(quality,) if quality else ()),
    ]


def _use_table(name: str, health: Mapping[str, Any], family: str) -> Table:
    columns = (
        Column("level", is_text=True),
        Column("used"),
        Column("perplexity", "of the codes", is_text=True),
        Column("entropy", "bits"),
        Column("adds", "bits"),
    )
    return Table(name, columns, (LineGroup(_levels(name, health, family)),), note=_collisions(health), family=family)


def _levels(name: str, health: Mapping[str, Any], family: str) -> tuple[Line, ...]:
    quality = health.get("quality") or {}
    lines = []
    for number, level in enumerate(health.get("levels") or []):
        size, perplexity = level["num_codes"], level["perplexity"]
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


def _collisions(health: Mapping[str, Any]) -> str:
    facts = (
        ("unique_share", "{} unique semantic IDs", numbers.percent),
        ("collided_share", "{} of the items share theirs", numbers.percent),
        ("largest_group", "largest group {}", numbers.amount),
    )
    texts = [text.format(write(health[key])) for key, text, write in facts if health.get(key) is not None]
    moved = (health.get("catalog") or {}).get("moved")
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


QUALITY = (
    ("group_sizes", "group size", "mean items"),
    ("knn_same_prefix", "near items in the group", "share"),
    ("category_purity", "same category", "share"),
    ("history_target_overlap", "target shares a prefix with the history", "share"),
    ("co_click_affinity", "co-click lift", "1 is chance"),
)


def _quality_table(standings: Standings, codes: Mapping[str, Mapping[str, Any]]) -> Table | None:
    found = {name: {**health, **(health.get("quality") or {})} for name, health in codes.items()}
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
        columns.append(Column("neighbor overlap", f"of {width} nearest by text"))
    columns += [Column(title, note) for _, title, note in measured]
    return Table("Quality, one figure per prefix length", tuple(columns), (LineGroup(tuple(lines)),))


def _prefix_cell(values: Any, chance: Sequence[float | None] | None) -> Cell:
    """Return the figures per prefix length, with chance below where it is known."""
    if isinstance(values, Mapping):
        values, chance = values.get("observed"), values.get("chance")
    return Cell(_by_prefix(values), f"({_by_prefix(chance)})" if chance else "")


def _by_prefix(values: Sequence[float | None] | None) -> str:
    if not values:
        return numbers.DASH
    return " · ".join(numbers.ratio(value) for value in values)


def _item(values: Sequence[float] | None, place: int) -> float | None:
    return values[place] if values and place < len(values) else None
