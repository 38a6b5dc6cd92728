"""Section of the docs on what every stage over a catalog costs as it grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme_hybrids import markdown_lines
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results" / "growth" / "items.json"
NAMES = {
    "encode": "encode vectors from disk",
    "append": "codes to catalog, `append`",
    "reassign": "codes to catalog, `reassign`",
    "min_cost": "codes to catalog, `min_cost`",
    "sinkhorn": "codes to catalog, `sinkhorn`",
    "save": "save",
    "load": "load",
    "digest": "digest",
    "to_parquet": "table to publish",
    "add": "add 10,000 items",
    "mask": "mask up to 100,000 items",
    "rank_popularity": "rank 256 cases: popularity",
    "rank_item_knn": "rank 256 cases: item_knn",
    "rank_markov": "rank 256 cases: markov",
    "rank_text_last": "rank 256 cases: text_last",
    "rank_markov_text": "rank 256 cases: markov_text",
    "rank_sasrec": "rank 256 cases: SASRec",
    "versions": "20 versions of a list with vectors",
    "texts": "gather text vectors",
    "evaluation": "intervals over as many users, a tenth of the usual draws",
}
MISSING = "–"


def _machines(found: Mapping[str, Any]) -> str:
    """Return which machines measured which stages."""
    stages: dict[str, list[str]] = {}
    for row in found["after"]:
        names = stages.setdefault(row["machine"]["device"], [])
        if row["stage"] not in names:
            names.append(row["stage"])
    most = max(stages, key=lambda device: len(stages[device]))
    others = {device: " and ".join(f"`{name}`" for name in names) for device, names in stages.items() if device != most}
    return "; ".join([most, *(f"{names} on {device}" for device, names in others.items())])


def item_growth_section() -> str:
    """Return seconds and memory of every stage by the size of the catalog, before and now."""
    found = read_json(RESULTS)
    sizes = sorted({row["items"] for row in found["after"]})
    after = {(row["stage"], row["items"]): row for row in found["after"]}
    before = {(row["stage"], row["items"]): row for row in found["before"]}
    stages = [stage for stage in NAMES if any((stage, size) in after for size in sizes)]
    head = ["", *(f"{numbers.amount(size)} items" for size in sizes), "seconds, ten times the items"]
    lines = [head, ["---"] * len(head)]
    for stage in stages:
        rows = [after.get((stage, size)) for size in sizes]
        lines.append([NAMES[stage], *map(_cell, rows), _slope([row for row in rows if row])])
    smaller = [["", *(f"{numbers.amount(size)} items" for size in sizes)], ["---"] * (len(sizes) + 1)]
    for stage in stages:
        rows = [before.get((stage, size)) for size in sizes]
        if any(rows):
            smaller.append([NAMES[stage], *map(_cell, rows)])
    about = (
        "CPU seconds of one thread, and how far the resident size rose above that before the stage: its result and "
        "what it needed on the way. Made-up items with vectors of 32 numbers and three levels of 256 codes; text "
        f"vectors have 384. Machines were shared: {_machines(found)}."
    )
    return "\n\n".join(
        [
            about,
            markdown_lines(lines),
            "The same stages before rankings, intervals, tables and vectors were made in parts:",
            markdown_lines(smaller),
            "`benchmarks/item_growth.py` makes these tables.",
        ]
    )


def _cell(row: Mapping[str, Any] | None) -> str:
    """Return seconds and memory of a stage."""
    if row is None:
        return MISSING
    if "failed" in row:
        return "failed"
    return f"{numbers.amount(row['seconds'])} s, {numbers.amount(row['above_mb'])} MB"


def _slope(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how many times the seconds of the second largest catalog the largest one took."""
    known = [row for row in rows if "failed" not in row]
    if len(known) < 2 or known[-1]["items"] != 10 * known[-2]["items"]:
        return MISSING
    return f"× {numbers.amount(known[-1]['seconds'] / known[-2]['seconds'])}"
