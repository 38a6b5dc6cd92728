"""LightGBM's text format of boosted trees, checked before LightGBM reads it.

Its own reader trusts the text: a wrong number there ends the process or reads foreign memory. What passes here is a
forest of binary trees whose nodes, leaves, features and categories exist.
"""

import re
from collections.abc import Mapping, Set
from typing import Any, NoReturn

END = "end of trees\n"  # what LightGBM writes after it (importances, parameters of the training) no prediction needs
FIXED = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1", "objective": "lambdarank"}
HEADER = {*FIXED, "label_index", "max_feature_idx", "feature_names", "feature_infos", "tree_sizes"}
NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
NODE_FACTS = ("split_gain", "internal_value", "internal_weight", "internal_count")
LEAF_FACTS = ("leaf_weight", "leaf_count")
TREE = {"num_leaves", "num_cat", *NODES, *NODE_FACTS, "leaf_value", *LEAF_FACTS, "is_linear", "shrinkage"}
CATEGORIES = {"cat_boundaries", "cat_threshold"}  # of trees that split by categories
WHOLE = re.compile(r"-?\d{1,10}")
REAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d{1,3})?")
LIMIT = re.compile(rf"{REAL.pattern}|-?inf")  # a split of all known values from unknown ones has the threshold inf
INFO = re.compile(rf"none|\[{REAL.pattern}:{REAL.pattern}\]|{WHOLE.pattern}(:{WHOLE.pattern})*")
IS_CATEGORY = 1  # bit of a decision type
MAX_VALUE = 1e100  # of a leaf: sums of leaves stay finite
MAX_COUNT = 2**31
DECISIONS = 16  # a bit for categories, one for the default direction, two for missing values


def model_text(booster: Any) -> str:
    """Return the trees of a booster in LightGBM's text format, those of its best iteration where it was stopped early.

    Raises:
        ValueError: where this version of LightGBM writes something else than the one that this was made for.
    """
    text, end, _ = booster.model_to_string().partition(END)
    check_model_text(text + end)
    return text + end


def check_model_text(text: str) -> None:
    """Raise ValueError for a text that is no forest of binary trees; what is wrong is named."""
    head, gap, body = text.partition("\n\n")
    first, _, rest = head.partition("\n")
    if first != "tree" or not gap:
        _refuse(f"begins with {text[:40]!r}, expected 'tree' and the entries of a header")
    header = _entries(rest, HEADER, where="its header")
    for name, value in FIXED.items():
        if header[name] != value:
            _refuse(f"has {name}={header[name]!r:.42}, expected {value}")
    num_features = _whole(header["max_feature_idx"], "max_feature_idx") + 1
    infos = header["feature_infos"].split()
    if not len(infos) == len(header["feature_names"].split()) == num_features:
        _refuse(f"must name {num_features} features and describe as many")
    if not all(INFO.fullmatch(info) for info in infos):
        _refuse("describes a feature by something else than a range or categories")
    start = 0
    for number, size in enumerate(_wholes(header["tree_sizes"], "tree_sizes")):
        tree = body[start : start + max(size, 0)]
        title, _, entries = tree.partition("\n")
        if title != f"Tree={number}" or not tree.endswith("\n\n\n"):
            _refuse(f"has no tree {number} of {size} characters after the others")
        _check_tree(_entries(entries.rstrip("\n"), TREE, CATEGORIES, where=f"tree {number}"), num_features, number)
        start += size
    if body[start:] != END or not body.isascii():
        _refuse(f"goes on with {body[start : start + 40]!r} where its trees end")


def _check_tree(tree: Mapping[str, str], num_features: int, number: int) -> None:
    where = f"of tree {number}"
    leaves = _whole(tree["num_leaves"], f"num_leaves {where}")
    num_categories = _whole(tree["num_cat"], f"num_cat {where}")
    if leaves < 1 or tree["is_linear"] != "0":
        _refuse(f"{where}: expected leaves with constant values")
    nodes = leaves - 1
    sizes = dict.fromkeys((*NODES, *NODE_FACTS), nodes) | dict.fromkeys(("leaf_value", *LEAF_FACTS), leaves)
    for name, expected in sizes.items():
        values = tree[name].split()
        is_left_out = not values and leaves == 1 and name in LEAF_FACTS
        form = LIMIT if name == "threshold" else REAL
        if (len(values) != expected and not is_left_out) or not all(form.fullmatch(value) for value in values):
            _refuse(f"{name} {where} must be {expected} numbers")
    if not all(abs(float(value)) <= MAX_VALUE for value in tree["leaf_value"].split()):
        _refuse(f"leaf_value {where} must be numbers of at most {MAX_VALUE:g} in size")
    counts = _wholes(f"{tree['internal_count']} {tree['leaf_count']}", f"internal_count and leaf_count {where}")
    if not all(0 < count < MAX_COUNT for count in counts):  # contributions are divided by them
        _refuse(f"internal_count and leaf_count {where} must be above 0 and below {MAX_COUNT}")
    if not REAL.fullmatch(tree["shrinkage"]):
        _refuse(f"shrinkage {where} must be a number")
    features, decisions, left, right = (
        _wholes(tree[name], f"{name} {where}")
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    if not all(0 <= feature < num_features for feature in features):
        _refuse(f"split_feature {where} must be below {num_features}, the number of features")
    children = sorted(left + right)
    expected_children = sorted([*range(-leaves, 0), *range(1, nodes)]) if nodes else []  # a single leaf has no parent
    if children != expected_children or any(
        0 <= child <= node for side in (left, right) for node, child in enumerate(side)
    ):
        _refuse(
            f"left_child and right_child {where} must lead from the first node to every other one and every leaf once"
        )
    boundaries = _wholes(tree.get("cat_boundaries", "0"), f"cat_boundaries {where}")
    words = _wholes(tree.get("cat_threshold", ""), f"cat_threshold {where}")
    is_rising = boundaries == sorted(boundaries) and boundaries[0] == 0 and boundaries[-1] == len(words)
    if len(boundaries) != num_categories + 1 or not is_rising or not all(0 <= word < 2**32 for word in words):
        _refuse(f"cat_boundaries and cat_threshold {where} must be those of {num_categories} splits by category")
    for decision, threshold in zip(decisions, tree["threshold"].split(), strict=True):
        if not 0 <= decision < DECISIONS:
            _refuse(f"decision_type {where} must be below {DECISIONS}")
        if decision & IS_CATEGORY and not 0 <= _whole(threshold, f"threshold {where}") < num_categories:
            _refuse(f"threshold {where} must be a split by category below {num_categories}")


def _entries(text: str, needed: Set[str], optional: Set[str] = frozenset(), *, where: str) -> dict[str, str]:
    """Return the lines `name=value` by name."""
    pairs = [line.partition("=") for line in text.split("\n")]
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names) or not needed <= set(names) <= needed | optional:
        _refuse(f"must have the entries {', '.join(sorted(needed))} in {where}, each once")
    return {name: value for name, _, value in pairs}


def _wholes(text: str, name: str) -> list[int]:
    return [_whole(value, name) for value in text.split()]


def _whole(text: str, name: str) -> int:
    if not WHOLE.fullmatch(text):
        _refuse(f"{name} must be whole numbers, got {text!r:.42}")
    return int(text)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"no model of LightGBM that ranks: the text {reason}; copy it again, or train again")
