"""Commands of recipes: `cost-hf train`, which `accelerate launch train.py` runs too, `check` and `compare`."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from accelerate import PartialState

from cost_hf.checking import check_data
from cost_hf.command_line import report_errors, set_up_logging
from cost_hf.comparison import compare
from cost_hf.comparison.sources import resolve_sources
from cost_hf.comparison.systems import DEFAULT_SYSTEMS, system_names
from cost_hf.files import write_json
from cost_hf.pipeline import train
from cost_hf.recipe import RecipeError, nearest, recipe_fields, shipped_recipes
from cost_hf.reporting import compare_text
from cost_hf.summary import run_summary

BUDGET_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def train_main(argv: Sequence[str]) -> int:
    """Run one recipe; the entry point of `train.py`."""
    parser = _parser("train.py", "Train and judge a recommender from a recipe.")
    parser.add_argument("--recipe", default="cost_quickstart", help="name of a shipped recipe, or a .yaml file")
    parser.add_argument("--seed", type=int, default=0, help="seed of codes, generator and bootstrap")
    parser.add_argument("--output_dir", default=None, help="run directory; default runs/<recipe>-<seed>")

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> None:
        run = train(recipe=known.recipe, overrides=overrides, seed=known.seed, output_dir=known.output_dir)
        if run.is_main_process:
            print(run_summary(run))
        PartialState().destroy_process_group()  # a process that exits with its group may abort, its work all done

    return _run(parser, argv, command)


def check_main(argv: Sequence[str]) -> int:
    """Say what data holds, what training will cost and what to fix; the status is 1 where there are errors."""
    parser = _parser("cost-hf check", "Read data before any training: what is there, what it costs, what to fix.")
    parser.add_argument("data", help="directory of the data, or a Hub data set")
    parser.add_argument("--recipe", default=None, help="recipe whose cost is estimated and whose settings are used")
    parser.add_argument("--json", default=None, help="write the findings to this file, too")
    errors: list[str] = []

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> None:
        result = check_data(known.data, recipe=known.recipe, overrides=overrides)
        print(result.text())
        if known.json is not None:
            write_json(known.json, result.to_dict())
        errors.extend(problem.message for problem in result.problems if problem.severity == "error")

    return _run(parser, argv, command) or int(bool(errors))


def compare_main(argv: Sequence[str]) -> int:
    """Compare systems on one split and end with a recommendation."""
    parser = _parser("cost-hf compare", "Compare systems and baselines on one split and evaluator.")
    parser.add_argument("sources", nargs="+", help="data (a directory or Hub data set) and/or recipes to compare")
    parser.add_argument(
        "--systems",
        default=",".join(DEFAULT_SYSTEMS),
        help="rows made from the first recipe, separated by commas (several recipes are rows themselves, too): "
        f"{', '.join(system_names())}",
    )
    parser.add_argument("--seeds", default="0,1,2", help="quantizer seeds, separated by commas")
    parser.add_argument("--generators_per_quantizer", type=int, default=1, help="generator seeds for each quantizer")
    parser.add_argument("--budget", default=None, help="wall time such as 90s, 60min or 2h; the same command goes on")
    parser.add_argument("--seen", default="allowed", choices=["allowed", "excluded"], help="setting that decides")
    parser.add_argument("--reference", default=None, help="parquet of published identifiers, for a calibration row")
    parser.add_argument("--output_dir", default=None, help="directory; default runs/compare-<recipe>")

    def command(known: argparse.Namespace, overrides: dict[str, Any]) -> None:
        base, others = resolve_sources(known.sources, overrides)
        comparison = compare(
            base,
            [name for name in known.systems.split(",") if name],
            others=others,
            reference=known.reference,
            seeds=_integers(known.seeds),
            generators_per_quantizer=known.generators_per_quantizer,
            budget_seconds=None if known.budget is None else _seconds(known.budget),
            seen=f"seen_{known.seen}",
            output_dir=known.output_dir,
        )
        print(compare_text(comparison.report))
        print(f"\nreport: {comparison.output_dir / 'report.html'}")

    return _run(parser, argv, command)


def _run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    command: Callable[[argparse.Namespace, dict[str, Any]], None],
) -> int:
    """Parse, run, and turn an error that the user can mend into one line."""
    set_up_logging()
    known, rest = parser.parse_known_args(list(argv))
    options = [action.dest for action in parser._actions]
    return report_errors(lambda: command(known, read_overrides(rest, program=parser.prog, options=options)))


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    recipes = "\n".join(f"  {name:<20} {text}" for name, text in shipped_recipes().items())
    fields = "\n".join(f"  --{dotted:<46} {entry.metadata.get('help', '')}" for dotted, _, entry in recipe_fields())
    return argparse.ArgumentParser(
        prog=program,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        description=description,
        epilog=f"recipes:\n{recipes}\n\nfields of a recipe (values are YAML):\n{fields}",
    )


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--seeds takes whole numbers separated by commas, got {text!r}; write --seeds 0,1,2"
        ) from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", text.strip())
    if match is None:
        raise ValueError(f"--budget takes a time such as 90s, 60min or 2h, got {text!r}; give a number and a unit")
    return float(match.group(1)) * BUDGET_UNITS[match.group(2)]


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
        if not token.startswith("--") or name not in fields:
            raise RecipeError(f"unknown argument {token!r}{nearest(name, known)} (`{program} --help` lists all fields)")
        if not has_value:
            if not queue:
                raise RecipeError(f"--{name} needs a value")
            text = queue.pop(0)
        values[name] = _value(text, accepts_text=name in texts)
    return values


def _value(text: str, *, accepts_text: bool) -> Any:
    """Read a value as YAML; a field of text takes it as it stands (templates are braces, which YAML reads as a map)."""
    if accepts_text:
        return None if text in ("null", "~") else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r} is no YAML value ({error}); quote it, or write it as a list or number") from error
