"""Sections of the docs on kinds of codes: comparisons, collision policies, published identifiers and FAMAE."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from scipy.stats import kendalltau

from benchmarks.readme_hybrids import SETS, Report, markdown_lines
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results"
BASE = "cost"  # the row that all others are compared with
MANY = 10  # ratios from which on decimals say nothing
# Recall@10 on items and on SIDs of a T5 after 200 epochs, as CollisionGenRec publishes them
PUBLISHED = {
    "rkmeans_native": 0.0654,
    "rqvae_native": 0.0665,
    "letter_native": 0.0767,
    "quasid_native": 0.0749,
    "rkmeans_zcr": 0.0812,
    "rqvae_zcr": 0.0800,
    "letter_zcr": 0.0791,
    "quasid_zcr": 0.0789,
}


def tokenizer_section() -> str:
    """Return every kind of codes on every data set: accuracy, difference to CoST, the codes themselves, times."""
    parts = []
    for name, report in _reports("tokenizers"):
        parts.append(f"**{SETS[name]}**, {_about(report)}:\n\n{_accuracy_table(report)}")
        parts.append(_codes_table(report))
        parts.append(_times_table(read_json(RESULTS / "tokenizers" / name / "times.json")))
    return "\n\n".join(parts)


def coclick_section() -> str:
    """Return CoST beside CoST whose positives are co-clicked items, from reports with three seeds."""
    lines = [["data", "seeds", "", "NDCG@10 [95 %]", "Recall@10 [95 %]", f"NDCG@10 less that of {BASE}"]]
    lines.append(["---"] * len(lines[0]))
    for group, data in (("tokenizers", "amazon_industrial"), ("coclick", "amazon_scientific")):
        report = read_json(RESULTS / group / data / "compare.json")
        claims = differences(report, BASE)
        for name in (BASE, "cost_coclick"):
            cells = report["rows"][name]["metrics"]["seen_allowed"]
            intervals = [numbers.interval(cells[metric]) for metric in ("ndcg@10", "recall@10")]
            seeds = str(len(report["seeds"]["quantizer"]))
            lines.append([SETS[data], seeds, name, *intervals, claims.get(name, ("",))[0]])
    return markdown_lines(lines)


def policy_section() -> str:
    """Return kinds of codes under every collision policy."""
    parts = []
    for name, report in _reports("collision_policies"):
        parts.append(f"**{SETS[name]}**, {_about(report)}:\n\n{_policy_table(report)}")
    return "\n\n".join(parts)


def published_ids_section() -> str:
    """Return published identifiers under one generator, beside the published figures of another one."""
    report = read_json(RESULTS / "published_ids" / "compare.json")
    lines = [["identifiers", "Recall@10 [95 %]", "on SIDs", "NDCG@10 [95 %]", "seen excluded, Recall@10", "published"]]
    lines.append(["---"] * len(lines[0]))
    rows = {name: row for name, row in report["rows"].items() if "sid" in row and row["sid"] and name != "fusion"}
    ours = {name: row["metrics"]["seen_allowed"]["recall@10"]["value"] for name, row in rows.items()}
    for name in sorted(rows, key=lambda name: -ours[name]):
        cells = rows[name]["metrics"]["seen_allowed"]
        lines.append(
            [
                name,
                numbers.interval(cells["recall@10"]),
                numbers.score(rows[name]["sid"]["seen_allowed"]["recall@10"]["value"]),
                numbers.interval(cells["ndcg@10"]),
                numbers.score(rows[name]["metrics"]["seen_excluded"]["recall@10"]["value"]),
                numbers.score(PUBLISHED.get(name)),
            ]
        )
    return f"{_about(report).capitalize()}:\n\n{markdown_lines(lines)}\n\n{_order(ours)}"


def published_t5_section() -> str:
    """Return the validation curve and the test metrics of a T5 of the published size on published identifiers."""
    found = read_json(RESULTS / "published_ids" / "t5.json")
    lines = [["epoch", "validation Recall@10", "validation NDCG@10"], ["---"] * 3]
    for event in found["validation"]:
        if "recall@10" in event:
            scores = [numbers.score(event[metric]) for metric in ("recall@10", "ndcg@10")]
            lines.append([f"{event['epoch']:.0f}", *scores])
    cells = found["rows"][MAIN_ROW]["item"]
    rows = [["test", "Recall@10 [95 %]", "NDCG@10 [95 %]"], ["---"] * 3]
    for seen in cells:
        intervals = [numbers.interval(cells[seen][metric]) for metric in ("recall@10", "ndcg@10")]
        rows.append([seen.replace("_", " items "), *intervals])
    rows.append(["published, after 200 epochs", numbers.score(found["published"]["recall@10"]), ""])
    reached = f"epoch {found['epochs']} of {found['planned_epochs']}"
    about = f"T5 on `{found['identifiers']}`, {reached}, {found['cases']:,} test cases:"
    return "\n\n".join([about, markdown_lines(rows), markdown_lines(lines)])


def famae_section() -> str:
    """Return FAMAE's own metrics beside the recall that its vectors lead to."""
    found = read_json(RESULTS / "famae_settings.json")
    lines = [["FAMAE", "epochs", "metric 1", "metric 2", "Recall@10", "NDCG@10"], ["---"] * 6]
    for row in found["rows"]:
        values = [numbers.score(row[name]) for name in ("metric 1", "metric 2", "recall@10", "ndcg@10")]
        lines.append([row["setting"], f"{row['epochs']:.0f}", *values])
    spearman = ", ".join(f"{value:+.2f} for {label}" for label, value in found["spearman"].items())
    about = f"{SETS[found['data']]}, {found['rows'][0]['cases']:,} test cases, one seed"
    outcome = f"Rank correlation (Spearman) with Recall@10 over the settings: {spearman}."
    return "\n\n".join([f"{about}:", markdown_lines(lines), outcome])


def _order(ours: Mapping[str, float]) -> str:
    """Return how well our order of identifiers agrees with the published one."""
    parts = []
    for kind in ("native", "zcr"):
        names = [name for name in PUBLISHED if name.endswith(kind) and name in ours]
        if len(names) > 1:
            tau = kendalltau([PUBLISHED[name] for name in names], [ours[name] for name in names]).statistic
            parts.append(f"{tau:+.2f} among the {len(names)} of kind {kind}")
    both = [name for name in PUBLISHED if name in ours]
    tau = kendalltau([PUBLISHED[name] for name in both], [ours[name] for name in both]).statistic
    parts.append(f"{tau:+.2f} among all {len(both)}")
    return f"Rank correlation (Kendall's tau) of our Recall@10 with the published one: {', '.join(parts)}."


def _about(report: Report) -> str:
    """Return how a comparison was made."""
    seeds = len(report["seeds"]["quantizer"])
    epochs = max(curves["generator"][-1]["epoch"] for curves in report["curves"].values() if "generator" in curves)
    cases = report["protocol"]["cases"]
    return f"{cases:,} test cases, {epochs:.0f} epochs, {seeds} {'seed' if seeds == 1 else 'seeds'}, hits on items"


def _accuracy_table(report: Report) -> str:
    """Return both metrics of the rows with codes and the paired difference to the base row, the best first."""
    claims = differences(report, BASE)
    lines = [["", "NDCG@10 [95 %]", "Recall@10 [95 %]", f"NDCG@10 less that of {BASE}", "corrected p"]]
    lines.append(["---"] * len(lines[0]))
    rows = {name: row for name, row in report["rows"].items() if row["metrics"] and name in report["codes"]}
    cells = {name: row["metrics"]["seen_allowed"] for name, row in rows.items()}
    for name in sorted(rows, key=lambda name: -cells[name]["ndcg@10"]["value"]):
        intervals = [numbers.interval(cells[name][metric]) for metric in ("ndcg@10", "recall@10")]
        lines.append([name, *intervals, *claims.get(name, ("", ""))])
    return markdown_lines(lines)


def differences(report: Report, base: str) -> dict[str, tuple[str, str]]:
    """Return what a report claims about the rows that it compares with a base row, by row.

    Returns:
        The row's primary metric less that of the base row, with its interval, and the corrected p.
    """
    found = {}
    for claim in report["claims"]:
        if base not in (claim["a"], claim["b"]):
            continue
        own = claim["difference"]
        if claim["a"] == base:
            own = {"value": -own["value"], "low": -own["high"], "high": -own["low"]}
        other = claim["b"] if claim["a"] == base else claim["a"]
        found[other] = (numbers.interval(own, signed=True), numbers.probability(claim["p_holm"]))
    return found


def _policy_table(report: Report) -> str:
    """Return a line for every kind of codes and a column for every policy."""
    rows = {name: row["metrics"]["seen_allowed"] for name, row in report["rows"].items() if row["metrics"]}
    pairs = [tuple(name.rsplit("_", 2 if name.endswith("min_cost") else 1)) for name in rows if name in report["codes"]]
    kinds = list(dict.fromkeys(pair[0] for pair in pairs))
    policies = list(dict.fromkeys("_".join(pair[1:]) for pair in pairs))
    lines = [["NDCG@10 / Recall@10", *policies], ["---"] * (1 + len(policies))]
    for name, averaged in [*((kind, [kind]) for kind in kinds), ("mean", kinds)]:
        cells = []
        for policy in policies:
            found = [rows[f"{kind}_{policy}"] for kind in averaged]
            means = [fmean(own[metric]["value"] for own in found) for metric in ("ndcg@10", "recall@10")]
            cells.append(" / ".join(map(numbers.score, means)))
        lines.append([name, *cells])
    return markdown_lines(lines)


def _codes_table(report: Report) -> str:
    """Return perplexity, collisions, neighbours and co-clicks of the codes of every row."""
    lines = [["codes", "sizes", "perplexity", "unique share", "neighbours kept", "co-click affinity, first code"]]
    lines.append(["---"] * len(lines[0]))
    for name, codes in report["codes"].items():
        levels = codes["levels"]
        lines.append(
            [
                name,
                numbers.level_sizes([level["num_codes"] for level in levels]),
                " / ".join(f"{level['perplexity']:.0f}" for level in levels),
                numbers.percent(codes["unique_share"], digits=0),
                numbers.score(codes["knn_overlap_prefix"]),
                f"{codes['quality']['co_click_affinity'][0]:.1f}",
            ]
        )
    return markdown_lines(lines)


def _times_table(times: Mapping[str, Mapping[str, float]]) -> str:
    """Return seconds from item texts to identifiers, the fastest first, and the ratio to those of LETTER."""
    totals = {name: sum(stages.values()) for name, stages in times.items()}
    has_letter = "letter" in totals
    head = ["tokenizer", "item vectors", "collaborative vectors", "codes", "seconds in all"]
    head += ["times faster than letter"] if has_letter else []
    lines = [head, ["---"] * len(head)]
    for name in sorted(totals, key=lambda name: totals[name]):
        stages = [times[name].get(stage) for stage in ("vectors", "collaborative", "quantizer")]
        cells = ["" if seconds is None else f"{seconds:.1f}" for seconds in (*stages, totals[name])]
        if has_letter:
            ratio = totals["letter"] / totals[name]
            cells.append(f"{ratio:,.0f}" if ratio >= MANY else f"{ratio:.1f}")
        lines.append([name, *cells])
    return markdown_lines(lines)


def _reports(folder: str) -> Sequence[tuple[str, Report]]:
    """Return the comparisons of a folder of results by data set."""
    paths = {name: RESULTS / folder / name / "compare.json" for name in SETS}
    return [(name, read_json(path)) for name, path in paths.items() if path.is_file()]
