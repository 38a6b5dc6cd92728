"""Sections of the docs on work over large data: how it grows with the click log, and what workers of Ray add."""

import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.readme_hybrids import markdown_lines
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results" / "growth" / "data.json"
BULK = Path(__file__).parent / "results" / "speed" / "bulk.json"
NEXT = 10**8  # clicks, beyond what was measured
START = "start"  # the imports
WHOLE = ("read", "digest", "split", "check")  # with the counting, the work before training


def growth_section() -> str:
    """Return seconds and peak memory of every stage at every size, before and after, and the slope."""
    rows = read_json(RESULTS)["rows"]
    before, after = (
        {int(size): stages for size, stages in rows.get(label, {}).items()} for label in ("before", "after")
    )
    sizes = sorted(after)
    stages = [stage for stage in dict.fromkeys(name for size in sizes for name in after[size]) if stage != START]
    tables = []
    for key, write in (("seconds", _seconds), ("peak_mb", numbers.memory)):
        lines = [["", *(f"{size:,} clicks" for size in sizes), "slope", f"{NEXT:,}, computed"]]
        lines.append(["---"] * len(lines[0]))
        for stage in stages:
            cells = []
            for size in sizes:
                values = [part.get(size, {}).get(stage, {}).get(key) for part in (before, after)]
                was, is_now = (numbers.DASH if value is None else write(value) for value in values)
                cells.append(is_now if values[0] is None else f"{was} → {is_now}")
            points = [(size, after[size][stage][key]) for size in sizes if stage in after[size]]
            lines.append([stage, *cells, *_slope(points, write, is_memory=key == "peak_mb")])
        tables.append(markdown_lines(lines))
    about = (
        "A made-up log, ten clicks a user and a hundred an item, one user with up to 20,000. Seconds of CPU on a "
        "shared machine, before → after ids became numbers and histories slices of one array; the slope is the power "
        "of the size with which they grow between the two largest sizes. What was not measured has a dash:"
    )
    memory = (
        "Largest resident memory in each stage, with what earlier stages keep and the libraries; the slope is for a "
        "million clicks more:"
    )
    parts = [about, tables[0], memory, tables[1], _whole(sizes[-1], after[sizes[-1]])]
    return "\n\n".join([*parts, "`benchmarks/data_growth.py` makes these tables."])


def bulk_section() -> str:
    """Return how fast bulk recommendations are written in one process and by workers of Ray."""
    found = read_json(BULK)
    lines = [["engine", "first file", "rows a second", "times the local engine"], ["---"] * 4]
    for row in found["rows"]:
        ratio = f"{row['ratio']:.2f}"
        lines.append([row["engine"], f"{row['first file s']:.1f} s", f"{row['rows a second']:,.0f}", ratio])
    cores = found["machine"]["cores"]
    about = (
        f"`recommend` for {found['histories']:,} histories in row groups of {found['row_group']:,}, by a "
        f"{found['kind']} over {found['items']:,} made-up items, on {cores} shared cores, each worker with one thread; "
        f"medians of {found['rounds']} rounds. The first file takes the start of Ray and the load of the model; rows a "
        "second are those of all other row groups. The files of all engines have the same bytes:"
    )
    return f"{about}\n\n{markdown_lines(lines)}\n\n`benchmarks/bulk.py` makes this table."


def _whole(size: int, stages: dict[str, dict[str, float]]) -> str:
    """Return what all of the work before training takes at a size."""
    kept = [found for name, found in stages.items() if name in WHOLE or name.startswith("count ")]
    seconds = numbers.duration(sum(found["seconds"] for found in kept))
    memory = numbers.memory(max(found["peak_mb"] for found in kept))
    return f"To read, check and split {size:,} clicks and to count the baselines takes {seconds} and {memory}."


def _seconds(value: float) -> str:
    return numbers.duration(value) if value >= 0.1 else f"{value:.2f} s"


def _slope(points: list[tuple[int, float]], write: Callable[[float], str], *, is_memory: bool) -> list[str]:
    """Return the slope between the two largest sizes, and what it makes of `NEXT` clicks."""
    if len(points) < 2 or not points[-2][1]:
        return ["", ""]
    (size, value), (most, largest) = points[-2:]
    if is_memory:
        slope = (largest - value) / (most - size)
        return [f"{slope * 10**6:.0f} MiB", write(largest + slope * (NEXT - most))]
    slope = math.log(max(largest, 1e-3) / value) / math.log(most / size)
    return [f"{slope:.2f}", write(largest * (NEXT / most) ** slope)]
