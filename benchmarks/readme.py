"""Put the results that the main README quotes into it, from the committed results files; a test compares them.

python benchmarks/readme.py
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cost_hf.files import read_json
from cost_hf.hub.cards import markdown_table, verdict

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
    raise NotImplementedError


if __name__ == "__main__":
    main()
