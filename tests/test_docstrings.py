"""Examples in docstrings run, and the names that users import most have one."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import cost_hf

PACKAGE = Path(cost_hf.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MIN_NAMES = 20  # public names with an example


def modules_with_examples() -> list[str]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in paths]
    return [".".join(names[:-1] if names[-1] == "__init__" else names) for names in parts]


def has_example(name: str) -> bool:
    """Tell whether a public name, or a public method of it, has an example."""
    thing = getattr(cost_hf, name)
    own = vars(thing).items() if inspect.isclass(thing) else ()
    texts = [inspect.getdoc(thing), *(inspect.getdoc(member) for key, member in own if not key.startswith("_"))]
    return any(">>> " in (text or "") for text in texts)


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(module), optionflags=OPTIONS)

    assert found.attempted and not found.failed


def test_the_public_names_have_examples():
    without = [name for name in cost_hf.__all__ if not has_example(name)]

    assert len(cost_hf.__all__) - len(without) >= MIN_NAMES, f"no example: {', '.join(without)}"


def test_examples_have_a_section_of_their_own():
    """Without the heading `Examples:` the documentation shows them as quotations."""
    for path in PACKAGE.rglob("*.py"):
        docstrings = re.findall(r'"""(.*?)"""', path.read_text(encoding="utf-8"), flags=re.DOTALL)
        without = [text for text in docstrings if ">>> " in text and not re.search(r"^ *Examples:$", text, flags=re.M)]
        assert not without, f"{path}: no heading `Examples:` in the docstring {without[0].strip().splitlines()[0]!r}"
