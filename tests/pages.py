"""Runs the code of a Markdown page, block by block and from its top, as a reader would.

    python -m tests.pages PAGE DIRECTORY

Python blocks of a page share one namespace. A command has status 0, or one that the comment behind it names, as in
`# status 3` or `# status 0 or 3`. A block with `title="NAME"` is a file: it is written, not run. YAML without
a title is a recipe, which is read and checked. Commands of this package run in the same process, with a small budget
(`TRAINING`, `COMPARING`); any other one runs by itself.
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from cost_hf.cli import main
from cost_hf.experiments.recipe import Recipe
from cost_hf.recipe_files import shipped_recipes

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
STATUS = re.compile(r"#.*\bstatus (\d(?: or \d)*)")
FILES = ("toml", "csv")  # languages of blocks that are files
# commands that run elsewhere, or can't run in a test, and why
ELSEWHERE = {
    "accelerate launch --config_file": "it needs several GPUs; tests/test_two_processes.py trains on two CPUs",
    "make quickstart": "tests/test_quickstart.py trains the same recipe",
    "make ": "the command that this test is part of, or another one of CI",
    "pip install": "CI installs the package by this command",
    "kill": "it stops that server",
    "python benchmarks/shop": "benchmarks/shop.py runs the page with them; its export is beside the page",
    "cost-hf replay logs/": "of the same servers; request_log.md runs the command",
    "cost-hf drift runs/mine --items FILE": "docs/pages/drift.md runs it with a file",
    "cost-hf demo": "tests/hub/test_space_browser.py starts it",
    "cost-hf update runs/mine --clicks FILE": "daily_updates.md runs it on clicks",
    "cost-hf replay LOG": "request_log.md runs it on a log",
    "cost-hf serve": "tests/serving/test_stop.py starts it",
    "curl": "tests/serving/test_api_description.py sends the same",
    "docker": "tests/serving/test_docker.py builds the image where docker is",
    "MODEL=": "the same",
    "cost-hf embed sentence-transformers/": "it needs the model; tests/bulk/test_bulk.py embeds with another one",
    "cost-hf recommend runs/mine --input histories.parquet --output lists_of_ray": "tests/bulk/test_ray.py runs Ray",
    "cost-hf compare data --train-winner": "test_compare.py runs it; the data of the pages are too few",
    "cost-hf compare DIR --train-winner": "the same",
}
# what a page leaves to its reader, and what stands in for it
STAND_INS = {"DIR": "data", "ID_OR_DIR": "lsa", "BACKBONE": "backbone"}
TRAINING = {
    "data.synthetic_users": "80",
    "data.synthetic_items": "96",
    "codes.epochs": "2",
    "codes.level_sizes": "[8, 8, 8]",
    "training.epochs": "1",
    "training.validation_users": "16",
    "evaluation.num_beams": "10",
    "evaluation.cutoffs": "[5, 10]",
    "evaluation.bootstrap_draws": "50",
    "evaluation.max_users": "32",
    "vectors.template": "{title}",
}
# how a comparison begins is enough here
COMPARING = {"budget": "8s", "codes.level_sizes": "[8, 8, 8]", "codes.epochs": "2", "training.epochs": "1"}
PROGRAMS = {"train.py": "train", "upload.py": "upload"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    found = FENCE.finditer(text)
    return [Block(*match.group(1, 2, 3), line=text.count("\n", 0, match.start()) + 2) for match in found]


def commands_of(block: Block) -> list[str]:
    """Return the commands of a shell block, one string each, without comments."""
    return [command for command, _ in commands_with_statuses(block)]


def commands_with_statuses(block: Block) -> list[tuple[str, set[int]]]:
    """Return the commands of a shell block, and the exit statuses that each may have."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+", " ", re.sub(r"(^|\s+)#.*", "", line).strip())
        named = STATUS.search(line)
        if command:
            found.append((command, {0} if named is None else set(map(int, named[1].split(" or ")))))
    return found


def reason_not_to_run(command: str) -> str | None:
    """Return where a command runs instead; None for one that runs here."""
    return next((reason for start, reason in ELSEWHERE.items() if command.startswith(start)), None)


def write_toy_tables(directory: Path) -> None:
    """Write a catalog and a click log, which the pages call `data`."""
    cities = ["lisbon", "oslo", "quito", "dakar", "lima", "kyoto", "cairo", "delhi", "perth", "turin"]
    themes = ["elections", "football", "theatre", "weather", "markets", "music"]
    titles = [f"{theme} in {city}" for theme in themes for city in cities]
    items = pd.DataFrame({"item_id": [f"n{number}" for number in range(60)], "title": titles})
    rows = [(f"u{user}", f"n{(user + 12 * step) % 60}", step) for user in range(80) for step in range(5)]
    directory.mkdir(exist_ok=True)
    items.to_parquet(directory / "items.parquet")
    pd.DataFrame(rows, columns=["user_id", "item_id", "position"]).to_parquet(directory / "interactions.parquet")


def run_page(page: Path, directory: Path) -> dict[str, Any]:
    """Run every block of a page in a directory and return the names that its Python left.

    Raises:
        AssertionError: for a block that does not run, with the line of the page.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(directory):
        for block in blocks_of(page):
            try:
                _run_block(block, namespace)
            except Exception as error:
                error.add_note(f"in the block at {page.relative_to(ROOT)}:{block.line}")
                raise
    return namespace


def _run_block(block: Block, namespace: dict[str, Any]) -> None:
    if block.title is not None:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if block.title == "pyproject.toml":
            _register(tomllib.loads(block.text)["project"])
    elif block.language == "yaml":  # a recipe, or a part of one
        _check_recipe(block.text)
    elif block.language == "python":
        exec(compile(block.text, f"block at line {block.line}", "exec"), namespace)
    elif block.language == "bash":
        for command, statuses in commands_with_statuses(block):
            if reason_not_to_run(command) is None:
                _run_command(command, statuses)
    else:
        raise AssertionError(
            f"a block of {block.language!r} is neither code nor a file; give it a title, or no language"
        )


def _check_recipe(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        Recipe.load(str(path)).validate()


def _register(project: dict[str, Any]) -> None:
    """Write what an installer writes of the entry points of a package, in a directory that is on the path."""
    folder = Path(f"{project['name']}-{project['version']}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _run_command(command: str, statuses: set[int]) -> None:
    arguments = [STAND_INS.get(part, part) for part in shlex.split(command)]
    if arguments[:2] == ["accelerate", "launch"]:
        arguments = ["python", *arguments[2:]]
    if arguments[0] == "python" and arguments[1] in PROGRAMS:
        arguments = ["cost-hf", PROGRAMS[arguments[1]], *arguments[2:]]
    if arguments[0] == "cost-hf":
        status = main(arguments[1:] + list(_small_budget(arguments)))
        assert status in statuses, f"{command}: exit status {status}"
    else:
        subprocess.run(arguments, check=True)


def _small_budget(arguments: list[str]) -> Iterator[str]:
    """Yield options that keep a command short; those that the page gives, and that its method lacks, are left out."""
    options = {"train": TRAINING, "compare": COMPARING}.get(arguments[1])
    if options is None:
        return
    given = {name.removeprefix("--"): value for name, value in pairwise(arguments) if name.startswith("--")}
    named = [name for name in arguments[2:] if name.endswith(".yaml") or name in shipped_recipes()]
    chosen = {name: given[name] for name in ("method", "codes.kind", "vectors.kind") if name in given}
    recipe = Recipe.load(named[0] if named else "cost_default", chosen)
    for name, value in options.items():
        is_chosen = name == "codes.level_sizes" and recipe.level_sizes is None  # by the kind of codes itself
        is_missing = name not in given and recipe.has_field(name) and not is_chosen
        if is_missing or (name == "budget" and name in given):  # of an option that stands twice the last one counts
            yield from (f"--{name}", value)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run_page(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
