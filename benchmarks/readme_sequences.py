"""Sections of the docs on models that read histories item by item: contrastive ones, HSTU, ACERec and GLASS."""

from pathlib import Path

from benchmarks.readme_hybrids import SETS, Report, markdown_lines
from benchmarks.readme_tokenizers import differences
from cost_hf.experiments.compare.evidence import OPPOSITE
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results"
SEEN = {"seen_allowed": "seen items allowed", "seen_excluded": "seen items excluded"}
# Recall@10 and NDCG@10, on Amazon Beauty 2014 where no other set is named, seen items excluded
PUBLISHED_CONTRASTIVE = {
    "CoSeRec, its paper": (0.0752, 0.0430),
    "CoSeRec, its released checkpoint measured independently": (0.0726, 0.0410),
    "HSTU, a benchmark's row for this protocol": (0.0948, 0.0541),
    "BSARec with full softmax, likewise": (0.1004, 0.0609),
    "sum of the scores of models on ids and on texts, likewise": (0.0980, 0.0565),
    "CoSeRec on Amazon Toys, quoted by others": (0.0755, 0.0442),
    "CoSeRec on Amazon Sports, quoted by others": (0.0439, 0.0244),
}
PUBLISHED_ACEREC = {
    "ACERec, its paper, Amazon Beauty": (0.0856, 0.0513),
    "ACERec, its paper, Amazon Toys": (0.0940, 0.0591),
}


def contrastive_section() -> str:
    """Return CoSeRec, CaDiRec and HSTU beside SASRec, as tuned and as published, on every data set."""
    return "\n\n".join(
        [*_tables("contrastive", base="sasrec", seen="seen_excluded"), _published(PUBLISHED_CONTRASTIVE)]
    )


def ddim_section() -> str:
    """Return CaDiRec with one step of its diffusion beside the reverse process."""
    return "\n\n".join(_tables("contrastive/ddim", base="cadirec", seen="seen_excluded"))


def epoch_seconds_section() -> str:
    """Return the seconds of an epoch of every row beside SASRec's."""
    found = {
        SETS[path.parent.name]: read_json(path)
        for path in sorted((RESULTS / "contrastive").glob("*/epoch_seconds.json"))
    }
    lines = [["", *found], ["---"] * (len(found) + 1)]
    for name in dict.fromkeys(row for seconds in found.values() for row in seconds):
        cells = [
            f"{seconds[name]:.1f} s ({seconds[name] / seconds['sasrec']:.2f}x)" if name in seconds else ""
            for seconds in found.values()
        ]
        lines.append([name, *cells])
    return markdown_lines(lines)


def sid_augmentation_section() -> str:
    """Return augmentation by semantic IDs: on validation, which judges it, and on test."""
    report = read_json(RESULTS / "sid_augmentation" / "compare.json")
    rows = {name: row for name, row in report["rows"].items() if row["metrics"] and row["validation"]}
    lines = [["", "validation NDCG@10", "test NDCG@10 [95 %]", "test Recall@10 [95 %]"], ["---"] * 4]
    for name, row in rows.items():
        test = row["metrics"]["seen_allowed"]
        intervals = [numbers.interval(test[metric]) for metric in ("ndcg@10", "recall@10")]
        lines.append([name, numbers.score(row["validation"]["ndcg@10"]), *intervals])
    return f"**{SETS['amazon_industrial']}**, {_about(report)}, seen items allowed:\n\n{markdown_lines(lines)}"


def acerec_section() -> str:
    """Return ACERec beside SASRec and a generator, and its ablations, on every data set."""
    tables = [*_tables("acerec", base="acerec", seen="seen_allowed")]
    ablations = _tables("acerec/ablations", base="acerec", seen="seen_allowed")
    return "\n\n".join([*tables, *ablations, _published(PUBLISHED_ACEREC)])


def _tables(group: str, *, base: str, seen: str) -> list[str]:
    """Return a table of every data set that has a report in a folder of results."""
    paths = {name: RESULTS / group / name / "compare.json" for name in SETS}
    found = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    return [
        f"**{SETS[name]}**, {_about(report)}, {SEEN[seen]}:\n\n{_table(report, base, seen)}"
        for name, report in found.items()
    ]


def _table(report: Report, base: str, seen: str) -> str:
    """Return all rows of a comparison, the best first."""
    claims = differences(report, base)
    verdicts = _verdicts(report, base)
    rows = {name: row["metrics"][seen] for name, row in report["rows"].items() if row["metrics"]}
    head = ["", "Recall@10 [95 %]", "NDCG@10 [95 %]", f"NDCG@10 less that of {base}", "corrected p", "verdict"]
    lines = [[*head, "best epoch"], ["---"] * (len(head) + 1)]
    for name in sorted(rows, key=lambda name: -rows[name]["ndcg@10"]["value"]):
        intervals = [numbers.interval(rows[name][metric]) for metric in ("recall@10", "ndcg@10")]
        claim = [*claims.get(name, ("", "")), verdicts.get(name, "")]
        lines.append([name, *intervals, *claim, _best_epoch(report, name)])
    return markdown_lines(lines)


def _verdicts(report: Report, base: str) -> dict[str, str]:
    """Return the verdicts of a report on the rows that it compares with a base row, by row."""
    found = {}
    for claim in report["claims"]:
        if claim["b"] == base:
            found[claim["a"]] = claim["verdict"]
        elif claim["a"] == base:
            found[claim["b"]] = OPPOSITE.get(claim["verdict"], claim["verdict"])
    return found


def _about(report: Report) -> str:
    """Return the test cases and the seeds of a comparison."""
    count = len(report["seeds"]["quantizer"])
    return f"{report['protocol']['cases']:,} test cases, {count} {'seed' if count == 1 else 'seeds'}"


def _published(figures: dict[str, tuple[float, float]]) -> str:
    lines = [["published", "Recall@10", "NDCG@10"], ["---"] * 3]
    return markdown_lines(lines + [[name, *map(numbers.score, values)] for name, values in figures.items()])


def _best_epoch(report: Report, name: str) -> str:
    """Return the epoch with the best validation NDCG@10 of the first seed's run."""
    events = [event for stage in report["curves"].get(name, {}).values() for event in stage if "ndcg@10" in event]
    return f"{max(events, key=lambda event: event['ndcg@10'])['epoch']:.0f}" if events else ""
