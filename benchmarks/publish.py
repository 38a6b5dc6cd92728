"""Copy what a comparison or a run measured to a folder that may be committed: aggregate numbers, no title, id or user.

    python benchmarks/publish.py runs/compare-cost_industrial benchmarks/results/amazon_industrial
    python benchmarks/publish.py runs/sasrec_beauty-0 benchmarks/results/sasrec_beauty

A comparison leaves `compare.json` and `report.md`, a run `results.json` and `tables.md`.
"""

import sys
import tempfile
from pathlib import Path

from cost_hf.evaluation.results import format_table
from cost_hf.files import read_json, write_json
from cost_hf.reporting import write_compare_report

SEEN = {"seen_allowed": "Seen items allowed", "seen_excluded": "Seen items excluded"}


def main(source: str, target: str) -> None:
    """Copy the numbers of `source` to `target`."""
    run, folder = Path(source), Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    if (run / "compare.json").is_file():
        compare = read_json(run / "compare.json")
        write_json(folder / "compare.json", compare)
        with tempfile.TemporaryDirectory() as scratch:
            write_compare_report(compare, Path(scratch))
            (folder / "report.md").write_text((Path(scratch) / "report.md").read_text(encoding="utf-8"))
        return
    results = read_json(run / "evaluation" / "results.json")
    for name in ("path", "items", "interactions"):  # where the data lay is nobody's business
        results["recipe"]["data"][name] = None
    results["recipe"]["vectors"]["model"] = Path(results["recipe"]["vectors"]["model"]).name
    write_json(folder / "results.json", results)
    tables = [f"{title}\n\n```\n{format_table(results, seen=seen)}\n```\n" for seen, title in SEEN.items()]
    seconds = ", ".join(f"{name} {cost['seconds']:.0f} s" for name, cost in results["stages"].items())
    (folder / "tables.md").write_text("\n".join([*tables, f"{seconds}; {results['device']}\n"]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
