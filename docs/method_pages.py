"""A page for every method: its README, names and recipes, so that a new method has one without a list of pages."""

import importlib
from pathlib import Path

from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import PACKAGE, Method, methods
from cost_hf.recipe_files import shipped_recipes

FOLDER = "methods"
FAMILIES = {
    "counting": "No gradient training; fitted in seconds.",
    "dense": "A vector for the history, a vector for every item, and a score for each pair.",
    "generative": "The semantic ID of the next item is generated level by level.",
    "hybrid": "The lists of several systems, or of a generative and a dense side, become one.",
}


def method_pages() -> dict[str, str]:
    """Return the pages by their path: an index, and one for each folder of methods."""
    homes: dict[str, list[type[Method]]] = {}
    for method in methods().values():
        package, _, rest = method.__module__.partition(f"{PACKAGE}.")
        if not package:  # others register methods of their own, which are not documented here
            homes.setdefault(rest.partition(".")[0], []).append(method)
    pages = {f"{FOLDER}/index.md": _index(homes)}
    return pages | {f"{FOLDER}/{home}.md": _page(home, found) for home, found in sorted(homes.items())}


def _index(homes: dict[str, list[type[Method]]]) -> str:
    lines = ["# Methods", "", "`--method NAME` on any recipe runs another method with its own defaults.", ""]
    for family, about in FAMILIES.items():
        found = [(home, method) for home, group in homes.items() for method in group if method.family == family]
        if found:
            lines += [f"## {family.capitalize()}", "", about, ""]
            lines += [f"- [`{method.name}`]({home}.md): {method.summary}" for home, method in found] + [""]
    lines.append("How a method of your own becomes one of these: [adding a method](../adding_a_method.md).")
    return "\n".join(lines) + "\n"


def _page(home: str, found: list[type[Method]]) -> str:
    module = importlib.import_module(f"{PACKAGE}.{home}")
    readme = Path(module.__path__[0]) / "README.md"
    text = readme.read_text(encoding="utf-8").rstrip() if readme.is_file() else f"# {home}\n\n{module.__doc__}"
    return "\n".join([text, "", "## Names and recipes", "", *_names(found), "", *_recipes(found)])


def _names(found: list[type[Method]]) -> list[str]:
    lines = ["| name | family | |", "|---|---|---|"]
    for method in found:
        lines.append(f"| `{method.name}` | {method.family} | {method.summary} |")
        for variant in method.variants():
            if variant.name != method.name:
                lines.append(f"| `{variant.name}` | variant of `{variant.method}` | {variant.description} |")
    for method in found:
        if method.options_class.__dataclass_fields__:
            lines += ["", f"[Fields of a recipe of `{method.name}`](../configuration/{method.name}.md)"]
    return lines


def _recipes(found: list[type[Method]]) -> list[str]:
    names = {method.name for method in found}
    recipes = [Recipe.load(name) for name in shipped_recipes()]
    lines = [f"- `{recipe.name}`: {recipe.description}" for recipe in recipes if recipe.method in names]
    return ["Recipes:", "", *lines, ""] if lines else []
