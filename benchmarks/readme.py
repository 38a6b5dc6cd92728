"""Write the results that README and docs quote into them, from the committed results files; a test compares them.

python benchmarks/readme.py
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.embedding_init import table
from benchmarks.readme_growth import bulk_section, growth_section
from benchmarks.readme_hybrids import (
    cobra_section,
    hybrid_section,
    hybrid_sections,
    score_sum_section,
    teacher_section,
)
from benchmarks.readme_item_growth import item_growth_section
from benchmarks.readme_language_models import one_llm_section, text_slots_section
from benchmarks.readme_sequences import (
    acerec_ablations_section,
    acerec_section,
    contrastive_published_section,
    contrastive_section,
    ddim_section,
    epoch_seconds_section,
    glass_section,
    sid_augmentation_section,
    token_merger_section,
)
from benchmarks.readme_shop import SECTIONS as SHOP_SECTIONS
from benchmarks.readme_tokenizers import (
    coclick_section,
    famae_section,
    policy_section,
    published_ids_section,
    published_t5_section,
    tokenizer_section,
)
from cost_hf.files import read_json
from cost_hf.hub.cards import markdown_table, verdict
from cost_hf.reporting import numbers

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DATA_NAMES = {"amazon_industrial": "Amazon Industrial", "ml-100k": "MovieLens-100K"}
WARM_START_ROWS = ("yesterday", "yesterday, with today's items", "warm start", "from scratch")


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
    seconds = ", ".join(f"{value:.1f}" for value in found["add_seconds"])
    cases = found["cases"]
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


def warm_start_section() -> str:
    """Return what an update gains and costs beside yesterday's model and a training from scratch."""
    found = read_json(RESULTS / "warm_start.json")
    scores = [["", *WARM_START_ROWS], ["---"] * (len(WARM_START_ROWS) + 1)]
    header = [
        "",
        "warm start − yesterday",
        "from scratch − warm start",
        "minutes: yesterday",
        "warm start",
        "from scratch",
    ]
    rest = [[*header, "guard"], ["---"] * (len(header) + 1)]
    notes = []
    for data, facts in found["data"].items():
        share = numbers.percent(facts["budget"], digits=0)
        cut = "" if facts["budget"] == 1 else f", trained for {share} of the recipes' epochs"
        notes.append(
            f"{DATA_NAMES[data]}{cut}: {numbers.amount(facts['clicks_0'])} clicks until yesterday, "
            f"{numbers.amount(facts['clicks_1'])} of today with {facts['new_items']} new items, "
            f"{numbers.amount(facts['cases'])} of the next slice ranked"
        )
        for system, measured in sorted(facts["systems"].items()):
            name = f"{DATA_NAMES[data]}, `{system}`"
            rows = measured["rows"]
            scores.append([name, *(numbers.interval(rows[row]["recall@10"]) for row in WARM_START_ROWS)])
            differences = [
                numbers.interval(measured["differences"][pair]["recall@10"], signed=True)
                for pair in ("warm start - yesterday", "from scratch - warm start")
            ]
            minutes = [f"{rows[row]['minutes']:.2f}" for row in WARM_START_ROWS if rows[row]["minutes"] is not None]
            verdict = "accepted" if measured["update"]["is_accepted"] else "refused"
            rest.append([name, *differences, *minutes, verdict])
    about = (
        "MovieLens-100K by real time, Amazon Industrial by the order of its source; recipe "
        f"`{found['recipe']}` (`cost`) and the rows of other methods on its settings, one seed, defaults of an update, "
        f"CPU minutes of one thread on a shared machine. {'. '.join(notes)}. Recall@10, seen items allowed, 95 % "
        "intervals over users:"
    )
    paired = "Paired differences of Recall@10, and what a model took; `refused` is measured all the same:"
    cells = [own["differences"] for facts in found["data"].values() for own in facts["systems"].values()]
    better = {
        pair: sum(own[pair]["recall@10"]["low"] > 0 for own in cells)
        for pair in ("warm start - yesterday", "from scratch - warm start")
    }
    outcome = (
        f"The warm start is significantly better than yesterday's model in {better['warm start - yesterday']} of "
        f"{len(cells)} rows, and a training from scratch than the warm start in {better['from scratch - warm start']}."
    )
    tables = ["\n".join("| " + " | ".join(line) + " |" for line in lines) for lines in (scores, rest)]
    return "\n\n".join([about, tables[0], paired, tables[1], outcome, "`benchmarks/warm_start.py` makes these tables."])


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


def explanation_section() -> str:
    """Return the commands that explain a list, and what they print."""
    found = read_json(RESULTS / "explanation.json")
    commands = "\n".join(command.replace(" --data.", " \\\n  --data.") for command in found["commands"])
    return "\n".join(["```bash", commands, "```", "", "```", *found["list"], "```"])


def hybrid_speed_section() -> str:
    """Return what a request to a hybrid costs beside its parts."""
    found = read_json(RESULTS / "speed" / "hybrid.json")
    lines = [["hybrid", "p50 ms", "p95 ms", "slowest part", "its p50 ms", "ratio", "p50 ms of all parts"]]
    lines.append(["---"] * len(lines[0]))
    for run, facts in found["runs"].items():
        own = [row for row in found["rows"] if row["run"] == run]
        parts = [row for row in own if row["system"] in facts["parts"]]
        slowest = max(parts, key=lambda row: row["p50 ms"])
        total = sum(row["p50 ms"] for row in parts)
        for row in own:
            if row not in parts:
                times = [f"{row[name]:.1f}" for name in ("p50 ms", "p95 ms")]
                ratio = f"{row['against the slowest part']:.1f}x"
                cells = [f"`{slowest['system']}`", f"{slowest['p50 ms']:.1f}", ratio, f"{total:.1f}"]
                lines.append([f"{row['system']}, {len(parts)} parts", *times, *cells])
    items = {facts["items"] for facts in found["runs"].values()}
    about = (
        f"One request for ten items on {found['data']} ({numbers.amount(max(items))} items), seen items excluded, "
        f"medians of {found['requests']} requests of one thread. The ratio is the median over the requests, and the "
        "last column what the parts take as recommenders of their own, one after the other:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


def where_section() -> str:
    """Return what filters, diverse lists and changes of stock cost."""
    found = read_json(RESULTS / "speed" / "where.json")
    lines = [["", "items", "kept", "compile", "plain", "filtered", "diverse", "10,000 changes", "saved"]]
    lines.append(["---"] * len(lines[0]))
    for row in found["rows"]:
        ratios = [f"{row[f'{name} / plain']:.2f}x" for name in ("filtered", "diverse")]
        times = [f"{row['compile ms']:.1f} ms", f"{row['plain ms']:.1f} ms"]
        seconds = [f"{1e3 * row[name]:.0f} ms" for name in ("change s", "save s")]
        kept = numbers.percent(row["kept"])
        lines.append([row["system"], numbers.amount(row["items"]), kept, *times, *ratios, *seconds])
    about = (
        "An untrained generator and an untrained SASRec over a made-up catalog, one thread. `compile`: a filter that "
        f"no request had before. `plain`: one request for ten items, the median of {found['requests']}; `filtered` "
        "(the filter keeps the share `kept`) and `diverse` (at most two items of a brand) are ratios to it. Then the "
        "stock of 10,000 items changes in memory, and all columns are written to disk, among them descriptions of 25 "
        "words:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


def start_section() -> str:
    """Return how long a program takes from its start to the first answer."""
    found = read_json(RESULTS / "speed" / "start.json")
    lines = [["", "import", "load", "first answer", "together", "ratio"], ["---"] * 6]
    for row in found["rows"]:
        steps = [f"{row[name]:.2f} s" for name in ("import s", "load s", "first answer s", "total s")]
        lines.append([row["program"], *steps, f"{row['ratio']:.2f}x"])
    about = (
        "From the start of a process to its first list, a run of the quick start, medians of "
        f"{found['rounds']} processes of each kind in turns; the second row imports the two libraries and loads the "
        "generator alone:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


def server_section() -> str:
    """Return how many requests a second the server answers, batched and one by one."""
    found = read_json(RESULTS / "speed" / "serve_load.json")
    lines = [["", "clients", "requests a second", "p50", "p99", "mean batch", "errors"]]
    lines.append(["---"] * len(lines[0]))
    for row in found["rows"]:
        times = [f"{row[name]:.0f} ms" for name in ("p50 ms", "p99 ms")]
        batch = f"{row['mean batch']:.1f}" if "mean batch" in row else ""
        rate = f"{row['requests a second']:.1f}"
        lines.append([row["system"], str(row["clients"]), rate, *times, batch, str(row["errors"])])
    about = (
        f"Recipe `{found['recipe']}`, one history a request, ten items wanted, {found['seconds']:g} s a row, on "
        f"{found['cores']} cores, which the clients share. Every client waits for its answer before it asks "
        "again. `swapped`: another "
        f"process changes the catalog every 5 s. Batches answer {found['ratio']:.1f} times the requests of one by one:"
    )
    return "\n\n".join([about, "\n".join("| " + " | ".join(line) + " |" for line in lines)])


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"hybrids": hybrid_section},
    "docs/pages/results.md": {
        "hybrids": hybrid_sections,
        "score_sum": score_sum_section,
        "cobra": cobra_section,
        "teacher": teacher_section,
        "tokenizers": tokenizer_section,
        "coclick": coclick_section,
        "policies": policy_section,
        "published_ids": published_ids_section,
        "published_t5": published_t5_section,
        "famae": famae_section,
        "contrastive": contrastive_section,
        "contrastive_published": contrastive_published_section,
        "ddim": ddim_section,
        "epoch_seconds": epoch_seconds_section,
        "sid_augmentation": sid_augmentation_section,
        "acerec": acerec_section,
        "acerec_ablations": acerec_ablations_section,
        "token_merger": token_merger_section,
        "glass": glass_section,
        "one_llm": one_llm_section,
        "text_slots": text_slots_section,
        "results": results_section,
        "liger": liger_section,
    },
    "docs/pages/bulk_work.md": {"bulk": bulk_section},
    "docs/pages/your_own_data.md": {"growth": growth_section},
    "docs/pages/catalog_updates.md": {"cold": cold_section},
    "docs/pages/large_catalogs.md": {"item_growth": item_growth_section},
    "docs/pages/daily_updates.md": {"warm_start": warm_start_section},
    "docs/pages/serving.md": {
        "where": where_section,
        "server": server_section,
        "certificate": certificate_section,
        "explanation": explanation_section,
        "hybrid_speed": hybrid_speed_section,
        "start": start_section,
    },
    "docs/pages/from_exports_to_production.md": SHOP_SECTIONS,
    "benchmarks/README.md": {"embedding_init": embedding_init_section, "language_model": language_model_section},
}

if __name__ == "__main__":
    main()
