"""Sections of README and docs on hybrids, COBRA and teachers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.files import read_json
from cost_hf.reporting import numbers, words

RESULTS = Path(__file__).parent / "results"
SETS = {
    "amazon_industrial": "Amazon Industrial",
    "amazon_scientific": "Amazon Scientific",
    "amazon_beauty": "Amazon Beauty 2014",
    "yelp": "Yelp",
    "amazon_games": "Amazon Games 2018",
    "ml-100k": "MovieLens-100K, by time",
}
SEEN = {"seen_allowed": "Seen items allowed", "seen_excluded": "Seen items excluded"}
METRICS = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10"}
COBRA_PUBLISHED = {"recall@5": 0.0537, "recall@10": 0.0725, "ndcg@5": 0.0395, "ndcg@10": 0.0456}  # known second-hand
Report = Mapping[str, Any]


def hybrid_section() -> str:
    """Return hybrids beside the best rows that they combine, on several data sets."""
    about = (
        f"NDCG@10 on items, seen items allowed, {_seeds()}. The best untrained row was chosen on validation; the "
        "paired difference has a 95 % interval over users and seeds:"
    )
    shown = ["data", "best untrained", "fusion", "ranker", "ranker − untrained"]
    return f"{about}\n\n{_hybrid_table('ndcg@10', 'seen_allowed', shown)}"


def _seeds() -> str:
    """Return how many seeds the comparisons have, the most frequent number first."""
    counts = {SETS[name]: len(report["seeds"]["quantizer"]) for name, report in _reports("hybrids")}
    usual = max(counts.values(), key=list(counts.values()).count)
    others = [f"{count} on {data}" for data, count in counts.items() if count != usual]
    return ", ".join([f"{usual} seeds", *others])


def hybrid_sections() -> str:
    """Return the same for both metrics, with seen items and without them, and what a generator adds."""
    parts = []
    for seen, title in SEEN.items():
        for metric, name in METRICS.items():
            parts.append(f"**{title}, {name}**\n\n{_hybrid_table(metric, seen)}")
    return "\n\n".join([*parts, _generator_table()])


def score_sum_section() -> str:
    """Return the score sum of two SASRec models on Beauty beside its parts and other hybrids."""
    report = read_json(RESULTS / "hybrids" / "amazon_beauty" / "compare.json")
    names = ["sasrec_ce", "sasrec_text_beauty", "score_sum_beauty", "fusion", "ranker"]
    return _rows_table(report, names, seen="seen_excluded")


def cobra_section() -> str:
    """Return COBRA beside the same generator without dense vectors, and SASRec on texts."""
    rows = ["cobra", "cobra_no_dense", "cost_industrial", "sasrec_text", "markov_text"]
    parts = []
    for name, report in _reports("cobra"):
        for seen, title in SEEN.items():
            parts.append(f"**{SETS[name]}, {title.lower()}**\n\n{_rows_table(report, rows, seen=seen)}")
        parts.append(_claims_table(report, rows))
    return "\n\n".join([*parts, _cobra_beauty()])


def _cobra_beauty() -> str:
    """Return the run on Beauty beside the figures of the paper."""
    results = read_json(RESULTS / "cobra" / "amazon_beauty" / "results.json")
    lines = [["", *map(words.metric_name, COBRA_PUBLISHED)], ["---"] * (1 + len(COBRA_PUBLISHED))]
    for seen, title in SEEN.items():
        cells = results["rows"][MAIN_ROW]["item"][seen]
        lines.append([f"`cobra_beauty`, {title.lower()}", *(numbers.interval(cells[name]) for name in COBRA_PUBLISHED)])
    lines.append(["published", *map(numbers.score, COBRA_PUBLISHED.values())])
    minutes = sum(stage["seconds"] for stage in results["stages"].values()) / 60
    about = f"one run of recipe `cobra_beauty`, {minutes:.0f} minutes on a shared machine"
    return f"**{SETS['amazon_beauty']}**, {about}:\n\n{markdown_lines(lines)}"


def teacher_section() -> str:
    """Return generators with and without a teacher beside the best untrained row."""
    parts = []
    for data, report in _reports("distillation"):
        trained = [name for name, row in report["rows"].items() if _is_trained_alone(row)]
        rows = [*trained, "markov_text"]
        parts.append(f"**{SETS[data]}, seen items allowed**\n\n{_rows_table(report, rows, seen='seen_allowed')}")
        parts.append(_claims_table(report, rows))
    return "\n\n".join(parts)


def _is_trained_alone(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a trained model and no hybrid of others."""
    return bool(row["metrics"]) and row["family"] != "counting" and "parts" not in row


def _reports(folder: str) -> list[tuple[str, Report]]:
    """Return the comparisons of a folder of results by data set."""
    paths = {name: RESULTS / folder / name / "compare.json" for name in SETS}
    return [(name, read_json(path)) for name, path in paths.items() if path.is_file()]


def _rows_table(report: Report, names: Sequence[str], *, seen: str) -> str:
    """Return both metrics of rows, the best NDCG@10 first."""
    rows = {name: report["rows"][name] for name in names}
    lines = [["", "seeds", *(f"{title} [95 %]" for title in METRICS.values())]]
    lines.append(["---"] * len(lines[0]))
    for name in sorted(rows, key=lambda name: -rows[name]["metrics"][seen]["ndcg@10"]["value"]):
        cells = rows[name]["metrics"][seen]
        seeds = "none" if rows[name]["family"] == "counting" else str(len(rows[name]["seeds"]))
        lines.append([name, seeds, *(numbers.interval(cells[metric]) for metric in METRICS)])
    return markdown_lines(lines)


def _claims_table(report: Report, names: Sequence[str]) -> str:
    """Return the paired differences between these rows that were fixed before the runs."""
    lines = [["NDCG@10, seen items allowed", "paired difference [95 %]", "corrected p"], ["---"] * 3]
    for claim in report["claims"]:
        pair = (claim["a"], claim["b"])
        if set(pair) <= set(names):
            difference = numbers.interval(claim["difference"], signed=True)
            lines.append([" − ".join(pair), difference, numbers.probability(claim["p_holm"])])
    return markdown_lines(lines)


def _hybrid_table(metric: str, seen: str, columns: Sequence[str] | None = None) -> str:
    """Return a line for every data set; all columns by default."""
    rows = []
    for name, report in _reports("hybrids"):
        rows.append({"data": SETS[name], **_hybrid_cells(report, metric, seen)})
    header = list(rows[0]) if columns is None else list(columns)
    return markdown_lines([header, ["---"] * len(header), *([row[column] for column in header] for row in rows)])


def _hybrid_cells(report: Report, metric: str, seen: str) -> dict[str, str]:
    """Return the cells of a data set by column."""
    rows = {name: row for name, row in report["rows"].items() if row["metrics"]}

    def best(families: Sequence[str]) -> str | None:
        own = [name for name, row in rows.items() if row["family"] in families]
        return max(own, key=lambda name: rows[name]["validation"]["ndcg@10"], default=None)

    def value(name: str) -> str:
        return numbers.score(rows[name]["metrics"][seen][metric]["value"])

    def difference(other: str | None) -> str:
        if other is None:
            return ""
        return numbers.interval(report["hybrid_differences"][f"ranker-{other}"][seen][metric], signed=True)

    untrained = best(["counting"])
    trained = best(["dense", "generative"])
    return {
        "test cases": f"{report['protocol']['cases']:,}",
        "best untrained": "" if untrained is None else f"{untrained} {value(untrained)}",
        "best trained part": "" if trained is None else f"{trained} {value(trained)}",
        "fusion": value("fusion"),
        "ranker": value("ranker"),
        "ranker − untrained": difference(untrained),
        "ranker − trained": difference(trained),
    }


def _generator_table() -> str:
    """Return what the generator adds to the hybrids that have it among their parts."""
    lines = [["data", "hybrid", "NDCG@10 with the generator less without"], ["---"] * 3]
    for name, report in _reports("hybrids"):
        for hybrid in ("fusion", "ranker"):
            cells = report["hybrid_differences"].get(f"{hybrid}_generative-{hybrid}")
            if cells is not None:
                difference = numbers.interval(cells["seen_allowed"]["ndcg@10"], signed=True)
                lines.append([SETS[name], hybrid, difference])
    return f"**What the generator adds to a hybrid, seen items allowed**\n\n{markdown_lines(lines)}"


def markdown_lines(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
