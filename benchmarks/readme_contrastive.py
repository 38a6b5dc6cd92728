"""Sections of the docs on contrastive learning of sequences and on HSTU."""

from pathlib import Path

from benchmarks.readme_hybrids import SETS, Report, markdown_lines
from benchmarks.readme_tokenizers import differences
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results" / "contrastive"
BASE = "sasrec"  # the row that all others are compared with
# Recall@10 and NDCG@10 on Beauty: of CoSeRec's paper and of its released checkpoint, seen items excluded
PUBLISHED = {"coserec_published": ".0752 / .0430 in its paper, .0726 / .0410 of its checkpoint"}


def contrastive_section() -> str:
    """Return every row on every data set."""
    parts = []
    for name, title in SETS.items():
        path = RESULTS / name / "compare.json"
        if path.is_file():
            report = read_json(path)
            parts.append(f"**{title}**, {_about(report)}:\n\n{_table(name, report)}")
    return "\n\n".join(parts)


def _about(report: Report) -> str:
    seeds = len(report["seeds"]["quantizer"])
    cases = report["protocol"]["cases"]
    return f"{cases:,} test cases, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _table(data: str, report: Report) -> str:
    """Return both metrics under both settings of seen items, the difference to SASRec and seconds an epoch."""
    claims = differences(report, BASE)
    path = RESULTS / data / "epoch_seconds.json"
    seconds = read_json(path) if path.is_file() else {}
    head = ["", "Recall@10 [95 %]", "NDCG@10 [95 %]", f"NDCG@10 less that of {BASE}", "corrected p"]
    head += ["seen allowed: Recall@10", "NDCG@10", "best epoch", "seconds an epoch"]
    lines = [head, ["---"] * len(head)]
    trained = {name: row for name, row in report["rows"].items() if row["metrics"] and row["family"] == "dense"}
    excluded = {name: row["metrics"]["seen_excluded"] for name, row in trained.items()}
    for name in sorted(trained, key=lambda name: -excluded[name]["ndcg@10"]["value"]):
        allowed = trained[name]["metrics"]["seen_allowed"]
        lines.append(
            [
                name,
                *(numbers.interval(excluded[name][metric]) for metric in ("recall@10", "ndcg@10")),
                *claims.get(name, ("", "")),
                *(numbers.score(allowed[metric]["value"]) for metric in ("recall@10", "ndcg@10")),
                _best_epoch(report, name),
                f"{seconds[name]:.1f}" if name in seconds else "",
            ]
        )
    return markdown_lines(lines)


def _best_epoch(report: Report, name: str) -> str:
    """Return the epoch with the best validation NDCG@10 of the first seed's run."""
    epochs = [event for stage in report["curves"].get(name, {}).values() for event in stage if "ndcg@10" in event]
    return f"{max(epochs, key=lambda event: event['ndcg@10'])['epoch']:.0f}" if epochs else ""
