"""Texts of models: what LightGBM would crash on is refused before it reads it."""

import re

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.methods.ranker.booster import RankingCases, read_booster, train_boosters
from cost_hf.methods.ranker.model_text import END, check_model_text, model_text
from cost_hf.methods.ranker.options import RankerSection

NAMES = ["number", "noise", "topic"]


def forest() -> str:
    """Return the text of a few trees that split by numbers and by categories."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(960, 3)).astype(np.float32)
    features[::7, 0] = np.nan
    features[:, 2] = generator.integers(0, 40, 960)
    labels = ((features[:, 2] % 3 == 0) & (generator.random(960) < 0.6)).astype(np.int8)
    cases = RankingCases(features, labels, np.full(80, 12), np.arange(80) % 2)
    options = RankerSection(folds=2, rounds=6, leaves=5)
    return model_text(train_boosters(cases, NAMES, ["topic"], options, seed=0).folds[0])


TEXT = forest()


def with_sizes(text: str) -> str:
    """Return a text whose `tree_sizes` are those of its trees, so that only what else is wrong in it counts."""
    trees = re.split(r"(?=^Tree=)", text.removesuffix(END), flags=re.MULTILINE)[1:]
    return re.sub(r"tree_sizes=.*", f"tree_sizes={' '.join(str(len(tree)) for tree in trees)}", text)


def test_the_trees_of_lightgbm_pass_and_hold_nothing_of_the_training():
    check_model_text(TEXT)

    assert TEXT.endswith(END) and "parameters" not in TEXT and with_sizes(TEXT) == TEXT
    assert any(int(found) for found in re.findall(r"num_cat=(\d+)", TEXT))
    assert read_booster(TEXT).feature_name() == NAMES


def test_a_split_of_known_from_unknown_values_passes():
    decisions = re.findall(r"decision_type=(.*)", TEXT)[0].split()
    place = next(place for place, decision in enumerate(decisions) if not int(decision) & 1)

    read_booster(changed("threshold", lambda values: [*values[:place], "inf", *values[place + 1 :]]))


def changed(name: str, change, tree: int = 0) -> str:
    """Return the text with the values of an entry of a tree changed."""
    head, *trees = re.split(r"(?=^Tree=)", TEXT, flags=re.MULTILINE)
    values = re.search(rf"^{name}=(.*)$", trees[tree], flags=re.MULTILINE)[1].split()
    trees[tree] = re.sub(rf"^{name}=.*$", f"{name}={' '.join(change(values))}", trees[tree], flags=re.MULTILINE)
    return with_sizes("".join([head, *trees]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("split_feature", lambda values: ["3", *values[1:]], "split_feature of tree 0 must be below 3"),
        ("split_feature", lambda values: ["-1", *values[1:]], "split_feature of tree 0 must be below 3"),
        ("split_feature", lambda values: values[1:], "split_feature of tree 0 must be 4 numbers"),
        ("threshold", lambda values: ["nan", *values[1:]], "threshold of tree 0 must be 4 numbers"),
        ("leaf_value", lambda values: [*values, "0"], "leaf_value of tree 0 must be 5 numbers"),
        ("leaf_value", lambda values: ["inf", *values[1:]], "leaf_value of tree 0 must be 5 numbers"),
        ("leaf_value", lambda values: ["1e999", *values[1:]], "leaf_value of tree 0 must be numbers of at most 1e.100"),
        ("leaf_count", lambda values: values[1:], "leaf_count of tree 0 must be 5 numbers"),
        ("leaf_count", lambda values: ["0", *values[1:]], "leaf_count of tree 0 must be above 0"),
        ("internal_count", lambda values: ["-4", *values[1:]], "internal_count .* of tree 0 must be above 0"),
        ("internal_count", lambda values: ["0.5", *values[1:]], "internal_count .* must be whole numbers, got '0.5'"),
        ("left_child", lambda values: ["0", *values[1:]], "must lead from the first node to every other one"),
        ("left_child", lambda values: ["99", *values[1:]], "must lead from the first node to every other one"),
        ("right_child", lambda values: [values[0]] * len(values), "must lead from the first node to every other one"),
        ("right_child", lambda values: ["1.5", *values[1:]], "right_child of tree 0 must be whole numbers, got '1.5'"),
        ("decision_type", lambda values: ["16", *values[1:]], "decision_type of tree 0 must be below 16"),
        ("num_leaves", lambda values: ["0"], "of tree 0: expected leaves with constant values"),
        ("num_leaves", lambda values: ["6"], "must be 5 numbers"),
        ("num_leaves", lambda values: ["99999999999"], "num_leaves of tree 0 must be whole numbers"),
        ("num_cat", lambda values: ["7"], "must be those of 7 splits by category"),
        ("is_linear", lambda values: ["1"], "of tree 0: expected leaves with constant values"),
        ("shrinkage", lambda values: ["much"], "shrinkage of tree 0 must be a number"),
    ],
)
def test_trees_that_lead_nowhere_are_refused(name, change, message):
    with pytest.raises(ValueError, match=f"no model of LightGBM that ranks: the text .*{message}"):
        read_booster(changed(name, change))


def by_category() -> int:
    """Return the number of a tree that splits by categories."""
    found = re.findall(r"num_cat=(\d+)", TEXT)
    return next(number for number, count in enumerate(found) if int(count))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cat_boundaries", lambda values: [*values[:-1], "999"]),
        ("cat_boundaries", lambda values: ["1", *values[1:]]),
        ("cat_threshold", lambda values: ["-1", *values[1:]]),
        ("cat_threshold", lambda values: values[1:]),
        ("cat_threshold", lambda values: [str(2**32), *values[1:]]),
    ],
)
def test_categories_that_do_not_exist_are_refused(name, change):
    with pytest.raises(ValueError, match=r"must be those of .* splits by category"):
        read_booster(changed(name, change, by_category()))


def test_a_split_by_a_category_that_does_not_exist_is_refused():
    tree = by_category()
    decisions = re.findall(r"decision_type=(.*)", TEXT)[tree].split()
    place = next(place for place, decision in enumerate(decisions) if int(decision) & 1)

    with pytest.raises(ValueError, match=rf"threshold of tree {tree} must be a split by category below"):
        read_booster(changed("threshold", lambda values: [*values[:place], "50", *values[place + 1 :]], tree))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tree\n", "forest\n", "begins with 'forest"),
        ("version=v4", "version=v9", "has version='v9', expected v4"),
        ("num_class=1", "num_class=2", "has num_class='2', expected 1"),
        ("objective=lambdarank", "objective=binary sigmoid:1", "has objective='binary sigmoid:1', expected lambdarank"),
        ("max_feature_idx=2", "max_feature_idx=9", "must name 10 features and describe as many"),
        ("feature_names=number", "feature_names=one number", "must name 3 features"),
        ("feature_infos=[", "feature_infos=x[", "describes a feature by something else"),
        ("label_index=0\n", "", "must have the entries .* in its header, each once"),
        ("label_index=0\n", "label_index=0\nlabel_index=0\n", "must have the entries .* in its header, each once"),
        ("Tree=1", "Tree=7", "has no tree 1 of"),
        (END, "", "goes on with '' where its trees end"),
        (END, f"{END}parameters:\n", "goes on with 'end of trees.nparameters:"),
        ("tree_sizes=", "tree_sizes=9", "has no tree 0 of"),
        ("tree_sizes=", "tree_sizes=-5 ", "has no tree 0 of -5"),
    ],
)
def test_texts_of_another_form_are_refused(old, new, message):
    assert old in TEXT
    with pytest.raises(ValueError, match=f"no model of LightGBM that ranks: the text .*{message}"):
        read_booster(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "\n\n", "tree\n\n", "tree", "[" * 100_000, "tree\n" + "a=1\n" * 1000 + "\n"])
def test_what_is_no_text_of_a_model_is_refused(text):
    with pytest.raises(ValueError, match="no model of LightGBM that ranks"):
        read_booster(text)


TOKENS = [match.span() for match in re.finditer(r"(?<=[= ])[^ =\n]+", TEXT)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TOKENS),
            st.sampled_from(["", "0", "-1", "1", "7", "-9", "2147483647", "-2147483648", "x", "1 1"]),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda change: change[0],
    )
)
@settings(max_examples=300)
def test_a_changed_text_is_refused_or_read_whole(changes):
    text = TEXT
    for (start, end), value in sorted(changes, reverse=True):
        text = text[:start] + value + text[end:]
    text = with_sizes(text)
    try:
        check_model_text(text)
    except ValueError:
        return
    booster = lightgbm.Booster(model_str=text)
    features = np.random.default_rng(1).normal(size=(20, 3))
    assert booster.num_feature() == 3 and np.isfinite(booster.predict(features, num_threads=1)).all()
