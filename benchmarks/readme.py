"""Put the results that the main README quotes into it, from the committed results files; a test compares them.

python benchmarks/readme.py
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cost_hf.files import read_json
from cost_hf.hub.cards import markdown_table, verdict
from cost_hf.reporting import numbers

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Write every section."""
    path = ROOT / "README.md"
    path.write_text(with_results(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_results(text: str) -> str:
    """Return README with its results sections made anew."""
    for name, section in {"results": results_section(), "cold": cold_section()}.items():
        block = f"<!-- {name} -->\n{section}\n<!-- end -->"
        text, found = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"README.md has no place for {name}; write <!-- {name} --> and <!-- end --> there")
    return text


def results_section() -> str:
    """Return one run on real data and the quick start's, each beside all of its baselines."""
    real = read_json(RESULTS / "cost_industrial" / "results.json")
    toy = read_json(RESULTS / "cost_quickstart" / "results.json")
    return "\n\n".join(
        [
            f"Amazon Industrial and Scientific, recipe `cost_industrial`, {_about(real)}:",
            markdown_table(real),
            verdict(real),
            f"The quick start, toy data made by this package, {_about(toy)}; `oracle` knows what made the clicks:",
            markdown_table(toy),
            verdict(toy),
            "More systems, seeds, data sets and what was lost: [benchmarks/README.md](benchmarks/README.md).",
        ]
    )


def _about(results: Mapping[str, Any]) -> str:
    protocol = results["protocol"]
    split = protocol["split"].replace("_", "-")
    return f"seed {results['seed']}, {split}, {protocol['cases']} test cases, hits on items, seen items allowed"


def cold_section() -> str:
    """Return how items that no part of the training saw are found once they are added."""
    found = read_json(RESULTS / "cold_items.json")
    columns = {
        ("held_back", "recall@10"): "added items, R@10",
        ("held_back", "recall@50"): "added items, R@50",
        ("others", "recall@10"): "all others, R@10",
        ("all", "recall@10"): "all, R@10",
    }
    lines = [["", *columns.values()], ["---"] * (len(columns) + 1)]
    for name, cells in found["rows"].items():
        lines.append([name, *(numbers.interval(cells[group][metric]) for group, metric in columns)])
    seconds, cases = ", ".join(f"{value:.1f}" for value in found["add_seconds"]), found["cases"]
    about = (
        f"Measured on {found['data']}, recipe `{found['recipe']}`: {numbers.percent(found['share'], digits=0)} of the "
        f"items ({found['held_back_items'][0]} of {found['items']:,}) were held back with all their clicks from "
        f"everything that is fitted, then added by their texts (in {seconds} s, loading the text encoder included). "
        f"{len(found['seeds'])} seeds, {cases['held_back']} test clicks on added items and {cases['others']:,} on "
        "others, seen items allowed, 95 % intervals over users:"
    )
    outcome = (
        "By itself the generator hardly writes an ID that it never saw; `cold_share` helps it, at a price for the "
        "others. A SASRec on texts needs no such help and stays ahead. `benchmarks/cold_items.py` makes this table."
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines), outcome])


if __name__ == "__main__":
    main()
