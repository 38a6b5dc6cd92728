"""Commands of recipes: `cost-hf train`, which `accelerate launch train.py` runs too, `check` and `compare`.

Arguments, recipe and paths are checked before anything that takes seconds to import.
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cost_hf.command_line import CommandParser, check_target, report_errors, say, set_up_logging
from cost_hf.experiments.compare.systems import DEFAULT_SYSTEMS, system_names
from cost_hf.experiments.recipe import Recipe, RecipeError, nearest, recipe_fields, shipped_recipes
from cost_hf.yaml_text import read_yaml

BUDGET_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
MAX_SEED = 2**32 - 1  # of numpy's generators
DEFAULT_RECIPE = "cost_quickstart"
OVERWRITE_HELP = "use the directory although it was made from other data, or changes of its catalog would be lost"


def train_main(argv: Sequence[str]) -> int:
    """Run one recipe; the entry point of `train.py`."""
    parser = _parser("train.py", "Train and judge a recommender from a recipe.", argv, recipe=DEFAULT_RECIPE)
    parser.add_argument(
        "--recipe", default=DEFAULT_RECIPE, help=f"name of a shipped recipe, or a .yaml file [{DEFAULT_RECIPE}]"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="seed of codes, generator and bootstrap [0]")
    parser.add_argument("--output_dir", default=None, help="run directory [runs/<recipe>-<seed>]")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        recipe = Recipe.load(known.recipe, overrides)
        recipe.validate()
        _check_paths(recipe)
        check_target(known.output_dir, is_directory=True)
        return lambda: _train(known, overrides)

    return _run(parser, argv, command)


def _train(known: argparse.Namespace, overrides: dict[str, Any]) -> None:
    from accelerate import PartialState

    from cost_hf.experiments.pipeline import train
    from cost_hf.experiments.summary import run_summary

    run = train(
        recipe=known.recipe,
        overrides=overrides,
        seed=known.seed,
        output_dir=known.output_dir,
        overwrite=known.overwrite,
    )
    if run.is_main_process:
        say(run_summary(run))
    PartialState().destroy_process_group()  # a process that exits with its group may abort, its work all done


def check_main(argv: Sequence[str]) -> int:
    """Say what data holds, what training will cost and what to fix; the status is 1 where there are errors."""
    parser = _parser("cost-hf check", "Read data before any training: what is there, what it costs, what to fix.", argv)
    parser.add_argument("data", help="directory of the data, or a Hub data set")
    parser.add_argument(
        "--recipe", default=None, help="recipe whose cost is estimated and whose settings are used [cost_default]"
    )
    parser.add_argument("--json", default=None, help="write the findings to this file, too")
    errors: list[str] = []

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        Recipe.load(known.recipe or "cost_default", overrides)
        _check_source(known.data)
        check_target(known.json, is_directory=False)
        return lambda: _check(known, overrides, errors)

    return _run(parser, argv, command) or int(bool(errors))


def _check(known: argparse.Namespace, overrides: dict[str, Any], errors: list[str]) -> None:
    from cost_hf.experiments.check import check_data
    from cost_hf.files import write_json

    result = check_data(known.data, recipe=known.recipe, overrides=overrides)
    say(result.text())
    if known.json is not None:
        write_json(known.json, result.to_dict())
    errors.extend(problem.message for problem in result.problems if problem.severity == "error")


def compare_main(argv: Sequence[str]) -> int:
    """Compare systems on one split and end with a recommendation."""
    parser = _parser("cost-hf compare", "Compare systems and baselines on one split and evaluator.", argv)
    parser.add_argument("sources", nargs="+", help="data (a directory or Hub data set) and/or recipes to compare")
    parser.add_argument(
        "--systems",
        default=",".join(DEFAULT_SYSTEMS),
        help="rows made from the first recipe, separated by commas (several recipes are rows themselves, too): "
        f"{', '.join(system_names())} [{','.join(DEFAULT_SYSTEMS)}]",
    )
    parser.add_argument("--seeds", type=_seeds, default="0,1,2", help="quantizer seeds, separated by commas [0,1,2]")
    parser.add_argument(
        "--generators_per_quantizer", type=_count, default=1, help="generator seeds for each quantizer [1]"
    )
    parser.add_argument(
        "--budget", type=_time, default=None, help="wall time such as 90s, 60min or 2h; the same command goes on"
    )
    parser.add_argument(
        "--seen", default="allowed", choices=["allowed", "excluded"], help="setting that decides [allowed]"
    )
    parser.add_argument("--reference", default=None, help="parquet of published identifiers, for a calibration row")
    parser.add_argument("--output_dir", default=None, help="directory [runs/compare-<recipe>]")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        systems = [name for name in known.systems.split(",") if name]
        unknown = [name for name in systems if name not in system_names()]
        if unknown:
            names = system_names()
            raise RecipeError(
                f"unknown system {unknown[0]!r}{nearest(unknown[0], names)}; systems are {', '.join(names)}"
            )
        Recipe.load("cost_default", overrides)
        check_target(known.output_dir, is_directory=True)
        if known.reference is not None and not Path(known.reference).is_file():
            raise FileNotFoundError(f"--reference {known.reference!r} is no file; check the path")
        for source in known.sources:
            if source.endswith((".yaml", ".yml")) or source in shipped_recipes():
                Recipe.load(source, overrides)
            else:
                _check_source(source)
        return lambda: _compare(known, systems, overrides)

    return _run(parser, argv, command)


def _compare(known: argparse.Namespace, systems: list[str], overrides: dict[str, Any]) -> None:
    from cost_hf.experiments.compare.compare import compare
    from cost_hf.experiments.compare.sources import resolve_sources
    from cost_hf.reporting import compare_text

    base, others = resolve_sources(known.sources, overrides)
    comparison = compare(
        base,
        systems,
        others=others,
        reference=known.reference,
        seeds=known.seeds,
        generators_per_quantizer=known.generators_per_quantizer,
        budget_seconds=known.budget,
        seen=f"seen_{known.seen}",
        output_dir=known.output_dir,
        overwrite=known.overwrite,
    )
    say(compare_text(comparison.report))
    say(f"\nreport: {comparison.output_dir / 'report.html'}")


def _run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    prepare: Callable[[argparse.Namespace, dict[str, Any]], Callable[[], None]],
) -> int:
    """Parse and check everything, then run; an error that the user can mend becomes one line.

    Args:
        prepare: checks the arguments, quickly, and returns what to run.
    """
    actions: list[Callable[[], None]] = []

    def check() -> None:
        known, rest = parser.parse_known_args(list(argv))
        options = [action.dest for action in parser._actions]
        actions.append(prepare(known, read_overrides(rest, program=parser.prog, options=options)))

    status = report_errors(check)
    if status:
        return status
    set_up_logging()
    return report_errors(actions[0])


def _parser(program: str, description: str, argv: Sequence[str], *, recipe: str | None = None) -> CommandParser:
    """Return a parser whose help lists recipes and fields, with the values of the recipe that `argv` names."""
    chosen, values = _shown_recipe(argv, recipe)
    recipes = "\n".join(f"  {name:<20} {text}" for name, text in shipped_recipes().items())
    fields = "\n".join(_field_lines(values))
    where = "defaults" if chosen is None else f"values of {chosen}"
    return CommandParser(
        program,
        description,
        epilog=f"recipes:\n{recipes}\n\nfields of a recipe, with {where} in brackets (values are YAML; "
        f"`--recipe NAME --help` shows those of a recipe):\n{fields}",
    )


def _shown_recipe(argv: Sequence[str], default: str | None) -> tuple[str | None, Recipe]:
    name = next(_values_of("--recipe", argv), default)
    try:
        return name, Recipe() if name is None else Recipe.load(name)
    except (RecipeError, OSError):  # told when the command runs
        return None, Recipe()


def _values_of(option: str, argv: Sequence[str]) -> Iterator[str]:
    """Yield the values that an option is given."""
    for place, text in enumerate(argv):
        if text.startswith(f"{option}="):
            yield text.partition("=")[2]
        elif text == option and place + 1 < len(argv):
            yield argv[place + 1]


def _field_lines(values: Recipe) -> Iterator[str]:
    for dotted, section, entry in recipe_fields():
        value = getattr(getattr(values, section) if section else values, entry.name)
        shown = value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
        yield f"  --{dotted:<46} {entry.metadata.get('help', '')} [{shown}]"


def _seed(text: str) -> int:
    """Read a seed, as argparse wants its types."""
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MAX_SEED}, got {text!r:.40}")
    return int(text)


def _seeds(text: str) -> list[int]:
    try:
        seeds = [_seed(part.strip()) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas, such as 0,1,2, got {text!r:.80}"
        ) from error
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"expected different seeds, got {text!r:.80}; name each once")
    return seeds


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r:.40}")
    return int(text)


def _time(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", text.strip())
    seconds = float(match.group(1)) * BUDGET_UNITS[match.group(2)] if match else math.inf
    if seconds == math.inf:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 90s, 60min or 2h, got {text!r:.40}; give a number and a unit"
        )
    return seconds


def _check_paths(recipe: Recipe) -> None:
    """Raise FileNotFoundError for a path of the recipe that a later stage would miss, after hours of work."""
    reference, templates = recipe.catalog.reference, recipe.tasks.templates
    if reference is not None and not Path(reference).is_file():
        raise FileNotFoundError(f"catalog.reference {reference!r} is no file; check the path")
    if templates is not None and not Path(templates).is_dir():
        raise FileNotFoundError(f"tasks.templates {templates!r} is no directory; check the path")
    for field, name in (("vectors.model", recipe.vectors.model), ("generator.backbone", recipe.generator.backbone)):
        is_path = name is not None and (Path(name).is_absolute() or name.startswith((".", "~")))
        if name is not None and is_path and not Path(name).is_dir():
            raise FileNotFoundError(f"{field} {name!r} is no directory; check the path, or give a Hub id")


def _check_source(source: str) -> None:
    """Raise for data that are a path which is not there; a Hub data set is `owner/name`."""
    path = Path(source)
    if not path.exists() and (path.is_absolute() or source.count("/") != 1 or source.startswith(".")):
        raise FileNotFoundError(
            f"{source!r} is neither a directory here nor a Hub data set (owner/name)"
            f"{nearest(source, shipped_recipes())}; check the path"
        )


def read_overrides(
    tokens: Sequence[str], *, program: str, options: Sequence[str] = ("recipe", "seed", "output_dir")
) -> dict[str, Any]:
    """Read `--section.field value` and `--section.field=value` pairs; values are YAML.

    Raises:
        RecipeError: for anything else; the nearest name is shown.
    """
    fields = [dotted for dotted, _, _ in recipe_fields()]
    texts = {dotted for dotted, _, entry in recipe_fields() if "str" in str(entry.type).partition("[")[0]}
    known = [*fields, *options]
    values: dict[str, Any] = {}
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        name, has_value, text = token.removeprefix("--").partition("=")
        if not token.startswith("-"):
            recipe = "; a recipe is named by --recipe" if "recipe" in options else ""
            raise RecipeError(
                f"unknown argument {token!r:.80}, expected --field value (`{program} --help` lists all fields){recipe}"
            )
        if not token.startswith("--") or name not in fields:
            raise RecipeError(
                f"unknown argument {token!r:.80}{nearest(name, known)} (`{program} --help` lists all fields)"
            )
        if not has_value:
            if not queue or (queue[0].partition("=")[0].removeprefix("--") in known and queue[0].startswith("--")):
                raise RecipeError(f"--{name} needs a value")
            text = queue.pop(0)
        values[name] = _value(text, accepts_text=name in texts)
    return values


def _value(text: str, *, accepts_text: bool) -> Any:
    """Read a value as YAML; a field of text takes it as it stands (templates are braces, which YAML reads as a map)."""
    if accepts_text:
        return None if text in ("null", "~") else text
    try:
        return read_yaml(text)
    except ValueError as error:
        raise RecipeError(
            f"{text!r:.80} is no YAML value ({error}); quote it, or write it as a list or number"
        ) from error
