"""A page for every method: its README, names and recipes, so that a new method has one without a list of pages."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from cost_hf.experiments.recipe import Recipe, shipped_recipes
from cost_hf.methods.base import PACKAGE, Method, methods

FOLDER = "methods"
FAMILIES = {
    "counting": "Counting: no gradient training; fitted in seconds.",
    "dense": "Dense: a vector for the user, a vector for every item, one score for each.",
    "generative": "Generative: the semantic ID of the next item is generated token by token.",
    "hybrid": "Hybrid: lists of several systems, or of a generative and a dense side, become one.",
}


def method_pages() -> dict[str, str]:
    """Return the pages by their path: an index, and one for each folder or module of methods."""
    homes: dict[str, list[type[Method]]] = {}
    for method in methods().values():
        homes.setdefault(_home(method), []).append(method)
    pages = {f"{FOLDER}/index.md": _index(homes)}
    return pages | {f"{FOLDER}/{home}.md": _page(home, found) for home, found in homes.items()}


def _home(method: type[Method]) -> str:
    """Return the name of the folder or module below `cost_hf.methods`, or the method's own name elsewhere."""
    package, _, rest = method.__module__.partition(f"{PACKAGE}.")
    return method.name if package else rest.split(".")[0]


def _index(homes: dict[str, list[type[Method]]]) -> str:
    lines = ["# Methods", "", "`--method NAME` on any recipe runs another method with its own defaults.", ""]
    for family, about in FAMILIES.items():
        found = [(home, method) for home, group in homes.items() for method in group if method.family == family]
        if found:
            lines += [f"## {family.capitalize()}", "", about.partition(": ")[2].capitalize(), ""]
            lines += [f"- [`{method.name}`]({home}.md): {method.summary}" for home, method in found] + [""]
    lines.append("How a method of your own becomes one of these: [adding a method](../adding_a_method.md).")
    return "\n".join(lines) + "\n"


def _page(home: str, found: list[type[Method]]) -> str:
    module = importlib.import_module(found[0].__module__)
    return "\n".join([_readme(home, module), "", "## Names and recipes", "", *_names(found), "", *_recipes(found)])


def _readme(home: str, module: ModuleType) -> str:
    """Return what is written beside the method: README.md of a folder, NAME.md of a module, else its docstring."""
    folder = Path(inspect.getfile(module)).parent
    for path in (folder / "README.md", folder / f"{home}.md"):
        if path.is_file():
            return path.read_text(encoding="utf-8").rstrip()
    return f"# {home.replace('_', ' ').capitalize()}\n\n{inspect.getdoc(module)}"


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
