"""Command line: `accelerate launch train.py --recipe NAME [--section.field value …]`, the same as `cost-hf train`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from cost_hf.data.schema import DataError
from cost_hf.pipeline import train
from cost_hf.quantizer_training.health import CodebookCollapse
from cost_hf.recipe import RecipeError, nearest, recipe_fields, shipped_recipes
from cost_hf.summary import run_summary

USER_ERRORS = (DataError, RecipeError, CodebookCollapse, ValueError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `cost-hf`; return the exit status (2 for errors that the user can mend)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] != ["train"]:
        parser = argparse.ArgumentParser(prog="cost-hf", description="Generative recommendation with semantic IDs.")
        parser.add_argument("command", choices=["train"], help="train: run a recipe from data to results")
        parser.parse_args(arguments[:1])
    return train_main(arguments[1:])


def train_main(argv: Sequence[str]) -> int:
    """Run one recipe; the entry point of `train.py`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    parser = _parser()
    known, rest = parser.parse_known_args(list(argv))
    try:
        overrides = read_overrides(rest, program=parser.prog)
        run = train(recipe=known.recipe, overrides=overrides, seed=known.seed, output_dir=known.output_dir)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if run.is_main_process:
        print(run_summary(run))
    return 0


def _parser() -> argparse.ArgumentParser:
    recipes = "\n".join(f"  {name:<20} {text}" for name, text in shipped_recipes().items())
    fields = "\n".join(f"  --{dotted:<46} {entry.metadata.get('help', '')}" for dotted, _, entry in recipe_fields())
    parser = argparse.ArgumentParser(
        prog="train.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        description="Train and judge a recommender from a recipe.",
        epilog=f"recipes:\n{recipes}\n\nfields of a recipe (values are YAML):\n{fields}",
    )
    parser.add_argument("--recipe", default="cost_quickstart", help="name of a shipped recipe, or a .yaml file")
    parser.add_argument("--seed", type=int, default=0, help="seed of codes, generator and bootstrap")
    parser.add_argument("--output_dir", default=None, help="run directory; default runs/<recipe>-<seed>")
    return parser


def read_overrides(tokens: Sequence[str], *, program: str) -> dict[str, Any]:
    """Read `--section.field value` and `--section.field=value` pairs; values are YAML.

    Raises:
        RecipeError: for anything else; the nearest name is shown.
    """
    fields = [dotted for dotted, _, _ in recipe_fields()]
    texts = {dotted for dotted, _, entry in recipe_fields() if "str" in str(entry.type).partition("[")[0]}
    options = [*fields, "recipe", "seed", "output_dir"]
    values: dict[str, Any] = {}
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        name, has_value, text = token.removeprefix("--").partition("=")
        if not token.startswith("--") or name not in fields:
            raise RecipeError(
                f"unknown argument {token!r}{nearest(name, options)} (`{program} --help` lists all fields)"
            )
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
