"""Text tasks, evaluated: the titles that a generator gives items, and those of next items."""

from dataclasses import asdict
from typing import Any

import numpy as np

from cost_hf.data.splits import Targets
from cost_hf.evaluation.statistics import bootstrap_means, interval_of
from cost_hf.generators.item_texts import ItemTexts, TemplateFields
from cost_hf.generators.options import TaskOptions
from cost_hf.generators.templates import load_templates
from cost_hf.methods.base import Workspace
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.titles import generate_titles, prompt_encoder_of

SAMPLE = 128


def title_scores(
    options: TaskOptions, workspace: Workspace, targets: Targets, recommender: GenerativeRecommender, *, seed: int
) -> dict[str, Any]:
    """Return section `titles` of results.json: exact match and ROUGE with intervals of every title task of a recipe.

    `item_to_title` asks for items whose titles were learned, `history_to_title` for the next items of test users; both
    take a seeded sample. References are cut as in training.
    """
    if not options.title_tasks:
        return {}
    # of the extra `titles`: only runs that learn titles need it
    from cost_hf.metrics.title_match.title_match import title_match

    prompt_encoder = prompt_encoder_of(recommender)
    item_texts = ItemTexts.of(workspace.data, workspace.vector_options.item_template)
    asked = TemplateFields(options, item_texts, prompt_encoder, recommender.prompts.item_tokens.numpy())
    scores = {}
    for name in options.title_tasks:
        fields, users = _questions(name, asked, targets, recommender.max_history, seed=workspace.data_seed)
        if not fields:
            continue  # no target of the sample has a title
        template = load_templates(name, options.templates)[0]
        most = options.max_title_tokens + 1
        generated = generate_titles(recommender, prompt_encoder, template, fields, max_tokens=most)
        values = title_match(generated, [entry["title"] for entry in fields])
        table = np.stack(list(values.values()), axis=1)
        draws = bootstrap_means(table, clusters=users, draws=workspace.evaluation.bootstrap_draws, seed=seed)
        cells = {
            metric: asdict(interval_of(float(column.mean()), drawn))
            for (metric, column), drawn in zip(values.items(), draws.T, strict=True)
        }
        scores[name] = {"cases": len(fields), **cells}
    return scores


def _questions(
    name: str, asked: TemplateFields, targets: Targets, max_history: int, *, seed: int
) -> tuple[list[dict[str, str]], np.ndarray]:
    """Return the fields of a sample's questions, the right title among them, and whose questions they are."""
    draw = np.random.default_rng(seed)
    if name == "item_to_title":
        known = np.flatnonzero(asked.item_texts.is_known & asked.has_title)
        rows = np.sort(draw.permutation(known)[:SAMPLE])
        return [{"item": asked.item(row), "title": asked.title(row)} for row in rows.tolist()], rows
    titled = np.flatnonzero(asked.has_title[targets.items])
    cases = np.sort(draw.permutation(titled)[:SAMPLE])
    fields = [
        {"history": asked.item(targets.histories[case][-max_history:]), "title": asked.title(int(targets.items[case]))}
        for case in cases
    ]
    return fields, np.asarray(targets.user_ids)[cases]
