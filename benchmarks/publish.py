"""Copy what a comparison or a run measured to a folder that may be committed: aggregate numbers, no title, id or user.

    python benchmarks/publish.py runs/compare-cost_industrial benchmarks/results/amazon_industrial
    python benchmarks/publish.py runs/sasrec_beauty-0 benchmarks/results/sasrec_beauty

A comparison leaves `compare.json`, `report.md` and, of runs with LoRA, `adapters.json`; a run leaves `results.json` and
`tables.md`. `publish_sections` adds sections of results.json that only some methods have.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.experiments.curves import epoch_curve
from cost_hf.files import read_json, write_json
from cost_hf.hub.redaction import public_name, without_local_paths
from cost_hf.recommenders.repository import read_manifest
from cost_hf.reporting import results_table, write_compare_report
from cost_hf.stages import require_finished

SEEN = {"seen_allowed": "Seen items allowed", "seen_excluded": "Seen items excluded"}


def main(source: str, target: str) -> None:
    """Copy the numbers of `source` to `target`."""
    run = Path(source)
    folder = Path(target)
    require_finished(run, checked=["evaluation"])
    folder.mkdir(parents=True, exist_ok=True)
    if (run / "compare.json").is_file():
        compare = read_json(run / "compare.json")
        compare["recommendation"] |= {"command": None, "directory": None}  # paths of this machine
        write_json(folder / "compare.json", compare)
        with tempfile.TemporaryDirectory() as scratch:
            write_compare_report(compare, Path(scratch))
            (folder / "report.md").write_text((Path(scratch) / "report.md").read_text(encoding="utf-8"))
        found = [path.parent for path in run.glob("runs/*/recommender/adapter_config.json")]
        adapters = {recommender.parent.name: adapter_facts(recommender) for recommender in found}
        if adapters:
            write_json(folder / "adapters.json", adapters)
        return
    results = without_local_paths(read_json(run / "evaluation" / "results.json"))
    write_json(folder / "results.json", results)
    tables = [f"{title}\n\n```\n{results_table(results, seen=seen)}\n```\n" for seen, title in SEEN.items()]
    seconds = ", ".join(f"{name} {cost['seconds']:.0f} s" for name, cost in results["stages"].items())
    (folder / "tables.md").write_text("\n".join([*tables, f"{seconds}; {results['device']}\n"]), encoding="utf-8")


def publish_sections(compare: Path, target: Path, names: tuple[str, ...]) -> None:
    """Write to sections.json what the runs of a comparison report beside metrics.

    Args:
        compare: directory of the comparison.
        target: folder of the published report.
        names: sections of results.json, of the runs that have them.
    """
    found = {path.parents[1].name: read_json(path) for path in compare.glob("runs/*/evaluation/results.json")}
    sections = {
        run: {name: results[name] for name in names if name in results} for run, results in sorted(found.items())
    }
    write_json(target / "sections.json", {run: kept for run, kept in sections.items() if kept})


def adapter_facts(recommender: Path) -> dict[str, Any]:
    """Return what an adapter weighs and what a step of its training took; a step's share of the validations counts."""
    manifest = read_manifest(recommender)
    log = read_json(recommender / "training_log.json")
    end = next(entry for entry in reversed(log) if "train_runtime" in entry)
    return {
        "base": public_name(manifest["base"]["name"]),
        "added_tokens": manifest["base"]["added_tokens"],
        "adapter_bytes": (recommender / "adapter_model.safetensors").stat().st_size,
        "steps": end["step"],
        "training_seconds": round(end["train_runtime"], 1),
        "seconds_per_step": round(end["train_runtime"] / end["step"], 3),
        "tokens_per_step": round(tokens_per_step(log), 1),
        "curve": epoch_curve(log),
    }


def tokens_per_step(log: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean number of tokens of all steps; a logged one is that of the steps since the last log."""
    counted = [entry for entry in log if "tokens_per_step" in entry]
    since = [0, *(entry["step"] for entry in counted)]
    intervals = zip(counted, since[:-1], strict=True)
    tokens = sum((entry["step"] - before) * entry["tokens_per_step"] for entry, before in intervals)
    return tokens / since[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
