"""Boosted trees: folds of users, names of features, texts of models, contributions and importances."""

import re

import numpy as np
import pytest

from cost_hf.methods.ranker.booster import (
    RankingCases,
    contributions,
    importances,
    model_names,
    predict,
    read_booster,
    train_boosters,
)
from cost_hf.methods.ranker.model_text import model_text
from cost_hf.methods.ranker.options import RankerSection
from tests.methods.fusion.fusion_toys import toy_parts
from tests.methods.ranker.ranker_toys import toy_cases, toy_table

NAMES = ["signal", "noise"]


def made_up(cases: int = 120, candidates: int = 12, folds: int = 3, seed: int = 0) -> RankingCases:
    """Return cases whose target has the highest signal nine times out of ten."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(cases, candidates, 2)).astype(np.float32)
    target = np.where(generator.random(cases) < 0.9, features[:, :, 0].argmax(axis=1), 0)
    labels = np.zeros((cases, candidates), dtype=np.int8)
    labels[np.arange(cases), target] = 1
    sizes = np.full(cases, candidates)
    return RankingCases(features.reshape(-1, 2), labels.ravel(), sizes, np.arange(cases) % folds)


def options(**fields) -> RankerSection:
    return RankerSection(**{"folds": 3, "rounds": 10, "leaves": 4} | fields)


def test_cases_of_a_fold_keep_their_candidates():
    cases = made_up(cases=6, candidates=2)

    own = cases.subset(cases.folds == 1)

    assert own.sizes.tolist() == [2, 2] and own.folds.tolist() == [1, 1]
    assert np.array_equal(own.features, cases.features[[2, 3, 8, 9]])
    assert np.array_equal(own.labels, cases.labels[[2, 3, 8, 9]])


def test_trees_learn_what_tells_the_target():
    boosters = train_boosters(made_up(), NAMES, [], options(), seed=0)
    (first, share), (second, rest) = importances(boosters.final, NAMES)

    assert [first, second] == NAMES and share + rest == pytest.approx(1) and share > 0.5
    scores = predict(boosters.final, np.array([[2.0, 0.0], [-2.0, 0.0]], dtype=np.float32))
    assert scores[0] > scores[1] and len(boosters.folds) == 3


def test_the_trees_of_a_fold_have_not_seen_its_users():
    cases = made_up()
    other = made_up(seed=1)
    is_mine = np.repeat(cases.folds == 0, cases.sizes)
    changed = RankingCases(
        np.where(is_mine[:, None], other.features, cases.features),
        np.where(is_mine, other.labels, cases.labels),
        cases.sizes,
        cases.folds,
    )
    first, second = (train_boosters(own, NAMES, [], options(), seed=0) for own in (cases, changed))

    # early stopping may keep another number of the same trees
    rounds = min(own.folds[0].num_trees() for own in (first, second))
    shown = [own.folds[0].dump_model(num_iteration=rounds)["tree_info"] for own in (first, second)]
    assert rounds >= 1 and shown[0] == shown[1]
    assert model_text(first.folds[1]) != model_text(second.folds[1])
    assert model_text(first.final) != model_text(second.final)


def test_the_same_cases_and_seed_give_the_same_trees():
    first, second = (train_boosters(made_up(), NAMES, [], options(), seed=3) for _ in range(2))

    assert model_text(first.final) == model_text(second.final)
    assert list(map(model_text, first.folds)) == list(map(model_text, second.folds))


def test_a_fold_without_cases_has_the_trees_of_all_others():
    cases = made_up(folds=2)

    boosters = train_boosters(cases, NAMES, [], options(folds=4), seed=0)

    assert boosters.folds[2] is boosters.folds[3] is boosters.final


def test_cases_of_one_fold_are_not_enough():
    with pytest.raises(ValueError, match=r"users in two folds or more .* got 120 cases in 1; use more data, or method"):
        train_boosters(made_up(folds=1), NAMES, [], options(), seed=0)


def test_so_few_cases_that_no_tree_grows_are_no_error():
    boosters = train_boosters(made_up(cases=4, candidates=2, folds=2), NAMES, [], options(folds=2), seed=0)

    assert predict(boosters.final, np.zeros((2, 2), dtype=np.float32)).tolist() == [0.0, 0.0]
    assert importances(boosters.final, NAMES) == [("signal", 0.0), ("noise", 0.0)]
    loaded = read_booster(model_text(boosters.final))
    assert contributions(loaded, np.zeros((2, 2), dtype=np.float32)).tolist() == [[0.0] * 3] * 2


def test_contributions_and_the_mean_add_up_to_the_score():
    booster = train_boosters(made_up(), NAMES, [], options(), seed=0).final
    features = made_up(seed=5).features

    found = contributions(booster, features)

    assert found.shape == (len(features), 3)
    assert found.sum(axis=1) == pytest.approx(predict(booster, features), abs=1e-6)
    assert np.ptp(found[:, -1]) == 0


def test_a_request_has_the_same_score_in_a_batch_as_alone():
    booster = train_boosters(made_up(), NAMES, [], options(), seed=0).final
    features = made_up(seed=5).features

    assert predict(booster, features).tolist() == [predict(booster, row[None])[0] for row in features]


def test_a_model_returns_from_its_text():
    cases, names = toy_cases(toy_parts(), toy_table())
    booster = train_boosters(cases, names, toy_table().categories, options(folds=2), seed=0).final
    text = model_text(booster)

    loaded = read_booster(text)

    assert loaded.feature_name() == model_names(names)
    assert predict(loaded, cases.features).tolist() == predict(booster, cases.features).tolist()
    assert re.search(r"^feature_names=.*column_list_price__USD_", text, flags=re.MULTILINE)


def test_names_of_features_are_letters_digits_and_underscores_and_differ():
    names = ["a b", "a_b", "a:b", "größe", "价格", "价", '{"x"}', "a_b_2"]

    found = model_names(names)

    assert found[:3] == ["a_b", "a_b_2", "a_b_3"] and len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in found)


def test_names_that_lightgbm_refuses_are_trained_all_the_same():
    names = ["größe, in cm", 'a "quoted" [name]:']

    boosters = train_boosters(made_up(), names, ["größe, in cm"][:0], options(), seed=0)

    assert {name for name, _ in importances(boosters.final, names)} == set(names)
    assert boosters.final.feature_name() == model_names(names)


@pytest.mark.parametrize("text", ["", "tree", "no model at all\n" * 50, "tree\nversion=v4\n"])
def test_a_text_that_is_no_model_is_refused(text):
    with pytest.raises(ValueError, match="no model of LightGBM that ranks"):
        read_booster(text)
