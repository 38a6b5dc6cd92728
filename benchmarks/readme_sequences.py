"""Section of the docs on models of sequences: contrastive ones and HSTU."""

from pathlib import Path

from benchmarks.readme_hybrids import SETS, Report, markdown_lines
from benchmarks.readme_tokenizers import differences
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results" / "contrastive"
BASE = "sasrec"  # the row that all others are compared with
SEEN = "seen_excluded"  # as the papers measure
# Recall@10 and NDCG@10 on Amazon Beauty 2014, seen items excluded
PUBLISHED_CONTRASTIVE = {
    "CoSeRec, its paper": (0.0752, 0.0430),
    "CoSeRec, its released checkpoint measured independently": (0.0726, 0.0410),
    "HSTU, of a benchmark's rows for this protocol": (0.0948, 0.0541),
}


def contrastive_section() -> str:
    """Return CoSeRec, CaDiRec and HSTU beside SASRec, as tuned and as published, on every data set."""
    paths = {name: RESULTS / name / "compare.json" for name in SETS}
    parts = [_table(name, read_json(path)) for name, path in paths.items() if path.is_file()]
    lines = [["published, Amazon Beauty 2014", "Recall@10", "NDCG@10"], ["---"] * 3]
    lines += [[name, *map(numbers.score, values)] for name, values in PUBLISHED_CONTRASTIVE.items()]
    return "\n\n".join([*parts, markdown_lines(lines)])


def _table(data: str, report: Report) -> str:
    """Return all rows of a comparison, the best first; seconds an epoch where they were measured."""
    claims = differences(report, BASE)
    rows = {name: row["metrics"][SEEN] for name, row in report["rows"].items() if row["metrics"]}
    timed = RESULTS / data / "epoch_seconds.json"
    seconds = read_json(timed) if timed.is_file() else {}
    head = ["", "Recall@10 [95 %]", "NDCG@10 [95 %]", f"NDCG@10 less that of {BASE}", "corrected p", "best epoch"]
    head += ["seconds an epoch"] if seconds else []
    lines = [head, ["---"] * len(head)]
    for name in sorted(rows, key=lambda name: -rows[name]["ndcg@10"]["value"]):
        intervals = [numbers.interval(rows[name][metric]) for metric in ("recall@10", "ndcg@10")]
        line = [name, *intervals, *claims.get(name, ("", "")), _best_epoch(report, name)]
        if seconds:
            line.append(f"{seconds[name]:.1f}" if name in seconds else "")
        lines.append(line)
    count = len(report["seeds"]["quantizer"])
    about = f"{report['protocol']['cases']:,} test cases, {count} {'seed' if count == 1 else 'seeds'}"
    return f"**{SETS[data]}**, {about}, seen items excluded:\n\n{markdown_lines(lines)}"


def _best_epoch(report: Report, name: str) -> str:
    """Return the epoch with the best validation NDCG@10 of the first seed's run."""
    events = [event for stage in report["curves"].get(name, {}).values() for event in stage if "ndcg@10" in event]
    return f"{max(events, key=lambda event: event['ndcg@10'])['epoch']:.0f}" if events else ""
