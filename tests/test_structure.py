"""The structure of the package: methods are named in their folders alone, the public names exist, nothing is unpickled.

That imports point downwards is a contract of import-linter (`make lint`).
"""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import cost_hf
from cost_hf.methods.base import methods, variants
from cost_hf.quantizers.base import CodesOptions

PACKAGE = Path(cost_hf.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.parent.name != "metrics")


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def texts_of(tree: ast.AST) -> set[str]:
    """Return the texts of a module that are values: no docstrings and no types."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation)
    return {node.value for node in constants if isinstance(node.value, str)}


OUTSIDE = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] != "methods"]
# a recommender answers an empty history by popularity, and items have a column store: neither is the method
ALSO_A_WORD = {"popularity", "store"}


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_code_outside_of_the_methods_names_one(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {*methods(), *variants()} - set(CodesOptions.kinds) - ALSO_A_WORD
    # codes that are fitted to collaborative vectors say in one field by which method, as their paper does
    kinds = (kind for kind in CodesOptions.kinds.values() if inspect.getfile(kind) == str(path))
    texts = texts_of(tree) - {getattr(kind, "collaborative_method", None) for kind in kinds}

    assert not texts & names
    for text in texts:
        assert not [name for name in ("sasrec", "liger", "cobra") if name in text.lower()]
    of_one = {f"cost_hf.methods.{folder.name}" for folder in (PACKAGE / "methods").iterdir() if folder.is_dir()}
    assert not [name for name in imported_modules(path) if any(name.startswith(home) for home in of_one)]


def test_the_rooms_are_under_contract():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = " ".join(settings["contracts"][0]["layers"])

    assert rooms == set(re.findall(r"cost_hf\.(\w+)", layers))


def test_the_public_names_are_there():
    for name in cost_hf.__all__:
        assert getattr(cost_hf, name) is not None


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'recommend'; it has .*GenerativeRecommender"):
        _ = cost_hf.recommend


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled_evaluated_or_asserted(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    assert not calls & {"eval", "exec"}
    assert "pickle" not in imported_modules(path)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
