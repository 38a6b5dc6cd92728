"""Merge runs of `t5_study.py` into one results file and put its table, means over seeds, into README.md.

    python benchmarks/t5_table.py RUN.json … --name t5_study

Writes `results/<name>.json`: every row with its intervals over users and its learning curve.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from t5_variants import CPU_VARIANTS, VARIANTS
from timing import RESULTS, put_into_readme, table

SETTINGS = ("machine", "steps", "minutes", "jobs", "validations", "validation_users", "test_users")


def main() -> None:
    """Write the results file and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="files that t5_study.py wrote")
    parser.add_argument("--name", required=True, help="t5_study or t5_equal_cpu")
    arguments = parser.parse_args()
    record = merged([json.loads(path.read_text()) for path in arguments.runs])
    (RESULTS.parent / f"{arguments.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    rows = summary(record["rows"])
    print(table(rows))
    put_into_readme(arguments.name, {"machine": record["runs"][0]["machine"], "rows": rows})


def merged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return settings and rows of all runs, each row with the number of its run, and the reasons of all variants."""
    rows = [{"run": number, **rounded(row)} for number, run in enumerate(runs, 1) for row in run["rows"]]
    reasons = {row["variant"]: (VARIANTS | CPU_VARIANTS)[row["variant"]].why for row in rows}
    return {"runs": [{key: run[key] for key in SETTINGS if key in run} for run in runs], "why": reasons, "rows": rows}


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row, its curve included, with NDCG to five places."""
    values = {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
    return values | ({"curve": [rounded(point) for point in row["curve"]]} if "curve" in row else {})


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a run and variant with means over seeds, the best validation first within a run."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["run"], row["variant"]), []).append(row)
    lines = [summary_row(run, variant, group) for (run, variant), group in groups.items()]
    return sorted(lines, key=lambda line: (line["run"], -float(line["validation ndcg@10"].split()[0])))


def summary_row(run: int, variant: str, group: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of a variant's seeds; validation with its least and largest value."""
    line: dict[str, Any] = {"run": run, "variant": variant, "seeds": len(group), "millions": group[0]["millions"]}
    for name in ("steps", "epochs", "seconds"):
        line[name] = round(mean([row[name] for row in group]), 1 if name == "epochs" else None)
    values = [row["validation ndcg@10"] for row in group]
    spread = f" ({min(values):.4f}–{max(values):.4f})" if len(group) > 1 else ""
    line["validation ndcg@10"] = f"{mean(values):.4f}{spread}"
    for name in [key for key in group[0] if key.startswith("test ") or " less " in key]:
        if all(name in row for row in group):  # a seed may lack the reference
            line[name] = f"{mean([float(row[name].split()[0]) for row in group]):.4f}"
    return line


def mean(values: list[float]) -> float:
    """Return the mean of a few numbers."""
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
