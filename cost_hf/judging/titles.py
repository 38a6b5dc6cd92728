"""Tasks in words, judged: the titles that a generator gives items, and those of next items."""

from dataclasses import asdict
from typing import Any

import numpy as np

from cost_hf.data.item_texts import item_titles
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.evaluation.statistics import bootstrap_means, interval_of
from cost_hf.recipe import Recipe
from cost_hf.recommender.recommender import Recommender
from cost_hf.recommender.templates import load_templates
from cost_hf.recommender.titles import conversation_of, titles_said

JUDGED = ("item_to_title", "history_to_title")
SAMPLE = 128


def title_scores(
    recipe: Recipe, data: PreparedData, targets: Targets, recommender: Recommender, *, seed: int
) -> dict[str, Any]:
    """Return section `titles` of results.json: exact match and ROUGE with intervals of every title task of a recipe.

    `item_to_title` asks for items whose titles were learned, `history_to_title` for the next items of test users; both
    take a seeded sample. References are cut as in training.
    """
    names = [name for name in JUDGED if recipe.tasks.weights.get(name)]
    if not names:
        return {}
    # of the extra `titles`: only runs that learn titles need it
    from cost_hf.metrics.title_match.title_match import title_match

    titles = item_titles(data.tables.items) or []
    conversation, most = conversation_of(recommender), recipe.tasks.max_title_tokens
    scores = {}
    for name in names:
        fields, rows, users = _questions(name, recipe, data, targets, recommender, titles)
        template = load_templates(name, recipe.tasks.templates)[0]
        said = titles_said(recommender, template, fields, max_tokens=most + 1)
        wanted = [conversation.plain(str(titles[row]), max_tokens=most) for row in rows]
        values = title_match(said, wanted)
        table = np.stack(list(values.values()), axis=1)
        draws = bootstrap_means(table, clusters=users, draws=recipe.evaluation.bootstrap_draws, seed=seed)
        cells = {
            metric: asdict(interval_of(float(column.mean()), drawn))
            for (metric, column), drawn in zip(values.items(), draws.T, strict=True)
        }
        scores[name] = {"cases": len(rows), **cells}
    return scores


def _questions(
    name: str,
    recipe: Recipe,
    data: PreparedData,
    targets: Targets,
    recommender: Recommender,
    titles: list[str | None],
) -> tuple[list[dict[str, str]], list[int], np.ndarray]:
    """Return the fields of the questions, the rows whose titles are right, and whose questions they are."""
    conversation, tokens = conversation_of(recommender), recommender.prompts.item_tokens.numpy()
    draw = np.random.default_rng(recipe.data.seed)
    has_title = np.array([bool(title) for title in titles])
    if name == "item_to_title":
        count = data.tables.num_items
        is_known = data.split.fit_rows(count) if len(data.split.cold_items) else np.ones(count, dtype=bool)
        known = np.flatnonzero(is_known & has_title)
        rows = np.sort(draw.permutation(known)[:SAMPLE])
        return [{"item": conversation.sids(tokens[row])} for row in rows], rows.tolist(), rows
    titled = np.flatnonzero(has_title[targets.items])
    cases = np.sort(draw.permutation(titled)[:SAMPLE])
    most = recommender.max_history
    fields = [{"history": conversation.sids(tokens[targets.histories[case][-most:]])} for case in cases]
    return fields, targets.items[cases].tolist(), np.asarray(targets.user_ids)[cases]
