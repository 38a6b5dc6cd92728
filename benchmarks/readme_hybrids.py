"""Sections of README and docs on hybrids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.files import read_json
from cost_hf.reporting import numbers

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
Report = Mapping[str, Any]


def hybrid_section() -> str:
    """Return hybrids beside the best rows that they combine, on several data sets."""
    about = (
        "NDCG@10 on items, seen items allowed, three seeds. The best row of each sort was chosen on validation; "
        "differences are paired, with 95 % intervals over users and seeds:"
    )
    return f"{about}\n\n{_hybrid_table('ndcg@10', 'seen_allowed')}"


def hybrid_sections() -> str:
    """Return the same for both metrics, with seen items and without them, and what a generator adds."""
    parts = []
    for seen, title in SEEN.items():
        for metric, name in METRICS.items():
            parts.append(f"**{title}, {name}**\n\n{_hybrid_table(metric, seen)}")
    return "\n\n".join([*parts, _generator_table()])


def _hybrid_table(metric: str, seen: str) -> str:
    header = ["data", "test cases", "best untrained", "best trained part", "fusion", "ranker"]
    header += ["ranker − untrained", "ranker − trained"]
    lines = [header, ["---"] * len(header)]
    for name, title in SETS.items():
        path = RESULTS / "hybrids" / name / "compare.json"
        if path.is_file():
            lines.append([title, *_hybrid_line(read_json(path), metric, seen)])
    return _markdown(lines)


def _hybrid_line(report: Report, metric: str, seen: str) -> list[str]:
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

    untrained, trained = best(["counting"]), best(["dense", "generative"])
    return [
        f"{report['protocol']['cases']:,}",
        *("" if name is None else f"{name} {value(name)}" for name in (untrained, trained)),
        value("fusion"),
        value("ranker"),
        difference(untrained),
        difference(trained),
    ]


def _generator_table() -> str:
    """Return what the generator adds to the hybrids that have it among their parts."""
    lines = [["data", "hybrid", "NDCG@10 with the generator less without"], ["---"] * 3]
    for name, title in SETS.items():
        path = RESULTS / "hybrids" / name / "compare.json"
        found = read_json(path)["hybrid_differences"] if path.is_file() else {}
        for hybrid in ("fusion", "ranker"):
            cells = found.get(f"{hybrid}_generative-{hybrid}")
            if cells is not None:
                difference = numbers.interval(cells["seen_allowed"]["ndcg@10"], signed=True)
                lines.append([title, hybrid, difference])
    return f"**What the generator adds to a hybrid, seen items allowed**\n\n{_markdown(lines)}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
