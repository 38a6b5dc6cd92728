"""The teacher of a generator: cross-fitting over users, what its lists depend on, and whole runs with one."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.data.prepare import prepare_data
from cost_hf.data.splits import fold_of
from cost_hf.experiments.pipeline import make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.distillation import ListTable, TeacherLists
from cost_hf.methods.base import methods
from cost_hf.methods.generative.teacher import PURPOSE, fold_workspace, teacher_stage
from cost_hf.methods.generative.teacher_method import teacher_method
from cost_hf.stages import Stages
from tests.runs import TINY, stages_of

TEACHER = {"training.teacher": "markov", "training.teacher_items": 7, "training.teacher_folds": 3}
FUSION = "method: fusion\nfusion:\n  parts: [markov, item_knn]\n"


def workspace_of(directory, *, change=None, **fields):
    """A workspace of toy data; `change` replaces the split."""
    recipe = Recipe.load("cost_quickstart", TINY | TEACHER | fields)
    data = prepare_data(recipe.data)
    if change is not None:
        data = dataclasses.replace(data, split=change(data.split))
    return make_workspace(Stages(directory), recipe, data), recipe.options.training


def lists_of(directory, **fields) -> tuple[ListTable, np.ndarray, list[np.ndarray]]:
    """The lists, the fold of every training user, and the training sequences."""
    workspace, training = workspace_of(directory, **fields)
    teacher_stage(workspace, training, seed=0)
    users = workspace.data.split.train_user_ids
    folds = np.array(
        [fold_of(user, training.teacher_folds, seed=workspace.data_seed, purpose=PURPOSE) for user in users]
    )
    return TeacherLists.load(directory / "teacher").positions, folds, workspace.data.split.train


def positions(lists: ListTable, sequence: int, count: int) -> np.ndarray:
    """Rows of the first `count` lists of a sequence."""
    return lists.starts[sequence] + np.arange(count)


def fold_counts(directory, fold: int, *, change=None) -> np.ndarray:
    """The counts of the Markov teacher that lists for a fold."""
    workspace, training = workspace_of(directory, change=change)
    own = fold_workspace(workspace, directory / "fold", fold, training.teacher_folds)
    return methods()["markov"](methods()["markov"].options_class()).fit(own, seed=0).recommender.tables


def last_click_changed(user: int):
    """Replace the last training click of a user by another item."""

    def change(split):
        train = list(split.train)
        train[user] = np.append(train[user][:-1], (train[user][-1] + 1) % 96)
        return dataclasses.replace(split, train=train, digest="changed")

    return change


def test_a_fold_has_none_of_its_users_and_no_test_case(tmp_path):
    workspace, _ = workspace_of(tmp_path)
    split = workspace.data.split
    for fold in range(3):
        own = fold_workspace(workspace, tmp_path / str(fold), fold, 3).data.split
        users = {user for user in split.train_user_ids if fold_of(user, 3, seed=0, purpose=PURPOSE) == fold}

        assert users
        assert not users & {*own.train_user_ids, *own.validation.user_ids}
        assert users | set(own.train_user_ids) == set(split.train_user_ids)
        assert len(own.train) == len(own.train_user_ids)
        assert len(own.test) == 0


def test_times_stay_with_their_clicks():
    split = prepare_data(Recipe.load("cost_quickstart", TINY).data).split
    clicks = np.arange(sum(map(len, split.train)))
    timed = dataclasses.replace(split, train_times=clicks)

    own = timed.fitting_part(lambda user: user in split.train_user_ids[1:3])

    first = len(split.train[0])
    assert own.train_times.tolist() == clicks[first : first + len(split.train[1]) + len(split.train[2])].tolist()


def test_the_last_click_of_a_user_changes_no_count_that_lists_for_this_user(tmp_path):
    workspace, training = workspace_of(tmp_path / "facts")
    user = workspace.data.split.train_user_ids[4]
    fold = fold_of(user, training.teacher_folds, seed=0, purpose=PURPOSE)

    for number in range(training.teacher_folds):
        before = fold_counts(tmp_path / f"before{number}", number)
        after = fold_counts(tmp_path / f"after{number}", number, change=last_click_changed(4))
        is_same = all(np.array_equal(before[name], after[name]) for name in before)
        assert is_same == (number == fold)


def test_the_last_click_of_a_user_changes_lists_of_others_alone(tmp_path):
    before, folds, train = lists_of(tmp_path / "before")
    after, _, _ = lists_of(tmp_path / "after", change=last_click_changed(4))

    def are_same(sequence: int) -> bool:
        rows = positions(before, sequence, len(train[sequence]) - 1)  # not the last one, whose history changes
        names = ("items", "scores")
        return all(np.array_equal(getattr(before, name)[rows], getattr(after, name)[rows]) for name in names)

    assert are_same(4)  # the last position has the same history, whatever is clicked there
    others = np.flatnonzero(folds != folds[4])
    assert not all(are_same(sequence) for sequence in others.tolist())
    assert all(are_same(sequence) for sequence in np.flatnonzero(folds == folds[4]).tolist())


def test_test_cases_change_no_list(tmp_path):
    def shuffled(split):
        items = np.random.default_rng(0).permutation(split.test.items)
        return dataclasses.replace(split, test=dataclasses.replace(split.test, items=items), digest="shuffled")

    before, _, _ = lists_of(tmp_path / "before")
    after, _, _ = lists_of(tmp_path / "after", change=shuffled)

    assert np.array_equal(before.items, after.items)
    assert np.array_equal(before.scores, after.scores)


def test_a_list_is_that_of_the_method_fitted_to_the_other_users(tmp_path):
    lists, folds, train = lists_of(tmp_path / "run")
    workspace, _ = workspace_of(tmp_path / "again")
    own = fold_workspace(workspace, tmp_path / "fold", int(folds[0]), 3)
    ranker = methods()["markov"](methods()["markov"].options_class()).fit(own, seed=0).recommender.ranker_for(7)

    for position in range(1, len(train[0]) + 1):
        expected = ranker.rank(torch.tensor(train[0][None, :position]), top_k=7)
        row = lists.rows(0, np.array([position]))[0]
        assert lists.items[row].tolist() == expected.items[0].tolist()
        np.testing.assert_array_equal(lists.scores[row], expected.scores[0].float().numpy())


def test_lists_of_single_items_are_those_of_the_method_fitted_to_all_users(tmp_path):
    lists_of(tmp_path / "run")
    workspace, _ = workspace_of(tmp_path / "again")
    catalog = TeacherLists.load(tmp_path / "run" / "teacher").catalog
    ranker = methods()["markov"](methods()["markov"].options_class()).fit(workspace, seed=0).recommender.ranker_for(7)

    rows = torch.arange(workspace.data.tables.num_items)[:, None]
    assert catalog.rows(5, np.array([1])).tolist() == [5]
    assert np.array_equal(catalog.items, ranker.rank(rows, top_k=7).items.numpy())


def test_items_that_fitting_may_not_see_are_in_no_list(tmp_path):
    fields = {"data.cold_share": 0.2, "training.teacher": "text_last"}
    workspace, training = workspace_of(tmp_path, **fields)
    teacher_stage(workspace, training, seed=0)
    lists = TeacherLists.load(tmp_path / "teacher")
    cold = workspace.data.split.cold_items

    assert len(cold)
    assert not np.isin(lists.positions.items, cold).any()
    assert not np.isin(lists.catalog.items, cold).any()
    assert (lists.catalog.items[cold] == -1).all()
    assert (lists.positions.items[:, 0] >= 0).all()


def test_the_fitted_teachers_are_removed_and_a_repeated_stage_makes_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="cost_hf")
    lists_of(tmp_path)
    assert sorted((path.name for path in (tmp_path / "teacher").iterdir()), reverse=True) == [
        "positions.safetensors",
        "catalog.safetensors",
    ]
    caplog.clear()

    lists_of(tmp_path)

    assert stages_of(caplog.messages) == []


def test_every_user_in_one_fold_is_an_error(tmp_path):
    workspace, _ = workspace_of(tmp_path)
    users = workspace.data.split.train_user_ids

    with pytest.raises(ValueError, match="without the users of fold 0 there are 0 training users"):
        only = [user for user in users if fold_of(user, 2, seed=0, purpose=PURPOSE) == 0]
        split = workspace.data.split.fitting_part(lambda user: user in only)
        fold_workspace(
            dataclasses.replace(workspace, data=dataclasses.replace(workspace.data, split=split)), tmp_path / "x", 0, 2
        )


def test_a_teacher_is_a_method_a_recipe_or_a_run_directory(tmp_path):
    (tmp_path / "hybrid.yaml").write_text(FUSION)
    (tmp_path / "run").mkdir()
    Recipe.load(str(tmp_path / "hybrid.yaml")).save(tmp_path / "run" / "recipe.yaml")

    for name in (str(tmp_path / "hybrid.yaml"), str(tmp_path / "run")):
        assert teacher_method(name).options.fusion.parts == ["markov", "item_knn"]
    assert teacher_method("markov_text").name == "markov_text"
    assert teacher_method("sasrec_text").options.model.inputs == "text"
    assert teacher_method("sasrec_beauty").name == "sasrec"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("markov_txt", r"training.teacher must be a method, variant or recipe, got 'markov_txt'; did you mean"),
        ("missing.yaml", "no recipe file 'missing.yaml'"),
        ("runs/missing", "'runs/missing' is neither a run directory nor a recipe file; check the path"),
        ("empty", "training.teacher .*empty' is no finished run: recipe.yaml is missing"),
        ("taught.yaml", r"training.teacher .*taught.yaml' has a teacher itself, 'markov'; name that one"),
        ("alone.yaml", "a hybrid needs two or more parts"),
    ],
)
def test_a_teacher_that_does_not_exist_is_an_error_before_any_work(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taught.yaml").write_text("training:\n  teacher: markov\n")
    (tmp_path / "alone.yaml").write_text("method: fusion\nfusion:\n  parts: [markov]\n")

    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"training.teacher": name}).validate()


def test_a_teacher_without_weight_is_not_fitted(tmp_path):
    workspace, training = workspace_of(tmp_path, **{"training.teacher_weight": 0.0})

    teacher_stage(workspace, training, seed=0)

    assert workspace.stages.digests == {}


@pytest.mark.trains
def test_a_run_on_other_data_is_no_teacher(tmp_path):
    cost_hf.train(overrides={"method": "popularity", "data.synthetic_users": 60}, output_dir=tmp_path / "other")
    workspace, training = workspace_of(tmp_path / "run", **{"training.teacher": str(tmp_path / "other")})

    with pytest.raises(ValueError, match=r"is a run on other data \(digest .*, these data have"):
        teacher_stage(workspace, training, seed=0)


def test_tokens_without_a_weight_have_no_teacher():
    dense = {"method": "liger", "dense.sid_weight": 0.0, "dense.candidates": "catalog"}

    with pytest.raises(ValueError, match=r"training.teacher needs dense.sid_weight 1, got 0.0"):
        Recipe.load("cost_quickstart", TINY | TEACHER | dense).validate()


@pytest.mark.trains
@pytest.mark.parametrize(
    "recipe",
    [
        FUSION,
        "codes:\n  kind: random\n  level_sizes: [5, 7]\ngenerator:\n  size: tiny\ntraining:\n  epochs: 1\n",
    ],
)
def test_a_hybrid_and_a_generator_with_other_codes_are_teachers(tmp_path, recipe):
    (tmp_path / "teacher.yaml").write_text(recipe)
    fields = {"training.teacher": str(tmp_path / "teacher.yaml"), "training.teacher_folds": 2}

    positions, _, train = lists_of(tmp_path / "run", **fields)

    assert len(positions.items) == sum(map(len, train))
    assert all(len(set(row)) == len(row) for row in positions.items.tolist())
    assert (np.diff(positions.scores, axis=1) <= 0).all()


@pytest.mark.trains
@pytest.mark.parametrize("fields", [{}, {"method": "liger", "dense.weight": 0.0}], ids=["generator", "text input"])
def test_a_taught_generator_is_trained_saved_and_loaded(tmp_path, caplog, fields):
    caplog.set_level(logging.INFO, logger="cost_hf")
    fields = TINY | TEACHER | {"training.epochs": 1, "generator.size": "tiny", "codes.epochs": 1} | fields

    run = cost_hf.train(overrides=fields, output_dir=tmp_path)

    assert "teacher" in run.results["stages"]
    history = run.examples[0][1]
    loaded = cost_hf.Recommender.from_pretrained(tmp_path)
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    caplog.clear()
    cost_hf.train(overrides=fields | {"training.teacher_weight": 0.25}, output_dir=tmp_path)
    assert stages_of(caplog.messages) == ["generator", "evaluation"]  # the lists serve every weight
