"""Cold start: which items are hidden, where their clicks are gone, and where they stay."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data import DataError, DataOptions, Split, make_news, read_tables, split_interactions
from cost_hf.data.splits import choose_cold_items

IDS = list("abcdefgh")
SEQUENCES = {"t": "abcd", "u": "dabc", "v": "cdbae", "w": "hgfed", "x": "dde"}


def tables_of(sequences, ids=IDS):
    rows = [(user, item, place) for user, items in sequences.items() for place, item in enumerate(items)]
    items = pd.DataFrame({"item_id": ids, "title": [f"word{item}" for item in ids]})
    clicks = pd.DataFrame(rows, columns=["user_id", "item_id", "position"])
    return read_tables(DataOptions(), items=items, interactions=clicks)


def cold_split(sequences=SEQUENCES, *, cold="d", ids=IDS, **options):
    """Split with the cold_share and seed that hide exactly the items named."""
    tables = tables_of(sequences, ids)
    for seed in range(200):
        split = split_interactions(tables, DataOptions(seed=seed, **{"cold_share": 0.3} | options))
        if "".join(sorted(ids[row] for row in split.cold_items)) == cold:
            return split
    raise LookupError(cold)


def words(rows, ids=IDS):
    return "".join(ids[row] for row in rows)


def cases_of(targets):
    pairs = zip(targets.user_ids, targets.histories, targets.items, strict=True)
    return [(user, words(history), words([item])) for user, history, item in pairs]


def test_cold_items_leave_training_sequences_and_users_without_other_clicks():
    split = cold_split()

    assert dict(zip(split.train_user_ids, map(words, split.train), strict=True)) == {
        "t": "ab",
        "u": "a",
        "v": "cb",
        "w": "hgf",
    }
    assert split.popularity(8)[IDS.index("d")] == 0


def test_cold_items_are_neither_targets_nor_history_in_validation():
    split = cold_split()

    # the target of x is d itself
    assert cases_of(split.validation) == [("t", "ab", "c"), ("u", "a", "b"), ("v", "cb", "a"), ("w", "hgf", "e")]


def test_test_cases_are_those_of_the_same_split_without_cold_items():
    split, plain = cold_split(), split_interactions(tables_of(SEQUENCES), DataOptions())

    assert cases_of(split.test) == cases_of(plain.test)
    assert ("v", "cdba", "e") in cases_of(split.test)


def test_the_counts_say_what_was_taken_away():
    counts = cold_split().counts

    assert counts["cold_items"] == 1
    assert counts["dropped_cold_train_interactions"] == 3
    assert counts["dropped_cold_validation"] == 1
    assert counts["cold_test"] == 2
    assert counts["test_histories_with_cold_items"] == 3
    assert counts["train_interactions"] == 8
    assert counts["dropped_short_history_validation"] == 0


def test_fit_rows_are_all_items_but_the_cold_ones():
    split = cold_split()

    assert words(np.flatnonzero(split.fit_rows(8))) == "abcefgh"
    assert split_interactions(tables_of(SEQUENCES), DataOptions()).fit_rows(8).all()


def test_no_cold_items_are_the_default_and_keep_the_digest_of_earlier_versions():
    split = split_interactions(tables_of({"u": "abcd", "v": "efg"}), DataOptions())

    assert split.cold_items.shape == (0,)
    assert split.digest == "3e94738afa6a5ce97296ec9ad5d11d19b0539ea0cba21634753d61e95e48d87c"
    assert not [name for name in split.counts if "cold" in name]


def test_cold_items_are_part_of_the_digest():
    # b and d are never clicked before the test part, so nothing else differs
    sequences = {"u": "aceb", "v": "aced"}

    digests = {cold_split(sequences, cold=item, cold_share=0.5).digest for item in "bd"}

    assert len(digests | {split_interactions(tables_of(sequences), DataOptions()).digest}) == 3


def test_a_split_with_cold_items_survives_saving_with_equal_bytes(tmp_path):
    split = cold_split()
    split.save(tmp_path / "one")
    loaded = Split.load(tmp_path / "one")
    loaded.save(tmp_path / "two")

    assert loaded.cold_items.tolist() == split.cold_items.tolist()
    assert loaded.digest == split.digest
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_row_order_of_the_tables_does_not_choose_the_items():
    straight = split_interactions(tables_of(SEQUENCES), DataOptions(cold_share=0.5))
    backwards = split_interactions(tables_of(SEQUENCES, IDS[::-1]), DataOptions(cold_share=0.5))

    chosen = {IDS[row] for row in straight.cold_items}
    assert len(chosen) == 2
    assert chosen == {IDS[::-1][row] for row in backwards.cold_items}


@given(st.sets(st.integers(0, 99), min_size=1), st.floats(0.001, 0.999), st.integers(0, 5))
def test_the_share_of_the_distinct_candidates_is_chosen(rows, share, seed):
    candidates = np.array(sorted(rows) * 2)
    ids = [f"item{row}" for row in range(100)]

    chosen = choose_cold_items(ids, candidates, share=share, seed=seed)

    assert len(chosen) == max(1, round(share * len(rows)))
    assert set(chosen.tolist()) <= rows
    assert chosen.tolist() == sorted(chosen.tolist())
    assert set(chosen.tolist()) <= set(choose_cold_items(ids, candidates, share=1.0, seed=seed).tolist())
    assert set(choose_cold_items(ids, candidates, share=share / 2, seed=seed).tolist()) <= set(chosen.tolist())


def test_other_seeds_choose_other_items():
    ids, rows = [f"item{row}" for row in range(100)], np.arange(100)

    first, second = (choose_cold_items(ids, rows, share=0.2, seed=seed).tolist() for seed in (0, 1))

    assert first != second


def test_by_time_too_nothing_of_a_cold_item_is_before_the_test_part():
    news = make_news(num_users=200, num_items=120)
    tables = read_tables(DataOptions(), items=news.items, interactions=news.interactions)

    split = split_interactions(tables, DataOptions(split="time", cold_share=0.1))

    fitted = [*split.train, *split.validation.histories, split.validation.items]
    assert len(split.cold_items) == round(0.1 * len(np.unique(split.test.items)))
    assert not np.isin(np.concatenate(fitted), split.cold_items).any()
    assert np.isin(split.cold_items, split.test.items).all()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_its_range_is_an_error(share):
    with pytest.raises(DataError, match=r"data\.cold_share is .*, expected 0 <= share < 1"):
        DataOptions(cold_share=share)


def test_a_share_that_leaves_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match=r"leaves 0 train cases.*data\.cold_share"):
        split_interactions(tables_of({"u": "aaa"}), DataOptions(cold_share=0.5))
