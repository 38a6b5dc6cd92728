"""Commands of recipes: `cost-hf train`, which `accelerate launch train.py` runs too, `check` and `compare`.

Arguments, recipe and paths are checked before anything that takes seconds to import.
"""

import argparse
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentError, ArgumentParser

from cost_hf.command_line import CommandParser, check_target, print_text, report_errors, set_up_logging
from cost_hf.experiments.own_data import OWN_DATA, QUICKSTART, SOURCES, names_own_data
from cost_hf.experiments.recipe import Recipe, load_beside, row_recipe
from cost_hf.methods.base import methods
from cost_hf.options import KindOptions
from cost_hf.recipe_fields import RecipeError, field_hint, nearest, type_name
from cost_hf.recipe_files import COMMON, shipped_recipes
from cost_hf.yaml_text import read_yaml

BUDGET_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
MAX_SEED = 2**32 - 1  # of numpy's generators
OVERWRITE_HELP = "use the directory although it was made from other data, or changes of its catalog would be lost"
COMMON_FIELDS = (
    "method",
    "data.path",
    "data.columns",
    "vectors.model",
    "vectors.template",
    "codes.kind",
    "codes.level_sizes",
    "training.epochs",
    "training.report_to",
    "evaluation.baselines",
)


def train_main(argv: Sequence[str]) -> int:
    """Run one recipe; the entry point of `train.py`."""
    parser = _parser("cost-hf train", "Train and evaluate a recommender from a recipe.", argv)
    parser.add_argument(
        "--recipe",
        default=None,
        help=f"name of a shipped recipe, or a .yaml file [chosen for the data; {QUICKSTART} without any]",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="seed of codes, generator and bootstrap [0]")
    parser.add_argument("--output_dir", default=None, help="run directory [runs/<recipe or data>-<seed>]")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        default = OWN_DATA if names_own_data(overrides) else QUICKSTART
        recipe = Recipe.load(known.recipe or default, overrides)
        recipe.validate()
        check_paths(recipe)
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
        print_text(run_summary(run))
    PartialState().destroy_process_group()  # a process that exits with its group may abort, its work all done


def check_main(argv: Sequence[str]) -> int:
    """Report what the data hold, what training will cost and what to fix; the status is 1 where there are errors."""
    parser = _parser("cost-hf check", "Read data before any training: what is there, what it costs, what to fix.", argv)
    parser.add_argument("data", help="directory of the data, or a Hub data set")
    parser.add_argument(
        "--recipe", default=None, help=f"recipe whose cost is estimated and whose settings are used [{OWN_DATA}]"
    )
    parser.add_argument("--json", default=None, help="write the findings to this file, too")
    errors: list[str] = []

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        Recipe.load(known.recipe or OWN_DATA, overrides)
        _check_source(known.data)
        check_target(known.json, is_directory=False)
        return lambda: _check(known, overrides, errors)

    return _run(parser, argv, command) or int(bool(errors))


def _check(known: argparse.Namespace, overrides: dict[str, Any], errors: list[str]) -> None:
    from cost_hf.experiments.check.check import check
    from cost_hf.files import write_json

    result = check(known.data, recipe=known.recipe, overrides=overrides)
    print_text(result.text())
    if known.json is not None:
        write_json(known.json, result.to_dict())
    errors.extend(problem.message for problem in result.problems if problem.severity == "error")


def compare_main(argv: Sequence[str]) -> int:
    """Compare methods on one split and end with advice on what to use."""
    parser = _parser("cost-hf compare", "Compare methods and baselines on one split and evaluator.", argv)
    parser.add_argument("sources", nargs="+", help="data (a directory or Hub data set) and/or recipes to compare")
    parser.add_argument(
        "--systems",
        type=_names,
        default=None,
        help="rows, separated by commas: names of methods and variants on the first recipe, or recipes (several "
        "recipes are rows themselves, too); by default those that the methods propose",
    )
    parser.add_argument("--seeds", type=_seeds, default="0,1,2", help="quantizer seeds, separated by commas [0,1,2]")
    parser.add_argument(
        "--generators_per_quantizer", type=_count, default=1, help="generator seeds for each quantizer [1]"
    )
    parser.add_argument(
        "--budget", type=_time, default=None, help="wall time such as 90s, 60min or 2h; the same command resumes"
    )
    parser.add_argument(
        "--seen", default="allowed", choices=["allowed", "excluded"], help="setting that decides [allowed]"
    )
    parser.add_argument("--reference", default=None, help="parquet of published identifiers, for a calibration row")
    parser.add_argument("--no-hybrids", "--no_hybrids", action="store_true", help="add no row that combines the others")
    parser.add_argument("--output_dir", default=None, help="directory [runs/compare-<recipe>]")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    parser.add_argument(
        "--train-winner",
        "--train_winner",
        metavar="OUT",
        default=None,
        help="leave the recommended system in this run directory; the exit status is 1 where nothing is recommended",
    )
    missing: list[str] = []

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> Callable[[], None]:
        recipes = [source for source in known.sources if _is_recipe(source)]
        base = Recipe.load(recipes[0], overrides) if recipes else Recipe.load(OWN_DATA, common_overrides(overrides))
        for name in known.systems or ():
            row_recipe(name, base)
        check_target(known.output_dir, is_directory=True)
        check_target(known.train_winner, is_directory=True)
        if known.reference is not None and not Path(known.reference).is_file():
            raise FileNotFoundError(f"--reference {known.reference!r} is no file; check the path")
        for source in known.sources:
            if source in recipes:
                load_beside(base, source, overrides)
            else:
                _check_source(source)
        return lambda: _compare(known, overrides, missing)

    return _run(parser, argv, command) or int(bool(missing))


def _compare(known: argparse.Namespace, overrides: dict[str, Any], missing: list[str]) -> None:
    from cost_hf.experiments.compare.compare import compare
    from cost_hf.reporting import compare_text, load_line

    comparison = compare(
        known.sources,
        known.systems,
        overrides=overrides,
        reference=known.reference,
        hybrids=not known.no_hybrids,
        seeds=known.seeds,
        generators_per_quantizer=known.generators_per_quantizer,
        budget_seconds=known.budget,
        seen=f"seen_{known.seen}",
        output_dir=known.output_dir,
        overwrite=known.overwrite,
        train_winner=known.train_winner,
    )
    print_text(compare_text(comparison.report))
    print_text(f"\nreport: {comparison.output_dir / 'report.html'}")
    if comparison.winner is not None:
        target = comparison.winner.output_dir
        print_text(f"\n{comparison.report['recommendation']['row']} is ready in {target}:")
        print_text(f"  {shlex.join(['cost-hf', 'demo', str(target)])}")
        print_text(f"  {shlex.join(['cost-hf', 'upload', str(target), '--dry-run', '--namespace', 'NAME'])}")
        print_text(f"  {load_line(target)}")
    elif known.train_winner is not None:
        missing.append("a recommended system")
        print_text(f"\nnothing is recommended, so {known.train_winner} was not made")


def _run(
    parser: CommandParser,
    argv: Sequence[str],
    prepare: Callable[[argparse.Namespace, dict[str, Any]], Callable[[], None]],
) -> int:
    """Parse and check everything, then run; an error that the user can fix becomes one line.

    Args:
        prepare: checks the arguments, quickly, and returns what to run.
    """
    actions: list[Callable[[], None]] = []

    def check() -> None:
        known, rest = parser.parse_known_args(list(argv))
        options = [action.dest for action in parser._actions]
        recipe = _named_recipe(argv, sources=getattr(known, "sources", ()))
        actions.append(prepare(known, read_overrides(rest, recipe, program=parser.prog, options=options)))

    status = report_errors(check)
    if status:
        return status
    set_up_logging()
    return report_errors(actions[0])


def _parser(program: str, description: str, argv: Sequence[str]) -> CommandParser:
    """Return a parser whose help lists the recipes, or the fields of the recipe or method that `argv` names."""
    named = [name for option in ("--recipe", "--method") for name in _values_of(option, argv)]
    if named and {"-h", "--help"} & set(argv):
        return CommandParser(program, description, epilog=lambda: recipe_help(_named_recipe(argv)))
    return CommandParser(program, description, epilog=lambda: short_help(program))


def short_help(program: str) -> str:
    """Return the recipes, the methods and the fields that are changed most."""
    recipes = [f"  {name:<18} {text.partition(';')[0]}" for name, text in shipped_recipes().items()]
    fields = ", ".join(f"--{name}" for name in COMMON_FIELDS)
    return "\n".join(
        [
            "recipes:",
            *recipes,
            "",
            f"methods (--method NAME on any recipe): {', '.join(methods())}",
            f"fields, among others: {fields}",
            f"all fields of a recipe, with their values: {program} --recipe NAME --help",
        ]
    )


def recipe_help(recipe: Recipe) -> str:
    """Return every field of a recipe with its help and value, section by section."""
    lines = [f"recipe {recipe.name}: {recipe.description}", "", "fields and their values (values are YAML):"]
    section = ""
    for entry in recipe.fields():
        if (own := entry.dotted.partition(".")[0]) != section:
            section = own
            lines.append("")
        lines.append(f"  --{entry.dotted:<46} {entry.help} [{_shown(entry.value)}]")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)


def _named_recipe(argv: Sequence[str], *, sources: Sequence[str] = ()) -> Recipe:
    """Return the recipe that the arguments name, with their method and kinds: what decides which fields exist.

    Args:
        argv: all arguments.
        sources: those of them that may be recipes; a method may have the name of one.
    """
    name = next(_values_of("--recipe", argv), None)
    if name is None:
        name = next(filter(_is_recipe, sources), None)
    chosen = {}
    for option in argv:
        dotted = option.removeprefix("--").partition("=")[0]
        if option.startswith("--") and (dotted == "method" or dotted.endswith(".kind")):
            chosen[dotted] = next(_values_of(f"--{dotted}", argv), "")
    # the kind of a section exists with its method alone; a wrong one is reported when the recipe is loaded
    if name is None:
        reader = next(_values_of("--data.reader", argv), "synthetic")
        named: dict[str, Any] = {option: next(_values_of(f"--{option}", argv), None) for option in SOURCES}
        name = OWN_DATA if names_own_data(named | {"data.reader": reader}) else QUICKSTART
    return Recipe.load(name, chosen)


def _is_recipe(source: str) -> bool:
    return source.endswith((".yaml", ".yml")) or source in shipped_recipes()


def _values_of(option: str, argv: Sequence[str]) -> Iterator[str]:
    """Yield the values that an option is given."""
    for position, text in enumerate(argv):
        if text.startswith(f"{option}="):
            yield text.partition("=")[2]
        elif text == option and position + 1 < len(argv):
            yield argv[position + 1]


def read_overrides(
    tokens: Sequence[str], recipe: Recipe, *, program: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Read `--section.field value` and `--section.field=value` pairs; values are YAML.

    Args:
        recipe: whose fields there are.
        program: named in errors.
        options: other options of the command, for the nearest name.

    Raises:
        RecipeError: for anything else; the nearest name is shown.
    """
    hints = {entry.dotted: entry.hint for entry in recipe.fields()}
    parser = ArgumentParser(prog=program, exit_on_error=False, default_env=False, allow_abbrev=False, add_help=False)
    for dotted, hint in hints.items():
        parser.add_argument(f"--{dotted}", type=hint)
    try:
        given = vars(parser.parse_args(list(tokens), defaults=False).as_flat())
    except ArgumentError as error:
        _refuse(str(error), tokens, recipe, hints, program=program, options=options)
    for dotted, value in given.items():
        if isinstance(value, dict | list):
            _check_yaml(dotted, next(_values_of(f"--{dotted}", tokens), ""))
    return given


def _check_yaml(dotted: str, text: str) -> None:
    """Raise RecipeError for what recipe files may not hold either: a key that is given twice, or an alias."""
    try:
        read_yaml(text)
    except ValueError as error:
        raise RecipeError(f"--{dotted} {text!r:.80} can't be read: {error}") from error


def _refuse(
    message: str,
    tokens: Sequence[str],
    recipe: Recipe,
    hints: Mapping[str, Any],
    *,
    program: str,
    options: Sequence[str],
) -> NoReturn:
    """Raise RecipeError for what the parser of the fields could not read."""
    if found := re.match(r'Parser key "([^"]+)"', message):
        dotted = found.group(1)
        text = next(_values_of(f"--{dotted}", tokens), "")
        raise RecipeError(f"{dotted} must be {type_name(hints[dotted])}, got {text!r:.80}")
    if found := re.match(r"argument (--\S+?),?( --\S+)?: expected", message):
        raise RecipeError(f"{found.group(1)} needs a value")
    unknown = message.partition("unrecognized arguments: ")[2]
    token = next((token for token in tokens if unknown.startswith(token)), unknown)
    if not token.startswith("-"):
        hint = "; a recipe is named by --recipe" if "recipe" in options else ""
        raise RecipeError(
            f"unknown argument {token!r:.80}, expected --field value (`{program} --help` lists recipes){hint}"
        )
    name = token.removeprefix("--").partition("=")[0]
    sections = recipe.sections()
    section = name.rpartition(".")[0]
    own = sections.get(section)
    kind = f" with {section}.kind {own.kind}" if isinstance(own, KindOptions) else ""
    hint = field_hint(name, sections, others=["method", *options])
    if section and not hint and section not in {field.rpartition(".")[0] for field in hints}:
        hint = f", which has no section {section!r}; leave it out"
    raise RecipeError(
        f"unknown argument {token!r:.80} for a recipe of method {recipe.method}{kind}{hint} "
        f"(`{program} --recipe NAME --help` lists the fields of a recipe)"
    )


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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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


def check_paths(recipe: Recipe) -> None:
    """Raise FileNotFoundError for a path of the recipe that a later stage would miss, after hours of work."""
    recipe.system.check_paths()
    recipe.vectors.check_paths()


def common_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of sections that recipes of all methods have."""
    return {dotted: value for dotted, value in overrides.items() if dotted.partition(".")[0] in COMMON}


def _check_source(source: str) -> None:
    """Raise for data that are a path which is not there; a Hub data set is `owner/name`."""
    path = Path(source)
    if not path.exists() and (path.is_absolute() or source.count("/") != 1 or source.startswith(".")):
        raise FileNotFoundError(
            f"{source!r} is neither a directory here nor a Hub data set (owner/name)"
            f"{nearest(source, shipped_recipes())}; check the path"
        )
