"""Sections of the docs on models of click histories: contrastive ones, HSTU, ACERec and its token merger, GLASS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.readme_hybrids import SETS, Report, markdown_lines
from benchmarks.readme_tokenizers import differences
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.experiments.compare.evidence import OPPOSITE
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results"
GLASS_SETS = {
    "toy": "Toy news, readers of 300 to 1,000 clicks who return to old interests",
    "movielens": SETS["ml-100k"],
}
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
    """Return CoSeRec, CaDiRec and HSTU beside SASRec, as tuned, on every data set."""
    return "\n\n".join(_tables("contrastive", base="sasrec", seen="seen_excluded", without="_published"))


def contrastive_published_section() -> str:
    """Return the same models with the body and the training of their papers, beside published figures."""
    tables = _tables("contrastive/published", base="sasrec", seen="seen_excluded")
    return "\n\n".join([*tables, _published(PUBLISHED_CONTRASTIVE)])


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
    """Return ACERec beside SASRec and a generator, one run on Beauty, and published figures."""
    tables = _tables("acerec", base="acerec", seen="seen_allowed")
    return "\n\n".join([*tables, _acerec_beauty(), _published(PUBLISHED_ACEREC)])


def _acerec_beauty() -> str:
    """Return the run of ACERec on Beauty, with seen items and without them."""
    results = read_json(RESULTS / "acerec" / "amazon_beauty" / "results.json")
    lines = [["", "Recall@10 [95 %]", "NDCG@10 [95 %]"], ["---"] * 3]
    for seen, title in SEEN.items():
        cells = results["rows"][MAIN_ROW]["item"][seen]
        lines.append([f"acerec, {title}", *(numbers.interval(cells[name]) for name in ("recall@10", "ndcg@10"))])
    minutes = sum(stage["seconds"] for stage in results["stages"].values()) / 60
    about = (
        f"{results['protocol']['cases']:,} test cases, one run with the sizes of `acerec_industrial`, {minutes:.0f} "
        "minutes of one shared core"
    )
    return f"**{SETS['amazon_beauty']}**, {about}:\n\n{markdown_lines(lines)}"


def acerec_ablations_section() -> str:
    """Return ACERec beside itself without each of its parts."""
    return "\n\n".join(_tables("acerec/ablations", base="acerec", seen="seen_allowed"))


def token_merger_section() -> str:
    """Return a T5 that reads merged codes beside one that reads all of them, with what both cost."""
    report = read_json(RESULTS / "token_merger" / "compare.json")
    return titled_table(SETS["amazon_industrial"], report, base="merged_2", seen="seen_allowed", costs=True)


def glass_section() -> str:
    """Return GLASS beside the same T5 without long histories and a causal generator, with ranks and gates inside."""
    parts = []
    for name, title in GLASS_SETS.items():
        folder = RESULTS / "glass" / name
        if (folder / "compare.json").is_file():
            report = read_json(folder / "compare.json")
            sections = read_json(folder / "sections.json")
            parts.append(titled_table(title, report, base="glass", seen="seen_allowed", costs=True))
            if name == "movielens":  # nobody clicks twice on an item
                parts.append(titled_table(title, report, base="glass", seen="seen_excluded"))
            parts.append(_prefixes_table(sections))
            parts.append(_gates_table(sections))
    return "\n\n".join(parts)


def _prefixes_table(sections: Mapping[str, Any]) -> str:
    """Return, for every run and level, how many true prefixes the beam keeps and how their rank changes."""
    lines = [["run", "level", "cases", "kept in the beam", "mean rank", "change of the rank"], ["---"] * 6]
    for run, found in sections.items():
        for level, row in enumerate(found["long_history"]["prefixes"], start=1):
            kept, rank, change = (
                numbers.DASH if row[name] is None else f"{row[name]:+.2f}" if name == "change" else f"{row[name]:.2f}"
                for name in ("kept", "rank", "change")
            )
            lines.append([run.rpartition("-")[0], str(level), f"{row['cases']:,}", kept, rank, change])
    return markdown_lines(lines)


def _gates_table(sections: Mapping[str, Any]) -> str:
    """Return the mean gate of every run by the number of items behind the true first code."""
    lines = [["run", "items retrieved, at least", "cases", "mean gate"], ["---"] * 4]
    for run, found in sections.items():
        for row in found["long_history"].get("gates", ()):
            lines.append([run.rpartition("-")[0], str(row["retrieved"]), f"{row['cases']:,}", f"{row['gate']:.3f}"])
    return markdown_lines(lines)


def _tables(group: str, *, base: str, seen: str, without: str | None = None) -> list[str]:
    """Return a table of every data set that has a report in a folder of results.

    Args:
        group: the folder.
        base: row that all others are compared with.
        seen: a key of `SEEN`.
        without: end of the names of rows that are left out; None for no row.
    """
    paths = {name: RESULTS / group / name / "compare.json" for name in SETS}
    found = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    if without is not None:
        for report in found.values():
            report["rows"] = {name: row for name, row in report["rows"].items() if not name.endswith(without)}
    return [titled_table(SETS[name], report, base=base, seen=seen) for name, report in found.items()]


def titled_table(title: str, report: Report, *, base: str, seen: str, costs: bool = False) -> str:
    """Return all rows of a comparison under the name of its data and its protocol.

    Args:
        title: name of the data.
        report: of the comparison.
        base: row that all others are compared with.
        seen: whether seen items are ranked, a key of `SEEN`. Differences are shown where the claims are of it.
        costs: also show the minutes of training and the largest resident memory.
    """
    return f"**{title}**, {_about(report)}, {SEEN[seen]}:\n\n{_table(report, base, seen, costs)}"


def _table(report: Report, base: str, seen: str, costs: bool) -> str:
    """Return all rows of a comparison, the best first."""
    tested = {**report, "claims": [claim for claim in report["claims"] if claim["seen"] == seen]}
    claims = differences(tested, base)
    verdicts = _verdicts(tested, base)
    rows = {name: row["metrics"][seen] for name, row in report["rows"].items() if row["metrics"]}
    head = ["", "Recall@10 [95 %]", "NDCG@10 [95 %]"]
    head += [f"NDCG@10 less that of {base}", "corrected p", "verdict"] if verdicts else []
    head += ["best epoch", *(["minutes of training", "memory"] if costs else [])]
    lines = [head, ["---"] * len(head)]
    for name in sorted(rows, key=lambda name: -rows[name]["ndcg@10"]["value"]):
        intervals = [numbers.interval(rows[name][metric]) for metric in ("recall@10", "ndcg@10")]
        claim = [*claims.get(name, ("", "")), verdicts.get(name, "")] if verdicts else []
        lines.append([name, *intervals, *claim, _best_epoch(report, name), *(_costs(report, name) if costs else [])])
    return markdown_lines(lines)


def _costs(report: Report, name: str) -> list[str]:
    """Return the minutes of a row's training, mean over seeds, and the largest resident memory of its runs."""
    cost = report["rows"][name]["cost"]
    minutes, peak = cost.get("training_minutes"), cost.get("peak_mb")
    return ["" if minutes is None else f"{minutes:.1f}", "" if peak is None else numbers.memory(peak)]


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
