"""The summary of a finished run: its results, and recommendations for a few test users."""

from cost_hf.experiments.pipeline import Run
from cost_hf.reporting import run_text
from cost_hf.reporting.terminal import ExampleAnswer

EXAMPLE_USERS = 3
HISTORY_SHOWN = 4
TOP = 3


def run_summary(run: Run) -> str:
    """Return the text that a finished run shows on the terminal."""
    return run_text(run.results, answers=example_answers(run), directory=run.output_dir)


def example_answers(run: Run) -> list[ExampleAnswer]:
    """Return recommendations for up to three test users as titles; none where the catalog has no titles."""
    catalog = run.recommender.catalog
    if catalog.titles is None:
        return []
    answers = []
    for user, history in run.examples[:EXAMPLE_USERS]:
        found = run.recommender.recommend(history, top_k=TOP, on_empty="popularity", user_ids=user)
        if history and found:
            shown = [history[-HISTORY_SHOWN:], [answer.item_id for answer in found]]
            past, future = ([catalog.titles[catalog.row_of(item)] or item for item in part] for part in shown)
            answers.append(ExampleAnswer(past, future))
    return answers
