"""The plan of the house: imports point downwards, the public names exist, nothing unpickles or evaluates."""

import ast
from pathlib import Path

import pytest

import cost_hf

PACKAGE = Path(cost_hf.__file__).parent
# a room may import itself and the rooms before it; rooms in one tuple do not know each other
ROOMS = [
    ("registration",),
    ("files", "metrics", "products", "terminal_text", "yaml_text"),
    ("checkpoints", "data", "quantizer", "replacing", "reporting", "semantic_ids", "stages"),
    ("quantizer_training", "search"),
    ("recommender",),
    ("methods",),
    ("evaluation",),
    ("recipe",),
    ("building", "checking", "judging"),
    ("pipeline",),
    ("command_line",),
    ("comparison", "hub", "summary"),
    ("recipe_commands",),
    ("cli",),
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.parent.name != "metrics")


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("cost_hf.")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    room = room_of(path)
    if room in ("__init__", "recipes"):
        return

    for other in imported_rooms(path) - {room}:
        assert LEVEL[other] < LEVEL[room], f"{room} imports {other}"


def test_every_room_has_its_place():
    assert {room_of(path) for path in MODULES} - {"__init__", "recipes"} == set(LEVEL)


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
