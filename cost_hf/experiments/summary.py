"""What a finished run says on the terminal: the table, a few users, what it cost and where it lies."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.evaluation.results import MAIN_ROW, format_interval, format_table
from cost_hf.experiments.pipeline import Run
from cost_hf.terminal_text import terminal_line

EXAMPLE_USERS = 3
HISTORY_SHOWN = 4
TOP = 3
WIDTH = 110


def run_summary(run: Run) -> str:
    """Return the closing text of a run."""
    results = run.results
    toy = results["recipe"]["data"]["reader"] == "synthetic"
    costs = ", ".join(f"{name} {cost['seconds']:.1f} s" for name, cost in results["stages"].items())
    peak = max(cost["peak_mb"] for cost in results["stages"].values())
    beams = f"{results['protocol']['num_beams']} beams, " if results["recipe"]["method"] == "generative" else ""
    parts = [
        f"{results['recipe']['name']}, seed {results['seed']}, {results['protocol']['cases']} test cases, "
        f"{beams}hits on items, seen items allowed, 95 % intervals over users",
        format_table(results),
        textwrap.fill(results["protocol"]["note"], WIDTH),
        *_cold_start(results),
        *_examples(run),
        f"{costs}; peak memory {peak:.0f} MiB",
        f"run directory: {run.output_dir} (report.html shows more)",
    ]
    if toy:
        parts.append("This is toy data made by this package: the numbers show that the parts work, nothing more.")
    return "\n\n".join(["", *parts])


def _cold_start(results: Mapping[str, Any]) -> list[str]:
    """Say how the system does on the items that the cold-start protocol hid from it."""
    cells = results["slices"][MAIN_ROW]["seen_allowed"].get("cold_start", {})
    shown = [
        f"{label.replace('_', '-')}: {cell['cases']} cases, NDCG@10 {format_interval(cell['ndcg@10'])}"
        for label, cell in cells.items()
    ]
    hidden = results["protocol"]["counts"].get("cold_items")
    return [f"cold start, {hidden} items hidden from all that is fitted; {'; '.join(shown)}"] if shown else []


def _examples(run: Run) -> Sequence[str]:
    """Return up to three test users as titles: the end of the history, then what is recommended."""
    catalog = run.recommender.catalog
    if catalog.titles is None:
        return []
    names = [terminal_line(title or item) for item, title in zip(catalog.item_ids, catalog.titles, strict=True)]
    texts: list[str] = []
    for user, history in run.examples[:EXAMPLE_USERS]:
        answers = run.recommender.recommend(history, top_k=TOP, on_empty="popularity", user_ids=user)
        if not history or not answers:
            continue
        past = [names[catalog.row_of(item)] for item in history[-HISTORY_SHOWN:]]
        future = [names[catalog.row_of(answer.item_id)] for answer in answers]
        lines = [f"user {len(texts) + 1} read      {past[0]}", *(f"{' ' * 17}{title}" for title in past[1:])]
        lines += [f"   recommended   {future[0]}", *(f"{' ' * 17}{title}" for title in future[1:])]
        texts.append("\n".join(lines))
    return texts
