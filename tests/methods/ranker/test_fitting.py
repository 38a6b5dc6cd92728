"""Fitting of a learned ranker: nothing of the test part is read, and no case is ranked by trees that have seen it."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import cost_hf
from cost_hf.data import DataOptions, make_news, read_tables, split_interactions
from cost_hf.data.splits import fold_of
from cost_hf.files import read_json
from cost_hf.methods.ranker import fitting
from cost_hf.methods.ranker.booster import read_booster
from cost_hf.methods.ranker.features import ItemTable
from cost_hf.methods.ranker.fitting import FOLDS, PURPOSE, TRAINING, HeldOutRanker, held_out_ranker, ranking_cases
from cost_hf.methods.ranker.options import RankerOptions
from cost_hf.methods.ranker.recommender import RankerRecommender
from cost_hf.recommenders.candidates import Candidates
from tests.methods.ranker.ranker_toys import toy_ranker
from tests.recommenders.toys import TOY_ITEMS, toy_catalog, toy_histories

PARTS = ["item_knn", "markov", "text_last"]
FIELDS = {
    "method": "ranker",
    "ranker.parts": PARTS,
    "ranker.folds": 3,
    "ranker.rounds": 20,
    "ranker.columns": ["topic"],
    "vectors.dim": 8,
    "evaluation.baselines": [],
    "evaluation.num_beams": 10,
    "evaluation.cutoffs": [5, 10],
    "evaluation.bootstrap_draws": 20,
}
NEWS = make_news(num_users=150, num_items=80)


def clicks_with(change) -> pd.DataFrame:
    """Return the clicks of the toy news, with each user's (positions, item ids) changed."""
    frame = NEWS.interactions.copy()
    for _, own in frame.groupby("user_id"):
        order = own.sort_values("timestamp").index
        frame.loc[order, "item_id"] = change(frame.loc[order, "item_id"].tolist())
    return frame


def train(clicks: pd.DataFrame, directory, **fields) -> cost_hf.Run:
    return cost_hf.train(
        items=NEWS.items, interactions=clicks, overrides=FIELDS | fields, output_dir=directory, recipe="cost_quickstart"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return train(NEWS.interactions, tmp_path_factory.mktemp("ranker"))


def parts_of(run: cost_hf.Run) -> dict[str, bytes]:
    """Return everything of a run's recommender that was learned, by file."""
    folder = run.output_dir / "recommender"
    learned = ["ranker.txt", "items.safetensors", "popularity.safetensors", FOLDS, TRAINING]
    learned += [f"parts/{name}/model.safetensors" for name in ("item_knn", "markov")]
    return {name: (folder / name).read_bytes() for name in learned}


OTHER = NEWS.items["item_id"].iloc[0]


@pytest.mark.trains
def test_other_test_targets_change_nothing_that_was_learned(run, tmp_path):
    changed = train(clicks_with(lambda items: [*items[:-1], OTHER if items[-1] != OTHER else items[0]]), tmp_path)

    assert parts_of(changed) == parts_of(run)
    assert changed.results["data_digest"] != run.results["data_digest"]


@pytest.mark.trains
def test_other_validation_targets_change_the_trees_and_no_counts(run, tmp_path):
    changed = train(clicks_with(lambda items: [*items[:-2], OTHER, items[-1]]), tmp_path)

    own, other = parts_of(run), parts_of(changed)
    different = {name for name in own if own[name] != other[name]}
    assert different == {"ranker.txt", FOLDS, TRAINING}


@pytest.mark.trains
def test_the_history_of_a_validation_case_ends_before_its_target(run, monkeypatch):
    split = split_interactions(
        read_tables(DataOptions(), items=NEWS.items, interactions=NEWS.interactions), DataOptions()
    )
    seen = []

    def batches(parts, cases, workspace, **options):
        for rows, histories, candidates in fitting_batches(parts, cases, workspace, **options):
            seen.extend((cases.user_ids[row], histories[number], cases.items[row]) for number, row in enumerate(rows))
            yield rows, histories, candidates

    fitting_batches = fitting.candidate_batches
    monkeypatch.setattr(fitting, "candidate_batches", batches)
    workspace = workspace_of(split)
    parts = dict(run.recommender.parts)
    ranking_cases(parts, ItemTable(), workspace, RankerOptions())

    by_user = {user: own.sort_values("timestamp") for user, own in NEWS.interactions.groupby("user_id")}
    row_of = {item: row for row, item in enumerate(NEWS.items["item_id"])}
    assert len(seen) == len(split.validation)
    for user, history, target in seen:
        rows = [row_of[item] for item in by_user[user]["item_id"]]
        assert history[history >= 0].tolist() == rows[:-2] and target == rows[-2]


def workspace_of(split):
    """Return what `ranking_cases` reads of a workspace."""

    @dataclasses.dataclass
    class Evaluation:
        batch_size: int = 16

    @dataclasses.dataclass
    class Tables:
        num_items: int = len(NEWS.items)

    @dataclasses.dataclass
    class Data:
        split: object
        tables: object

    @dataclasses.dataclass
    class Workspace:
        data: object
        evaluation: object
        data_seed: int = 0

    return Workspace(Data(split, Tables()), Evaluation())


@pytest.mark.trains
def test_cases_hold_one_target_each_and_users_stay_in_one_fold(run):
    split = split_interactions(
        read_tables(DataOptions(), items=NEWS.items, interactions=NEWS.interactions), DataOptions(split="time")
    )
    options = RankerOptions()
    options.ranker.cases = 60

    cases, names, counts = ranking_cases(dict(run.recommender.parts), ItemTable(), workspace_of(split), options)

    starts = np.cumsum(cases.sizes) - cases.sizes
    assert np.add.reduceat(cases.labels, starts).tolist() == [1] * len(cases.sizes)
    assert cases.features.shape == (cases.sizes.sum(), len(names)) and counts["cases"] == 60
    assert counts["cases_with_target"] == len(cases.sizes) == len(cases.folds)


@pytest.mark.trains
def test_every_case_is_ranked_again_among_items_that_stand_in_as_new_ones(run):
    split = split_interactions(
        read_tables(DataOptions(), items=NEWS.items, interactions=NEWS.interactions), DataOptions()
    )
    vectors = run.recommender.parts["text_last"].catalog.vectors
    workspace = workspace_of(split)
    workspace.text_vectors = lambda: SimpleNamespace(vectors=vectors)
    parts = dict(run.recommender.parts)
    options = RankerOptions()
    options.ranker.new_item_share = 0.5

    once, names, counts = ranking_cases(parts, ItemTable(), workspace, RankerOptions())
    both, names_of_both, counts_of_both = ranking_cases(parts, ItemTable(), workspace, options)

    assert names_of_both == names and counts_of_both["cases"] == 2 * counts["cases"]
    assert len(both.sizes) > len(once.sizes)
    rows = len(once.features)
    assert np.array_equal(both.features[:rows], once.features, equal_nan=True)
    is_target = both.labels[rows:] == 1
    popularity = both.features[rows:, names.index("popularity")]
    assert (popularity[is_target] == 0).any() and (popularity[is_target] > 0).any()


def test_a_user_is_in_one_fold_whatever_the_case():
    folds = {user: {fold_of(user, 5, seed=0, purpose="a") for _ in range(3)} for user in map(str, range(200))}

    assert all(len(own) == 1 for own in folds.values())
    sizes = np.bincount([next(iter(own)) for own in folds.values()], minlength=5)
    assert sizes.min() > 20
    assert any(fold_of(user, 5, seed=1, purpose="a") not in own for user, own in folds.items())


def test_users_of_one_fold_are_spread_over_the_folds_of_another_purpose():
    users = [user for user in map(str, range(200)) if fold_of(user, 2, seed=0, purpose="a") == 0]

    assert {fold_of(user, 2, seed=0, purpose="b") for user in users} == {0, 1}


@pytest.mark.trains
def test_popularity_and_trend_come_from_training_clicks_alone(run):
    split = split_interactions(
        read_tables(DataOptions(), items=NEWS.items, interactions=NEWS.interactions), DataOptions()
    )
    recommender = run.recommender
    rows = np.concatenate(split.train)

    assert recommender.popularity.tolist() == np.bincount(rows, minlength=len(NEWS.items)).tolist()
    is_recent = split.train_times >= np.quantile(split.train_times, 0.75)
    recent = np.bincount(rows[is_recent], minlength=len(NEWS.items))
    assert recommender.table.columns["trend"] == pytest.approx((recent + 1) / (recommender.popularity + 4))


@pytest.mark.trains
def test_no_listed_target_at_all_is_an_error(run, monkeypatch):
    split = split_interactions(
        read_tables(DataOptions(), items=NEWS.items, interactions=NEWS.interactions), DataOptions()
    )

    def batches(*arguments, **options):
        for rows, histories, found in fitting_batches(*arguments, **options):
            yield rows, histories, Candidates(np.full_like(found.items, -1), found.ranks, found.scores)

    fitting_batches = fitting.candidate_batches
    monkeypatch.setattr(fitting, "candidate_batches", batches)
    with pytest.raises(ValueError, match=r"no part lists the target of any of \d+ validation cases"):
        ranking_cases(dict(run.recommender.parts), ItemTable(), workspace_of(split), RankerOptions())


# --- ranking of validation users by the trees that have not seen them ---


class Constant:
    """Scores the candidates in their order, by a number of its own."""

    def __init__(self, number):
        self.number = number

    def predict(self, features, **options):
        return np.full(len(features), float(self.number))


def test_every_user_is_ranked_by_the_trees_of_the_other_folds():
    histories = toy_histories(toy_catalog(TOY_ITEMS), 12)
    users = [f"user{number}" for number in range(12)]
    ranker = HeldOutRanker(toy_ranker(), [Constant(fold) for fold in range(3)], seed=7, top_k=5)

    ranking = ranker.rank(histories, top_k=5, user_ids=np.array(users, dtype=object))

    expected = [float(fold_of(user, 3, seed=7, purpose=PURPOSE)) for user in users]
    assert ranking.scores.tolist() == [[fold] * 5 for fold in expected]


def test_users_must_be_named():
    ranker = HeldOutRanker(toy_ranker(), [Constant(0)], seed=0, top_k=5)

    with pytest.raises(ValueError, match="rank users by their ids, got none; pass user_ids="):
        ranker.rank(toy_histories(toy_catalog(TOY_ITEMS), 2), top_k=5)


def test_masks_hold_for_validation_users_too():
    ranker = HeldOutRanker(toy_ranker(), [Constant(0), Constant(1)], seed=0, top_k=5)
    mask = torch.arange(TOY_ITEMS) < 6

    ranking = ranker.rank(toy_histories(toy_catalog(TOY_ITEMS), 4), top_k=20, mask=mask, user_ids=list("abcd"))

    assert set(ranking.items[0].tolist()) == {-1, *range(6)}


@pytest.mark.trains
def test_a_run_keeps_the_trees_of_every_fold(run):
    @dataclasses.dataclass
    class Stages:
        output_dir: object = run.output_dir

    @dataclasses.dataclass
    class Workspace:
        stages: object
        folder: str = "recommender"
        data_seed: int = 0

    texts = read_json(run.output_dir / "recommender" / FOLDS)
    ranker = held_out_ranker(Workspace(Stages()), run.recommender, top_k=10)

    assert isinstance(run.recommender, RankerRecommender)
    assert len(texts) == 3 and [booster.num_trees() for booster in ranker.boosters] == [
        read_booster(text).num_trees() for text in texts
    ]
    assert all(text != run.recommender.model for text in texts)
