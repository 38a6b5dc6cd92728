"""One user with very many clicks: memory grows with the clicks, not with their square."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import DataOptions, Split, Targets, read_tables, split_interactions
from cost_hf.evaluation.ranking import evaluate_ranker
from cost_hf.evaluation.semantic_ids import history_target_overlap
from cost_hf.evaluation.slices import slice_labels
from cost_hf.methods.counting.counting import ItemKnn, build_baseline
from cost_hf.recommenders.rankers import ScoringRanker

HEAVY, USERS, NUM_ITEMS = 20_000, 4_000, 8_000
MAX_BYTES = 400 * 2**20  # [users, longest history] takes 640 MB, the pairs of one user's items 512 MB


@pytest.fixture(scope="module")
def tables():
    random = np.random.default_rng(0)
    users = np.concatenate([np.zeros(HEAVY, int), 1 + np.repeat(np.arange(USERS), 5)])
    items = np.concatenate([np.arange(HEAVY) % NUM_ITEMS, random.integers(0, NUM_ITEMS, 5 * USERS)])
    clicks = pd.DataFrame({"user_id": users.astype(str), "item_id": items.astype(str), "timestamp": range(len(users))})
    catalog = pd.DataFrame({"item_id": np.arange(NUM_ITEMS).astype(str), "title": [f"t{n}" for n in range(NUM_ITEMS)]})
    return read_tables(DataOptions(), items=catalog, interactions=clicks)


def test_the_user_is_noticed_with_the_flag_that_caps(tables):
    (notice,) = (notice for notice in tables.notices if "very many clicks" in notice.message)

    assert "1 of 4,001 users" in notice.message and "20,000" in notice.message
    assert notice.remedy == "--data.max_user_interactions 100"


def test_memory_of_split_baselines_and_evaluation_is_linear(tables, tmp_path):
    tracemalloc.start()

    split = split_interactions(tables, DataOptions(cold_share=0.01))
    split.shares()
    split.save(tmp_path)
    test = split.test.sample(200, seed=0)
    longest = max(split.test.histories, key=len)
    test = Targets(np.append(test.user_ids, "0"), [*test.histories, longest], np.append(test.items, 0))
    for name in ("popularity", "item_knn", "markov"):
        scorer = build_baseline(name, split.train, NUM_ITEMS)
        ranker = ScoringRanker(scorer, popularity=np.zeros(NUM_ITEMS), item_ids=tables.items["item_id"].tolist())
        evaluate_ranker(ranker, test, sid_keys=None, num_items=NUM_ITEMS, exclude_seen=True, progress=False)
    slice_labels(split.test, split.train, num_items=NUM_ITEMS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < MAX_BYTES


def long_split(num_clicks=300):
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(40)], "title": [f"t{n}" for n in range(40)]})
    random = np.random.default_rng(1)
    clicks = pd.DataFrame(
        {
            "user_id": random.choice(["u", "v", "w"], num_clicks),
            "item_id": [f"i{n}" for n in random.integers(0, 40, num_clicks)],
            "timestamp": range(num_clicks),
        }
    )
    options = DataOptions(split="time", cold_share=0.1)
    return split_interactions(read_tables(options, items=items, interactions=clicks), options)


def test_histories_that_hold_each_other_are_stored_once(tmp_path):
    split = long_split()
    split.save(tmp_path / "first")
    again = Split.load(tmp_path / "first")
    again.save(tmp_path / "second")

    assert again.digest == split.digest
    for ours, theirs in ((split.validation, again.validation), (split.test, again.test)):
        assert [rows.tolist() for rows in ours.histories] == [rows.tolist() for rows in theirs.histories]
    stored = [(tmp_path / name / "split.safetensors").read_bytes() for name in ("first", "second")]
    assert stored[0] == stored[1]
    assert len(stored[0]) < 8 * sum(map(len, split.test.histories))


def test_blocks_change_no_measure(monkeypatch):
    split, groups = long_split(), np.arange(80).reshape(40, 2) % 7
    whole = history_target_overlap(groups, split.train, split.validation), split.test.repeated(), split.shares()
    monkeypatch.setattr("cost_hf.data.row_lists.BLOCK_ROWS", 100)

    assert len(list(split.test.blocks())) > 1
    parts = history_target_overlap(groups, split.train, split.validation), split.test.repeated(), split.shares()
    for name, values in whole[0].items():
        assert np.allclose(values, parts[0][name], rtol=1e-12)
    assert whole[1].tolist() == parts[1].tolist()
    assert whole[1].tolist() == [t in h for t, h in zip(split.test.items, split.test.histories, strict=True)]
    assert whole[2] == parts[2]


def test_pairs_counted_for_a_request_equal_those_counted_before(monkeypatch):
    random = np.random.default_rng(2)
    train = [random.integers(0, 30, size) for size in (3, 5, 60, 2, 90, 4)]
    histories = np.array([[1, 2, 3], [4, 4, -1], [-1, -1, -1]])
    before = ItemKnn.fit(train, 30).scores(histories)
    monkeypatch.setattr("cost_hf.methods.counting.counting.MAX_PAIRS", 100)
    knn = ItemKnn.fit(train, 30)

    assert knn.heavy.shape[0] == 2
    assert np.allclose(knn.scores(histories), before, rtol=1e-12, atol=1e-14)
