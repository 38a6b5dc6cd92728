"""The comparison from sources to report: plan, run what is missing, measure, decide, write.

<output_dir>/runs/<system>-<seeds>/   ordinary run directories
<output_dir>/shared/                  vectors, quantizers and recommenders that several runs use
<output_dir>/baselines/               lists of the baselines
<output_dir>/compare.json, report.md, report.html
<output_dir>/recommended.yaml         recipe of the recommended system
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.experiments.compare.claims import PRIMARY
from cost_hf.experiments.compare.rows import Row, baseline_rows, trained_rows
from cost_hf.experiments.compare.runner import DONE, Job, plan_jobs, run_jobs
from cost_hf.experiments.compare.sources import resolve_sources
from cost_hf.experiments.compare.summary import summarize
from cost_hf.experiments.compare.systems import Plan, plan_systems
from cost_hf.experiments.compare.winner import RECIPE, check_target, describe_winner, train_recommended
from cost_hf.experiments.evaluation_stage import (
    LISTS,
    VALIDATION,
    describe_method,
    rank_rows,
    rankers_of,
    validation_cases,
)
from cost_hf.experiments.pipeline import Run, make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.experiments.request_times import request_times
from cost_hf.files import DamagedFileError, content_digest, read_json, read_object, write_json
from cost_hf.reporting import REPORT_FILES, write_compare_report
from cost_hf.stages import Stages, is_finished, require_finished, require_one_process

logger = logging.getLogger(__name__)
REPORT = "compare.json"


@dataclass(frozen=True)
class Comparison:
    """A comparison, finished or not.

    Attributes:
        report: content of compare.json.
        output_dir: where it is stored.
        winner: run of the recommended system, where it was asked for and there is one.
    """

    report: dict[str, Any]
    output_dir: Path
    winner: Run | None = None


def compare(
    sources: str | Path | Sequence[str | Path],
    systems: Sequence[str] | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> Comparison:
    """Compare methods and baselines on one split; a repeated call resumes where the last one stopped.

    Args:
        sources: data (a directory or Hub data set), recipes, or both. Data alone takes the recipe `cost_default`.
        systems: rows: names of methods and variants on the first recipe, or recipes; None takes those that the methods
            propose. The fusion of all rows and, where LightGBM is installed, their learned ranking are added.
        overrides: dotted recipe fields, such as `{"training.epochs": 20}`.
        options: further arguments of `compare_recipes`, such as `seeds`, `budget_seconds` and `train_winner`.

    Raises:
        RecipeError: for two data sources, a source that is neither data nor a recipe, or an unknown row.

    Examples:
        >>> import tempfile
        >>> import cost_hf
        >>> toy = {"data.synthetic_users": 60, "data.synthetic_items": 50, "evaluation.bootstrap_draws": 20}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     comparison = cost_hf.compare(
        ...         "cost_quickstart", ["sasrec_ce"], overrides=toy, seeds=[0], budget_seconds=0.1, output_dir=directory
        ...     )
        >>> comparison.report["recommendation"]["choice"]
        'too_little_data'
    """
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    base, others = resolve_sources([str(name) for name in names], dict(overrides or {}))
    return compare_recipes(base, systems, others=others, **options)


def compare_recipes(
    base: Recipe,
    systems: Sequence[str] | None = None,
    *,
    others: Sequence[Recipe] = (),
    reference: str | None = None,
    hybrids: bool = True,
    seeds: Sequence[int] = (0, 1, 2),
    generators_per_quantizer: int = 1,
    budget_seconds: float | None = None,
    seen: str = "seen_allowed",
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    train_winner: str | Path | None = None,
) -> Comparison:
    """Compare the rows of resolved recipes, as `compare` does.

    Args:
        base: gives data, vectors and evaluation to all rows, and the rest to the named systems.
        systems: names of methods, variants or recipes; None takes those that the methods propose.
        others: recipes that are rows of their own.
        reference: published identifiers for a calibration row.
        hybrids: add rows that combine all others; False where parts alone are of interest.
        seeds: of the quantizers.
        generators_per_quantizer: generator seeds nested in each quantizer seed.
        budget_seconds: wall time after which a run that is going on is stopped and none is begun; what comes before and
            after the runs (vectors, baselines, the summary) is not cut. None has no limit.
        seen: setting of `exclude_seen` that the primary metric is read under.
        output_dir: `runs/compare-<recipe>` by default.
        overwrite: allow an `output_dir` that was made from other data, and a `train_winner` as in `train`.
        train_winner: run directory that the recommended system is left in, ready to be loaded and published. It is made
            of what the comparison has trained; the budget does not stop it. None trains nothing more.

    Raises:
        ValueError: for an `output_dir` or a `train_winner` that was made from other data, without `overwrite`, or a
            `train_winner` inside of the `output_dir`, for a row whose options do not fit the items, and for a launch
            of several processes.
        LockedError: where another comparison is writing to `output_dir`.
    """
    start = time.monotonic()
    deadline = None if budget_seconds is None else start + budget_seconds
    require_one_process("a comparison")
    base.validate()
    _check(base, seeds, generators_per_quantizer)
    directory = Path(output_dir) if output_dir is not None else Path("runs") / f"compare-{base.name}"
    if train_winner is not None:
        check_target(train_winner, directory)
    plan = plan_systems(base, systems, others=others, reference=reference, hybrids=hybrids)
    data = prepare_data(base.data, template=base.vectors.item_template)
    rows = dict(plan.untrained) | {system.name: system.recipe for system in plan.systems}
    for name, recipe in rows.items():
        try:
            recipe.check_items(data)
        except ValueError as error:
            raise ValueError(f"row {name}: {error}") from error
    if train_winner is not None and not overwrite:  # hours before the winner is known
        Stages(train_winner).check_source(data.tables.source_digest)
    jobs = plan_jobs(
        plan.systems,
        seeds=seeds,
        generators_per_quantizer=generators_per_quantizer,
        data_digest=content_digest(data.tables.digest, data.split.digest),
        directory=directory,
    )
    settings = {"seeds": list(seeds), "generators_per_quantizer": generators_per_quantizer, "seen": seen}
    stages = Stages(directory, shared=directory / "shared")
    with stages.exclusive():
        stages.claim(data.tables.source_digest, overwrite=overwrite)
        report = _report(stages, base, plan, data, jobs, settings, deadline)
    winner = None
    if train_winner is not None:
        winner = train_recommended(report["recommendation"], directory, train_winner, overwrite=overwrite)
    return Comparison(report, directory, winner)


def _report(
    stages: Stages,
    base: Recipe,
    plan: Plan,
    data: PreparedData,
    jobs: Sequence[Job],
    settings: Mapping[str, Any],
    deadline: float | None,
) -> dict[str, Any]:
    """Run what is missing and return the content of compare.json, with the reports beside it."""
    directory = stages.output_dir
    untrained = {name: recipe.inputs() for name, recipe in plan.untrained.items()}
    digest = content_digest([job.digest for job in jobs], base.to_dict(), untrained, dict(settings))
    known = _finished(directory, digest, jobs)
    if known is not None:
        advice = known["recommendation"]
        # paths are others where the directory was moved, or is named in another way
        if advice == advice | describe_winner(advice["row"], known["rows"], base, plan, jobs, directory):
            return known
    rows = _baselines(stages, base, plan.untrained, data)
    run_jobs(jobs, shared=directory / "shared", deadline=deadline)
    rows += trained_rows(jobs, metric=PRIMARY, seen=settings["seen"])
    report = summarize(rows, base, data, settings=settings, is_complete=_all_done(jobs))
    advice = report["recommendation"]
    advice |= describe_winner(advice["row"], report["rows"], base, plan, jobs, directory)
    report |= {"digest": digest, "seconds": round(sum(job.record["seconds"] for job in jobs), 1)}
    write_json(directory / REPORT, report)
    examples = next((row.examples for row in rows if row.examples), [])
    write_compare_report(report | {"examples": examples}, directory)  # titles stay out of compare.json
    stages.finish([REPORT, *REPORT_FILES, *([] if advice["row"] is None else [RECIPE])])
    return report


def _check(base: Recipe, seeds: Sequence[int], generators_per_quantizer: int) -> None:
    """Raise ValueError, before any work, where the primary metric or the spread over seeds would mean nothing."""
    cutoff = int(PRIMARY.partition("@")[2])
    options = base.evaluation
    if cutoff not in options.cutoffs or options.num_beams < cutoff:
        raise ValueError(
            f"{PRIMARY} decides a comparison: evaluation.cutoffs must hold {cutoff} and evaluation.num_beams be at "
            f"least {cutoff}, got {options.cutoffs!r} and {options.num_beams!r}; add or raise them"
        )
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds must be different whole numbers from 0 on, got {list(seeds)!r}; the same seed twice is one run"
        )
    if generators_per_quantizer < 1:
        raise ValueError(f"generators_per_quantizer must be at least 1, got {generators_per_quantizer!r}; raise it")


def _finished(directory: Path, digest: str, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """Return the report of an earlier call where nothing is left to do or to write and nothing changed."""
    if not _all_done(jobs) or not is_finished(directory):
        return None
    try:
        require_finished(directory, checked=None)
    except DamagedFileError as error:
        logger.warning("the report is made again: %s", error)
        return None
    report = read_object(directory / REPORT)
    return report if report.get("digest") == digest and report["complete"] else None


def _all_done(jobs: Sequence[Job]) -> bool:
    return all(job.record["status"] == DONE for job in jobs)


def _baselines(stages: Stages, base: Recipe, rows: Mapping[str, Recipe], data: PreparedData) -> list[Row]:
    """Rank the rows that train nothing, once for all."""
    workspace = make_workspace(stages, base, data)
    described = {name: describe_method(recipe.system) for name, recipe in rows.items()}
    vectors = workspace.text_vectors().digest
    options = dataclasses.asdict(base.evaluation)
    inputs = [recipe.inputs() for recipe in rows.values()]
    digest = content_digest(vectors, data.split.digest, options, base.data.seed, inputs)

    def compute(folder: Path) -> None:
        fitted = {
            name: recipe.system.fit(dataclasses.replace(workspace, row=name), seed=0) for name, recipe in rows.items()
        }
        rankers = rankers_of(fitted, data, base.evaluation)
        test = data.split.test.sample(base.evaluation.max_users, seed=base.data.seed)
        common: Mapping[str, Any] = {"sid_keys": None, "num_items": data.tables.num_items, "digest": digest}
        rank_rows(folder / LISTS, rankers, test, base.evaluation, **common)
        rank_rows(folder / VALIDATION, rankers, validation_cases(base, data), base.evaluation, **common)
        write_json(folder / "requests.json", {name: request_times(ranker, test) for name, ranker in rankers.items()})

    def load(folder: Path) -> list[Row]:
        return baseline_rows(folder, read_json(folder / "requests.json"), described)

    return stages.run("baselines", digest=digest, folder="baselines", compute=compute, load=load)
