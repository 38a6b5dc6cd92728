"""A recipe from data to results: read the data, fit the method and its baselines, evaluate.

Every costly step is a stage whose result is stored in the run directory.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from cost_hf.data.click_log import CLICKS, save_clicks, training_clicks
from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.experiments.evaluation_stage import REPORT, evaluation_stage
from cost_hf.experiments.own_data import OWN_DATA, QUICKSTART, choose_recipe, data_name, names_own_data
from cost_hf.experiments.recipe import Recipe, row_recipe
from cost_hf.methods.base import Fitted, Workspace
from cost_hf.methods.codes_stage import vector_stage
from cost_hf.recommenders.base import Recommender
from cost_hf.run_updates import remove_updates, require_no_updates
from cost_hf.semantic_ids.options import whole_number
from cost_hf.stages import Stages

RECIPE = "recipe.yaml"
MAX_SEED = 2**32 - 1  # of numpy's generators
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        recommender: loaded from the run directory, ready to recommend.
        results: content of `evaluation/results.json`.
        output_dir: the run directory.
        examples: a few test users: id, and history as item ids.

    Examples:
        >>> import tempfile
        >>> import cost_hf
        >>> toy = {"method": "popularity", "data.synthetic_users": 60, "data.synthetic_items": 50}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = cost_hf.train(overrides=toy | {"evaluation.baselines": ["item_knn"]}, output_dir=directory)
        >>> sorted(run.results["rows"])
        ['item_knn', 'oracle', 'recommender']
        >>> run.results["methods"]["recommender"]["family"]
        'counting'
    """

    recommender: Recommender
    results: dict[str, Any]
    output_dir: Path
    examples: list[tuple[str, list[str]]]

    def __repr__(self) -> str:
        """Return a one-line summary."""
        recipe = self.results["recipe"]
        cell = self.results["rows"][MAIN_ROW]["item"]["seen_allowed"].get("ndcg@10") or {}
        value = cell.get("value")
        metric = "" if value is None else f", NDCG@10 {value:.4f}"
        return f"Run({recipe['name']}, seed {self.results['seed']}, {self.recommender!r}{metric}, {self.output_dir})"

    @property
    def is_main_process(self) -> bool:
        """True in the process that should print."""
        return PartialState().is_main_process


def train(
    *,
    items: Any = None,
    interactions: Any = None,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    output_dir: str | Path | None = None,
    shared_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Run:
    """Train and evaluate a recommender; a killed or repeated call continues where the last one stopped.

    `recipe.yaml` and `report.html` describe the results beside them: they are written when the run is finished.

    Args:
        items: catalog (`item_id` and text columns): DataFrame, `datasets.Dataset` or path; None reads `data.path`.
        interactions: clicks (`user_id`, `item_id`, `timestamp` or `position`), in the same forms.
        recipe: name of a shipped recipe or a YAML file. By default it is chosen for your own data, by the size of the
            catalog and the length of the histories, and the reason is logged; without data it is `cost_quickstart`.
        overrides: dotted fields, as on the command line, such as `{"training.epochs": 20}`.
        seed: of codes, generator and bootstrap; the split does not depend on it.
        output_dir: run directory; `runs/<recipe>-<seed>` by default, or `runs/<data>-<seed>` where the recipe is chosen
            for data that have a name.
        shared_dir: where several runs keep vectors and quantizers for each other; None shares nothing.
        overwrite: allow an `output_dir` that was made from other data, and training again where the catalog of its
            recommender was changed since, whose changes are lost then.

    Raises:
        ValueError: for an `output_dir` that was made from other data, or changes that would be lost, without
            `overwrite`.
        LockedError: where another run is writing to `output_dir`.
        RecipeError: for an unknown recipe, field or value.
        DataError: for data that can't be used as it is; the message names the change.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> import cost_hf
        >>> items = pd.DataFrame({"item_id": list("abcdef"), "title": [f"tea number {n}" for n in range(6)]})
        >>> rows = [(user, "abcdef"[(user + step) % 6], step) for user in range(20) for step in range(4)]
        >>> clicks = pd.DataFrame(rows, columns=["user_id", "item_id", "position"])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = cost_hf.train(
        ...         items=items,
        ...         interactions=clicks,
        ...         overrides={"method": "markov", "evaluation.baselines": ["popularity"], "evaluation.num_beams": 5},
        ...         output_dir=directory,
        ...     )
        >>> run.recommender.recommend(["a", "b"], top_k=1)[0].item_id
        'c'
    """
    # the first call decides for the process: without `cpu` accelerate gives every process of a CPU run world size 1
    state = PartialState(cpu=not torch.cuda.is_available())
    seed = whole_number(seed, "seed", least=0, most=MAX_SEED)
    given = dict(overrides or {})
    chooses = recipe is None and (items is not None or interactions is not None or names_own_data(given))
    resolved = Recipe.load(recipe or (OWN_DATA if chooses else QUICKSTART), given)
    if (items is None) != (interactions is None):
        missing = "items" if items is None else "interactions"
        raise ValueError(f"items and interactions go together, {missing} is missing")
    if items is not None:
        resolved.data.reader = "tables"
        if "data.licence" not in given:
            resolved.data.licence = None  # the recipe's licence is not that of the caller's data
    resolved.validate()
    data = prepare_data(resolved.data, items=items, interactions=interactions, template=resolved.vectors.item_template)
    name = None if items is not None else data_name(resolved.data)
    if chooses:
        resolved, reason = choose_recipe(resolved, data, given)
        resolved.validate()
        logger.warning("%s (name a recipe for another one; `cost-hf compare` measures which is best)", reason)
    resolved.check_items(data)
    directory = Path("runs") / f"{name if chooses and name else resolved.name}-{seed}"
    if output_dir is not None:
        directory = Path(output_dir)
    stages = Stages(directory, shared=shared_dir)
    with stages.exclusive():
        if not overwrite:
            require_no_updates(directory)
        state.wait_for_everyone()  # nobody may find them gone before all have looked
        if state.is_main_process:
            remove_updates(directory)
        stages.claim(data.tables.source_digest, overwrite=overwrite)
        workspace = make_workspace(stages, resolved, data)
        fitted = fit_rows(resolved, workspace, seed=seed)
        results = evaluation_stage(resolved, workspace, fitted, seed=seed, data_name=name)
        if state.is_main_process:
            stages.write(RECIPE, resolved.save)
            stages.write(CLICKS, lambda path: save_clicks(training_clicks(data.tables, resolved.data), path))
            stages.finish([RECIPE, REPORT, CLICKS])
    recommender = fitted[MAIN_ROW].recommender
    first = zip(data.split.test.user_ids[:3], data.split.test.histories[:3], strict=True)
    item_ids = recommender.catalog.item_ids
    examples = [(str(user), [item_ids[row] for row in history]) for user, history in first]
    return Run(recommender, results, directory, examples)


def make_workspace(stages: Stages, recipe: Recipe, data: PreparedData) -> Workspace:
    """Return what the methods of a run are fitted to; the text vectors are encoded where one asks for them."""
    return Workspace(
        stages=stages,
        data=data,
        text_vectors=cache(lambda: vector_stage(stages, recipe.vectors, data)),
        vector_options=recipe.vectors,
        evaluation=recipe.evaluation,
        data_seed=recipe.data.seed,
    )


def fit_rows(recipe: Recipe, workspace: Workspace, *, seed: int) -> dict[str, Fitted]:
    """Fit the system of a recipe, the row `recommender`, and its baselines, by row name."""
    fitted = {MAIN_ROW: recipe.system.fit(workspace, seed=seed)}
    for name in recipe.baselines:
        fitted[row_name(name)] = row_recipe(name, recipe).system.fit(replace(workspace, row=row_name(name)), seed=seed)
    return fitted


def row_name(baseline: str) -> str:
    """Return the name of a baseline's row: that of its method, variant or recipe."""
    return Path(baseline).stem
