"""`cost-hf check`: read a data set before any training and report what is there, what it costs and what to fix."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cost_hf.data.errors import DataError
from cost_hf.data.item_columns import item_columns
from cost_hf.data.options import DataOptions, VectorOptions
from cost_hf.data.schema import Tables
from cost_hf.experiments.check.advice import code_problems, data_problems, power_problems, split_problems
from cost_hf.experiments.check.code_sizes import (
    MAX_COLLIDED,
    MAX_COLLIDED_STAND_IN,
    CodeSize,
    advised_size,
    measure_code_sizes,
)
from cost_hf.experiments.check.estimates import RunCosts, estimate
from cost_hf.experiments.check.facts import ClickFacts, click_facts, try_split
from cost_hf.experiments.check.guess import ColumnGuess
from cost_hf.experiments.check.power import Power, measure_power
from cost_hf.experiments.check.problems import Problem, by_severity
from cost_hf.experiments.check.reading import Reading, read_leniently
from cost_hf.experiments.check.texts import TextFacts, letter_grams, text_facts
from cost_hf.experiments.check.unused import UnusedColumn
from cost_hf.experiments.check.vectors import CheckVectors, check_vectors, column_problems, text_options
from cost_hf.experiments.own_data import LEVEL_SIZES, OWN_DATA
from cost_hf.experiments.recipe import Recipe
from cost_hf.options import ItemFacts
from cost_hf.reporting.check import check_text, command_line, flag_value


@dataclass(frozen=True)
class CheckResult:
    """Everything that a check found.

    Attributes:
        source: what was checked.
        recipe: name of the recipe that costs and advice are about.
        options: the data section with what was found.
        guess: columns under other names.
        clicks, texts: facts.
        vector_origin: what the code sizes were measured on.
        code_sizes: smallest first; `advised` is the one to take.
        power: what the test part can show; None without a split.
        estimate: costs, or why they were not measured.
        unused: columns that a run does not read.
        problems: errors first; rows that a run would stop at are among them.
        flags: dotted fields that a run on this data needs, as text.
        commands: what to run next.
    """

    source: str
    recipe: str
    options: DataOptions
    guess: ColumnGuess
    clicks: ClickFacts
    texts: TextFacts
    vector_origin: str
    code_sizes: tuple[CodeSize, ...]
    advised: CodeSize
    power: Power | None
    estimate: RunCosts | str
    unused: tuple[UnusedColumn, ...]
    problems: tuple[Problem, ...]
    flags: dict[str, str]
    commands: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        found = dataclasses.asdict(self)
        if self.power is not None:
            relative = self.power.relative if self.power.level > 0 else None
            found["power"] |= {"detectable": self.power.detectable, "relative": relative}
        return found

    def text(self) -> str:
        """Return the report for a terminal."""
        return check_text(self.to_dict())


def check(path: str | Path, *, recipe: str | None = None, overrides: Mapping[str, Any] | None = None) -> CheckResult:
    """Check a data set: a directory of tables, raw files of a known form, or a Hub id.

    Args:
        path: where the data are.
        recipe: shipped recipe or YAML file to be run on them; by default the one for tables of any kind.
        overrides: dotted fields, as for `train`.

    Raises:
        DataError: where the tables can't be read at all.
        RecipeError: for an unknown recipe, field or value.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import cost_hf
        >>> items = [f"i{n},tea number {n}" for n in range(30)]
        >>> clicks = [f"u{user},i{(user + step) % 30},{step}" for user in range(50) for step in range(5)]
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for name, rows in {
        ...         "items": ["item_id,title", *items],
        ...         "interactions": ["user_id,item_id,position", *clicks],
        ...     }.items():
        ...         _ = Path(directory, f"{name}.csv").write_text("\\n".join(rows))
        ...     found = cost_hf.check(directory, overrides={"method": "markov"})
        >>> found.clicks.users, found.clicks.items
        (50, 30)
    """
    given = dict(overrides or {}) | {"data.path": str(path)}
    name = recipe or OWN_DATA
    resolved = Recipe.load(name, given)
    if resolved.data.reader == "synthetic":
        resolved.data.reader = "tables"
    texts = text_options(resolved)
    reading = read_leniently(resolved.data, texts.template, resolved.vectors)
    resolved.data = reading.options
    texts.template = reading.template
    keeps_sizes = recipe is not None or LEVEL_SIZES in given
    return _measure(reading, resolved, given, name=name, keeps_sizes=keeps_sizes)


def _measure(reading: Reading, recipe: Recipe, given: dict[str, Any], *, name: str, keeps_sizes: bool) -> CheckResult:
    """Measure everything; without `keeps_sizes` the recipe gets the advised level sizes."""
    tables = reading.tables
    options = reading.options
    clicks = click_facts(tables, options)
    grams = letter_grams(reading.texts)
    texts = text_facts(reading.texts, grams, template=reading.template, columns=reading.columns)
    vectors = check_vectors(reading.texts, grams, text_options(recipe))
    present = _walked_sizes(recipe)
    sizes = measure_code_sizes(vectors.vectors, reading.texts, also=present or [])
    bounds: dict[str, Any] = {
        "most_collided": MAX_COLLIDED_STAND_IN if vectors.origin == "stand_in" else MAX_COLLIDED,
        "capacity": tables.num_items if recipe.append_size is None else recipe.append_size,
    }
    advised = advised_size(sizes, **bounds)
    if present is not None and not keeps_sizes:
        recipe.set(LEVEL_SIZES, list(advised.level_sizes))
    problems = [*reading.problems, *split_problems(clicks, options.split), *data_problems(clicks, texts)]
    problems += [*column_problems(tables.items, recipe.vectors), *_option_problems(recipe, tables)]
    walked = _walked_sizes(recipe)
    if walked is not None and recipe.vectors.is_text and not recipe.sections()["codes"].gives_unique_codes:
        problems += code_problems(sizes, tuple(walked), advised, **bounds)
    power, costs, more = _measure_split(reading, recipe, clicks, vectors)
    flags = _flags(reading, recipe, given, name=name)
    return CheckResult(
        source=given["data.path"],
        recipe=name,
        options=options,
        guess=reading.guess,
        clicks=clicks,
        texts=texts,
        vector_origin=vectors.origin,
        code_sizes=tuple(sizes),
        advised=advised,
        power=power,
        estimate=costs,
        unused=tuple(reading.unused),
        problems=tuple(by_severity([*problems, *more])),
        flags=flags,
        commands=_commands(name, flags),
    )


def _walked_sizes(recipe: Recipe) -> list[int] | None:
    """Return the codes per level, where levels refine each other; residual k-means says nothing of parallel ones."""
    codes = recipe.sections().get("codes")
    return None if codes is None or codes.has_parallel_levels else recipe.level_sizes


def _option_problems(recipe: Recipe, tables: Tables) -> list[Problem]:
    """Return options of the recipe at which a run would stop; where there are none, what is better changed in them."""
    columns = item_columns(tables.items, recipe.data.exclude_columns).column_names
    width = recipe.vectors.most_width(tables.num_items)
    facts = ItemFacts(tables.items, tables.num_items, tuple(columns), width)
    misfits = _misfits(recipe, facts)
    return misfits or [Problem("note", own.message, own.remedy) for own in recipe.system.advice(facts)]


def _misfits(recipe: Recipe, facts: ItemFacts) -> list[Problem]:
    """Return options of the recipe that do not fit the items, or name no file."""
    checks: list[Callable[[], None]] = [
        *(partial(section.check_items, facts) for section in (recipe.vectors, recipe.system)),
        recipe.vectors.check_paths,
        recipe.system.check_paths,
    ]
    problems = []
    for stop_where_wrong in checks:
        try:
            stop_where_wrong()
        except (ValueError, FileNotFoundError) as error:
            message, _, remedy = str(error).partition("; ")
            problems.append(Problem("error", message, remedy))
    return problems


def _measure_split(
    reading: Reading, recipe: Recipe, clicks: ClickFacts, vectors: CheckVectors
) -> tuple[Power | None, RunCosts | str, list[Problem]]:
    """Return what the chosen split can show and what training on it costs; nothing where it is not possible."""
    tables = reading.tables
    options = reading.options
    split = try_split(tables, options, options.split)
    if isinstance(split, DataError):
        return None, "there is no split to train on", []
    power = measure_power(tables, split, vectors.vectors)
    return power, estimate(recipe, tables, split, vectors), power_problems(clicks, power)


def _flags(reading: Reading, recipe: Recipe, given: dict[str, Any], *, name: str) -> dict[str, str]:
    """Return the fields in which a run on this data must differ from the recipe, as the command line takes them."""
    shipped = Recipe.load(name)
    usual_template = shipped.vectors.template if isinstance(shipped.vectors, VectorOptions) else None
    options = reading.options
    found: dict[str, tuple[Any, Any]] = {
        "data.reader": (options.reader, shipped.data.reader),
        "data.items": (options.items, shipped.data.items),
        "data.interactions": (options.interactions, shipped.data.interactions),
        "data.columns": (options.columns, shipped.data.columns),
    }
    if isinstance(recipe.vectors, VectorOptions):
        found["vectors.template"] = (reading.template, usual_template)
    walked = _walked_sizes(recipe)
    if walked is not None:
        found[LEVEL_SIZES] = (walked, shipped.level_sizes)
    values = given | {dotted: value for dotted, (value, usual) in found.items() if value != usual} | reading.needed
    return {dotted: flag_value(value) for dotted, value in values.items()}


def _commands(name: str, flags: dict[str, str]) -> tuple[str, ...]:
    sources = [flags["data.path"], *([] if name == OWN_DATA else [name])]
    rest = {dotted: value for dotted, value in flags.items() if dotted != "data.path"}
    return (
        command_line(f"cost-hf compare {shlex.join(sources)}", rest | {"budget": "60min"}),
        # without a recipe it is chosen for the data
        command_line("cost-hf train" if name == OWN_DATA else f"cost-hf train --recipe {shlex.quote(name)}", flags),
    )
