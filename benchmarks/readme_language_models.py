"""Sections of the docs on one language model that makes codes and recommends: STORE-style, TTDSR, plain LoRA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.readme_hybrids import SETS, markdown_lines
from benchmarks.readme_sequences import titled_table
from cost_hf.files import read_json
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parent / "results" / "one_llm"
DATA = f"{SETS['amazon_industrial']}, users with 6 clicks or more, items with 2 or more"
GIVEN = {"slots": "slots", "codes": "codes", "others": "slots of another text"}


def one_llm_section() -> str:
    """Return accuracy, the index as it moves, what a step costs, and the texts that are rebuilt."""
    report = read_json(RESULTS / "compare.json")
    sections = read_json(RESULTS / "sections.json")
    parts = [titled_table(DATA, report, base="ttdsr", seen="seen_allowed", costs=True)]
    parts.append(_steps_table(sections, read_json(RESULTS / "adapters.json")))
    parts += [
        _index_table(run, found["index"]) for run, found in sections.items() if found.get("index", {}).get("refreshes")
    ]
    parts.append(_drift_table(sections))
    parts += [
        _texts_table(run, found["reconstruction"]) for run, found in sections.items() if "reconstruction" in found
    ]
    return "\n\n".join(parts)


def text_slots_section() -> str:
    """Return what slots hold of texts by the length of training."""
    found = read_json(RESULTS.parent / "text_slots.json")
    head = [
        "epochs",
        "steps",
        *(f"perplexity, {title}" for title in GIVEN.values()),
        "ROUGE-1 of slots",
        "ROUGE-1 of codes",
        "distinct semantic IDs, share of the items",
        "seconds a step",
    ]
    lines = [head, ["---"] * len(head)]
    for row in found["rows"]:
        cells = [f"{row['epochs']}", f"{row['steps']}", *(f"{row[f'perplexity, {given}']:.2f}" for given in GIVEN)]
        cells += [f"{row[f'ROUGE-1, {given}']:.3f}" for given in ("slots", "codes")]
        lines.append([*cells, numbers.percent(row["unique"]), _seconds(row["seconds a step"])])
    title = f"**{SETS[found['data']]}, {numbers.amount(found['items'])} items, in {found['precision']}**:"
    return f"{title}\n\n{markdown_lines(lines)}"


def _steps_table(sections: Mapping[str, Any], adapters: Mapping[str, Any]) -> str:
    """Return the steps of every run with a language model, their seconds and their tokens."""
    lines = [["training of", "steps", "seconds a step", "tokens a step"], ["---"] * 4]
    for run, facts in adapters.items():
        lines.append([_row(run), str(facts["steps"]), _seconds(facts["seconds_per_step"]), _tokens(facts)])
    for run, found in sections.items():
        if "reconstruction" in found:
            step = found["reconstruction"]["step"]
            cells = [f"{step['steps']:.0f}", _seconds(step["seconds_per_step"]), _tokens(step)]
            lines.append([f"{_row(run)}, its codes", *cells])
    return markdown_lines(lines)


def _seconds(step: float | None) -> str:
    """Return the seconds of a step, empty where a resumed training had no step left to measure."""
    return "" if step is None else f"{step:.2f}"


def _tokens(facts: Mapping[str, Any]) -> str:
    return f"{facts['tokens_per_step']:,.0f}"


def _index_table(run: str, index: Mapping[str, Any]) -> str:
    """Return what every refresh of an index changed, and the perplexity of its levels."""
    records = index["refreshes"]
    towers = [
        name.removesuffix("_changed") for name in records[0] if name.endswith("_changed") and "_first_" not in name
    ]
    head = [f"{_row(run)}, step"]
    for tower in towers:
        head += [f"{tower} changed", f"first code of {tower} changed", f"perplexity of {tower} by level"]
    lines = [[*head, "seconds"], ["---"] * (len(head) + 1)]
    for record in records:
        cells = [f"{record['step']:.0f}"]
        for tower in towers:
            levels = [value for name, value in sorted(record.items()) if name.startswith(f"{tower}_perplexity_")]
            cells += [numbers.percent(record[f"{tower}_{name}"]) for name in ("changed", "first_changed")]
            cells.append(", ".join(f"{value:.0f}" for value in levels))
        lines.append([*cells, f"{record['refresh_seconds']:.0f}"])
    return markdown_lines(lines)


def _drift_table(sections: Mapping[str, Any]) -> str:
    """Return, by run, the shares of rows to which the finished model's states would give another semantic ID."""
    drifts = {
        run: {name: value for name, value in found["index"].items() if "_drift" in name}
        for run, found in sections.items()
        if "index" in found
    }
    names = list(dict.fromkeys(name for drift in drifts.values() for name in drift))
    lines = [["after training", *(name.replace("_", " ") for name in names)], ["---"] * (len(names) + 1)]
    for run, drift in drifts.items():
        lines.append([_row(run), *(numbers.percent(drift[name]) if name in drift else "" for name in names)])
    return markdown_lines(lines)


def _texts_table(run: str, found: Mapping[str, Any]) -> str:
    """Return how well a language model writes texts again of their slots and codes."""
    texts, perplexity = found["texts"], found["perplexity"]
    scores = [name for name in texts["slots"]]
    lines = [[f"{_row(run)}: {texts['cases']:,} texts generated from", *scores, "perplexity of a token"]]
    lines.append(["---"] * len(lines[0]))
    for given, title in GIVEN.items():
        cells = [f"{texts[given][name]:.3f}" if given in texts else "" for name in scores]
        lines.append([title, *cells, f"{perplexity[given]:.2f}" if given in perplexity else ""])
    return markdown_lines(lines)


def _row(run: str) -> str:
    """Return the row of a run, whose name ends with its seeds."""
    return run.rpartition("-")[0]
