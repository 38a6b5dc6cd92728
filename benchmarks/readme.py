"""Write the results that README and docs quote into them, from the committed results files; a test compares them.

python benchmarks/readme.py
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.embedding_init import table
from cost_hf.files import read_json
from cost_hf.hub.cards import markdown_table, verdict
from cost_hf.reporting import numbers

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Write every section."""
    for name, sections in SECTIONS.items():
        path = ROOT / name
        path.write_text(with_results(path.read_text(encoding="utf-8"), sections), encoding="utf-8")


def with_results(text: str, sections: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its results sections made anew."""
    for name, write in sections.items():
        section = write()
        block = f"<!-- {name} -->\n{section}\n<!-- end -->"
        text, found = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"there is no place for {name}; write <!-- {name} --> and <!-- end --> there")
    return text


def readme_section() -> str:
    """Return one run on real data beside all of its baselines, without differences."""
    real = read_json(RESULTS / "cost_industrial" / "results.json")
    lines = [line.rsplit(" | ", 1)[0] + " |" for line in markdown_table(real).splitlines()]
    return "\n\n".join(
        [
            f"Amazon Industrial and Scientific, recipe `cost_industrial`, {_about(real)}:",
            "\n".join(lines),
            verdict(real),
        ]
    )


def results_section() -> str:
    """Return one run on real data and the quick start's, each beside all of its baselines."""
    real = read_json(RESULTS / "cost_industrial" / "results.json")
    toy = read_json(RESULTS / "cost_quickstart" / "results.json")
    return "\n\n".join(
        [
            "## Amazon Industrial and Scientific",
            f"Recipe `cost_industrial`, {_about(real)}:",
            markdown_table(real),
            verdict(real),
            "## Quick start",
            f"Toy data made by this package, {_about(toy)}; the row `oracle` knows the rule that generated the clicks:",
            markdown_table(toy),
            verdict(toy),
        ]
    )


def _about(results: Mapping[str, Any]) -> str:
    protocol = results["protocol"]
    split = protocol["split"].replace("_", "-")
    return f"seed {results['seed']}, {split}, {protocol['cases']} test cases, hits on items, seen items allowed"


def cold_section() -> str:
    """Return how items that no part of the training saw are found once they are added."""
    found = read_json(RESULTS / "cold_items.json")
    columns = {
        ("held_back", "recall@10"): "added items, R@10",
        ("held_back", "recall@50"): "added items, R@50",
        ("others", "recall@10"): "all others, R@10",
        ("all", "recall@10"): "all, R@10",
    }
    lines = [["", *columns.values()], ["---"] * (len(columns) + 1)]
    for name, cells in found["rows"].items():
        lines.append([name, *(numbers.interval(cells[group][metric]) for group, metric in columns)])
    seconds, cases = ", ".join(f"{value:.1f}" for value in found["add_seconds"]), found["cases"]
    about = (
        f"Measured on {found['data']}, recipe `{found['recipe']}`: {numbers.percent(found['share'], digits=0)} of the "
        f"items ({found['held_back_items'][0]} of {found['items']:,}) were held out with all their clicks from "
        f"everything that is fitted, then added by their texts (in {seconds} s, loading the text encoder included). "
        f"{len(found['seeds'])} seeds, {cases['held_back']} test clicks on added items and {cases['others']:,} on "
        "others, seen items allowed, 95 % intervals over users:"
    )
    return "\n\n".join(
        [about, "\n".join("| " + " | ".join(line) + " |" for line in lines), _cold_outcome(found["rows"])]
    )


def _cold_outcome(rows: Mapping[str, Any]) -> str:
    """Return which rows find added items as SASRec on texts does, and others as the generator does."""
    added = rows["sasrec_text, cold_share 0"]["held_back"]["recall@10"]["value"]
    others = rows["generative, cold_share 0"]["others"]["recall@10"]["value"]
    reached: dict[str, list[str]] = {}
    for row, cells in rows.items():
        name, _, share = row.partition(", cold_share ")
        values = [cells[group]["recall@10"]["value"] for group in ("held_back", "others")]
        reached.setdefault(name, [])
        if values[0] >= added and values[1] >= others:
            reached[name].append(share)
    found = [name if shares == [""] else f"{name} ({', '.join(shares)})" for name, shares in reached.items() if shares]
    missing = [name for name, shares in reached.items() if not shares]
    return "\n\n".join(
        [
            "Without `cold_share` the generator hardly ever generates an ID that it has not seen; with it added items "
            "gain and the others lose.",
            f"Rows with at least R@10 {numbers.score(added)} on added items, as SASRec on texts without a quota, and "
            f"at least {numbers.score(others)} on the others, as the generator without a quota (in brackets the values "
            f"of `cold_share` that do so): {', '.join(found)}. With no value: {', '.join(missing)}.",
            "`benchmarks/cold_items.py` makes this table.",
        ]
    )


def embedding_init_section() -> str:
    """Return where a pretrained model starts, by how the rows of its SID tokens start."""
    found = read_json(RESULTS / "embedding_init.json")
    about = (
        f"{found['backbone']}, {found['sid_tokens']:,} SID tokens, {found['targets']} targets; a uniform choice among "
        f"the codes costs {found['uniform']:.2f}:"
    )
    return f"{about}\n\n{table(found)}"


def language_model_section() -> str:
    """Return what a LoRA run took, and how the rows beside it did."""
    folder = RESULTS / "smollm2_industrial"
    (facts,) = read_json(folder / "adapters.json").values()
    rows = {name: row for name, row in read_json(folder / "compare.json")["rows"].items() if row["metrics"]}
    lines = [["row", "NDCG@10 [95 %]", "Recall@10 [95 %]", "training minutes"], ["---"] * 4]
    cells = {name: row["metrics"]["seen_allowed"] for name, row in rows.items()}
    for name in sorted(cells, key=lambda name: -cells[name]["ndcg@10"]["value"]):
        minutes = rows[name]["cost"]["training_minutes"] if rows[name]["cost"] else None
        scores = [numbers.interval(cells[name][metric]) for metric in ("ndcg@10", "recall@10")]
        lines.append([name, *scores, "" if minutes is None else f"{minutes:.1f}"])
    about = (
        f"{facts['base']}: {facts['steps']} steps in {facts['training_seconds'] / 60:.0f} minutes "
        f"({facts['seconds_per_step']:.1f} s a step, validations included), an adapter of "
        f"{facts['adapter_bytes'] / 1e6:.1f} MB with {facts['added_tokens']} rows of tokens. Seen items allowed:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


def liger_section() -> str:
    """Return LIGER beside its ablation and baselines: in-set and cold items of a comparison over seeds."""
    found = read_json(RESULTS / "liger_industrial" / "compare.json")
    rows = found["rows"]
    order = sorted(rows, key=lambda name: -rows[name]["metrics"]["seen_allowed"]["ndcg@10"]["value"])
    cells = {name: rows[name]["slices"]["cold_start"] for name in order}
    cases = cells[order[0]]
    header = [
        "",
        "seeds",
        f"in-set Recall@10 [95 %] ({cases['in_set']['cases']} cases)",
        "in-set NDCG@10",
        f"cold Recall@10 ({cases['cold']['cases']} cases)",
        "cold NDCG@10",
    ]
    lines = [header, ["---"] * len(header)]
    for name in order:
        own = [cells[name][part][metric] for part in ("in_set", "cold") for metric in ("recall@10", "ndcg@10")]
        seeds = len(rows[name]["seeds"]) if rows[name]["family"] != "counting" else 0
        lines.append([name, str(seeds or "none"), *map(numbers.interval, own)])
    return "\n\n".join(
        [
            "Recipe `liger_industrial` (the causal body, which is ours), `data.cold_share` .05, K = 20 beams, hits on "
            "items, seen items allowed; `liger_off` is the same generator without text input and dense head:",
            "\n".join("| " + " | ".join(line) + " |" for line in lines),
        ]
    )


def certificate_section() -> str:
    """Return how many lists of beams are proved, and what an exact search costs beside them."""
    found = read_json(RESULTS / "speed" / "certificate.json")
    times = {"p50 ms": "against 50 beams", "ms, batch of 64": "against 50 beams, batch of 64"}
    header = ["", "search", "proved", "right", "prefixes", "ms, one request", "ms each, batch of 64"]
    lines = [header, ["---"] * len(header)]
    for row in found["rows"]:
        shares = [numbers.percent(row[name]) for name in ("proved", "right")]
        cells = [f"{row[name]:.1f} ({row[ratio]})" for name, ratio in times.items()]
        lines.append([row["model"], row["search"], *shares, numbers.amount(round(row["prefixes"])), *cells])
    models = "; ".join(
        f"{name}: recipe `{model['recipe']}`, {model['epochs']} epochs, {numbers.amount(model['items'])} items"
        for name, model in found["models"].items()
    )
    about = (
        f"The first ten positions on {found['data']} ({models}), {found['cases']} test histories, seen items allowed "
        "unless the row excludes them. `right`: lists that equal those of scoring all items, which no search knows. "
        f"`prefixes`: fed to the decoder, the mean. Milliseconds of one thread, medians of {found['requests']} single "
        "requests and of batches, in brackets against 50 beams under the same mask:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


HYBRID_SETS = {
    "amazon_industrial": "Amazon Industrial",
    "amazon_scientific": "Amazon Scientific",
    "amazon_beauty": "Amazon Beauty 2014",
    "yelp": "Yelp",
    "amazon_games": "Amazon Games 2018",
    "ml-100k": "MovieLens-100K, by time",
}


def hybrid_section() -> str:
    """Return hybrids beside the best rows that they combine, on several data sets."""
    about = (
        "NDCG@10 on items, seen items allowed, three seeds; the best row of each sort was chosen on validation, and "
        "the last column is the paired difference to the best untrained row with its 95 % interval:"
    )
    return f"{about}\n\n{_hybrid_table('ndcg@10', 'seen_allowed')}"


def hybrid_sections() -> str:
    """Return the same for both metrics, with seen items and without them."""
    parts = []
    for seen, title in (("seen_allowed", "Seen items allowed"), ("seen_excluded", "Seen items excluded")):
        for metric, name in (("ndcg@10", "NDCG@10"), ("recall@10", "Recall@10")):
            parts.append(f"**{title}, {name}**\n\n{_hybrid_table(metric, seen)}")
    return "\n\n".join([*parts, _generator_table()])


def _hybrid_table(metric: str, seen: str) -> str:
    header = ["data", "test cases", "best untrained", "best trained part", "fusion", "ranker", "ranker − untrained"]
    lines = [header, ["---"] * len(header)]
    for name, title in HYBRID_SETS.items():
        path = RESULTS / "hybrids" / name / "compare.json"
        if path.is_file():
            lines.append([title, *_hybrid_line(read_json(path), metric, seen)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _hybrid_line(report: Mapping[str, Any], metric: str, seen: str) -> list[str]:
    rows = {name: row for name, row in report["rows"].items() if row["metrics"]}

    def best(families: tuple[str, ...]) -> str | None:
        own = [name for name, row in rows.items() if row["family"] in families]
        return max(own, key=lambda name: rows[name]["validation"]["ndcg@10"], default=None)

    def cell(name: str | None) -> str:
        if name is None or name not in rows:
            return ""
        return f"{name} {numbers.score(rows[name]['metrics'][seen][metric]['value'])}"

    untrained = best(("counting",))
    difference = report["hybrid_differences"][f"ranker-{untrained}"][seen][metric]
    return [
        f"{report['protocol']['cases']:,}",
        cell(untrained),
        cell(best(("dense", "generative"))),
        cell("fusion").removeprefix("fusion "),
        cell("ranker").removeprefix("ranker "),
        numbers.interval(difference, signed=True),
    ]


def _generator_table() -> str:
    """Return what the generator adds to the hybrids that have it among their parts."""
    lines = [["data", "hybrid", "NDCG@10 with the generator less without"], ["---"] * 3]
    for name, title in HYBRID_SETS.items():
        path = RESULTS / "hybrids" / name / "compare.json"
        found = read_json(path)["hybrid_differences"] if path.is_file() else {}
        for hybrid in ("fusion", "ranker"):
            cells = found.get(f"{hybrid}_generative-{hybrid}")
            if cells is not None:
                difference = numbers.interval(cells["seen_allowed"]["ndcg@10"], signed=True)
                lines.append([title, hybrid, difference])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**What the generator adds to a hybrid, seen items allowed**\n\n{table}"


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"results": readme_section},
    "docs/pages/results.md": {
        "results": results_section,
        "liger": liger_section,
    },
    "docs/pages/catalog_updates.md": {"cold": cold_section},
    "docs/pages/serving.md": {"certificate": certificate_section},
    "benchmarks/README.md": {"embedding_init": embedding_init_section, "language_model": language_model_section},
}

if __name__ == "__main__":
    main()
