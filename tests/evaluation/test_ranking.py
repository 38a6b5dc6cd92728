import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cost_hf.evaluation.ranking import (
    RankedLists,
    coverage,
    evaluate_ranker,
    is_first_occurrence,
    per_user_metrics,
    proved_shares,
)
from cost_hf.recommenders.rankers import Ranking
from cost_hf.search.certificate import Certificate
from tests.evaluation.stand_ins import Cases, FixedOrder

REPOSITORY = Path(__file__).parents[2]


def evaluate(ranker, cases, *, num_items=6, exclude_seen=False, sid_keys=None, **settings):
    keys = np.arange(num_items) if sid_keys is None else np.asarray(sid_keys)
    return evaluate_ranker(
        ranker, cases, sid_keys=keys, num_items=num_items, exclude_seen=exclude_seen, progress=False, **settings
    )


def test_metrics_of_the_third_place():
    metrics = per_user_metrics(np.array([3.0]), [2, 5])

    assert {name: float(values[0]) for name, values in metrics.items()} == pytest.approx(
        {"recall@2": 0, "ndcg@2": 0, "mrr@2": 0, "recall@5": 1, "ndcg@5": 0.5, "mrr@5": 1 / 3}
    )


def test_a_target_beyond_the_list_scores_nothing():
    assert {float(values[0]) for values in per_user_metrics(np.array([np.nan]), [5, 40]).values()} == {0.0}


@given(st.lists(st.one_of(st.just(float("nan")), st.integers(1, 60).map(float)), min_size=1, max_size=30))
def test_metrics_grow_with_the_cutoff_and_never_exceed_recall(ranks):
    metrics = per_user_metrics(np.array(ranks), [5, 10, 40])

    for kind in ("recall", "ndcg", "mrr"):
        assert (metrics[f"{kind}@5"] <= metrics[f"{kind}@10"]).all()
        assert (metrics[f"{kind}@10"] <= metrics[f"{kind}@40"]).all()
    assert (metrics["mrr@10"] <= metrics["ndcg@10"]).all()
    assert (metrics["ndcg@10"] <= metrics["recall@10"]).all()


def test_ranks_stand_in_the_order_of_the_cases():
    cases = Cases([[0, 1, 2], [3], [4, 5]], [2, 0, 5])

    lists = evaluate(FixedOrder([5, 4, 3, 2, 1, 0]), cases, batch_size=2)

    assert lists.item_rank.tolist() == [4, 6, 1]


def test_a_target_that_is_not_listed_has_no_rank():
    lists = evaluate(FixedOrder([0, 1, 2, 3, 4, 5]), Cases([[0]], [4]), top_k=3)

    assert np.isnan(lists.item_rank).all()
    assert lists.list_length == 3


def test_excluded_items_make_room_inside_the_list():
    lists = evaluate(FixedOrder([0, 1, 2, 3, 4, 5]), Cases([[0, 1]], [3]), exclude_seen=True, top_k=3)

    assert lists.items.tolist() == [[2, 3, 4]]
    assert lists.item_rank.tolist() == [2]


def test_a_repeated_target_is_a_miss_where_seen_items_are_excluded():
    cases = Cases([[0, 1]], [1])

    assert evaluate(FixedOrder(range(6)), cases).item_rank.tolist() == [2]
    assert np.isnan(evaluate(FixedOrder(range(6)), cases, exclude_seen=True).item_rank).all()


def test_sid_ranks_count_each_sid_once():
    # rows 0, 1, 2 share a SID; 4 shares the target's
    lists = evaluate(FixedOrder([0, 1, 2, 3, 4, 5]), Cases([[0]], [5]), sid_keys=[0, 0, 0, 1, 2, 2])

    assert lists.item_rank.tolist() == [6]
    assert lists.sid_rank.tolist() == [3]


@given(st.integers(0, 10_000))
def test_sid_ranks_equal_a_plain_count(seed):
    generator = np.random.default_rng(seed)
    keys, order, target = generator.integers(0, 4, size=8), generator.permutation(8), int(generator.integers(8))

    lists = evaluate(FixedOrder(order, longest=5), Cases([[0]], [target]), num_items=8, sid_keys=keys)

    distinct = list(dict.fromkeys(keys[order[:5]].tolist()))
    expected = distinct.index(keys[target]) + 1 if keys[target] in distinct else None
    assert (None if np.isnan(lists.sid_rank[0]) else lists.sid_rank[0]) == expected


def test_first_occurrences_ignore_missing_entries():
    flags = is_first_occurrence(np.array([[3, 3, 1, -1, -1], [-1, 2, 0, 2, 0]]))

    assert flags.tolist() == [[True, False, True, False, False], [False, True, True, False, False]]


def test_coverage_counts_distinct_items_within_the_cutoff():
    items = np.array([[0, 1, -1], [0, 2, 3]])

    assert coverage(items, 2, num_items=4) == 0.75
    assert coverage(items, 3, num_items=4) == 1.0


def test_results_do_not_depend_on_the_batch_size():
    generator = np.random.default_rng(0)
    histories = [generator.integers(0, 6, size=generator.integers(1, 5)) for _ in range(17)]
    cases = Cases(histories, generator.integers(0, 6, size=17))

    found = [evaluate(FixedOrder(range(6)), cases, exclude_seen=True, batch_size=size) for size in (1, 5, 100)]

    for lists in found[1:]:
        for name, array in lists.arrays().items():
            np.testing.assert_array_equal(array, found[0].arrays()[name])


def test_batches_of_different_widths_are_filled_up():
    class Shrinking(FixedOrder):
        def rank(self, histories, *, top_k, mask=None):
            return super().rank(histories, top_k=top_k - histories.shape[1] + 1, mask=mask)

    lists = evaluate(Shrinking(range(6)), Cases([[0], [0, 1]], [5, 0]), batch_size=1, top_k=4)

    assert lists.items.tolist() == [[0, 1, 2, 3], [0, 1, 2, -1]]


def test_rankers_that_take_user_ids_get_those_of_the_batch():
    asked = []

    class Personal(FixedOrder):
        def rank(self, histories, *, top_k, mask=None, user_ids=None):
            asked.append(user_ids)
            return super().rank(histories, top_k=top_k, mask=mask)

    evaluate(Personal(range(6)), Cases([[0, 1], [2]], [3, 4], ["ann", "bob"]), batch_size=1)

    assert asked == [["bob"], ["ann"]]


def test_lists_survive_safetensors(tmp_path):
    lists = evaluate(FixedOrder(range(6), longest=2), Cases([[0], [1]], [1, 5]))

    save_file(lists.arrays(), tmp_path / "lists.safetensors")
    restored = RankedLists.from_arrays(load_file(tmp_path / "lists.safetensors"))

    np.testing.assert_array_equal(restored.item_rank, [2, np.nan])
    np.testing.assert_array_equal(restored.items, lists.items)


class Proving(FixedOrder):
    """Proves as many places as the last item of the history has a number."""

    def rank(self, histories, *, top_k, mask=None):
        ranking = super().rank(histories, top_k=top_k, mask=mask)
        last = histories.gather(1, (histories >= 0).sum(1, keepdim=True) - 1)[:, 0]
        return Ranking(ranking.items, ranking.scores, Certificate(last, torch.zeros(len(last)), last))


def test_what_a_ranker_proves_stands_in_the_order_of_the_cases(tmp_path):
    cases = Cases([[0, 1, 5], [3], [4, 2], [1]], [2, 0, 5, 3])

    lists = evaluate(Proving(range(6), longest=4), cases, batch_size=2)
    save_file(lists.arrays(), tmp_path / "lists.safetensors")
    restored = RankedLists.from_arrays(load_file(tmp_path / "lists.safetensors"))

    assert lists.num_exact.tolist() == restored.num_exact.tolist() == [5, 3, 2, 1]
    assert proved_shares(lists, [1, 2, 3, 5]) == {"1": 1.0, "2": 0.75, "3": 0.5}  # no list has five places
    assert proved_shares(evaluate(FixedOrder(range(6)), cases), [1, 2]) is None


def test_no_cases_are_an_error():
    with pytest.raises(ValueError, match=r"at least one evaluation case, got 0; check the split"):
        evaluate(FixedOrder(range(6)), Cases([], []))


def test_sid_keys_of_another_catalog_are_an_error():
    with pytest.raises(ValueError, match="one entry per catalog row, expected 6, got 4"):
        evaluate(FixedOrder(range(6)), Cases([[0]], [1]), sid_keys=[0, 1, 2, 3])


CHILD = """
import sys
import numpy as np
from accelerate import PartialState
from safetensors.numpy import save_file
from tests.evaluation.test_ranking import distributed_lists

lists = distributed_lists()
state = PartialState()
save_file(lists.arrays(), f"{sys.argv[1]}/{state.num_processes}-{state.process_index}.safetensors")
state.destroy_process_group()  # a process that exits with its group may abort
"""


class ByHistory:
    """Ranks by a seeded score of the last item, so that a wrong case shows."""

    def rank(self, histories, *, top_k, mask=None):
        last = histories.gather(1, (histories >= 0).sum(1, keepdim=True) - 1)
        scores = torch.sin(last * 7.0 + torch.arange(40)).masked_fill(~mask.dense(len(last)), -torch.inf)
        best = scores.topk(top_k)
        return Ranking(best.indices, best.values)


def distributed_lists():
    generator = np.random.default_rng(3)
    histories = [generator.integers(0, 40, size=generator.integers(1, 9)) for _ in range(37)]
    cases = Cases(histories, generator.integers(0, 40, size=37))
    return evaluate(ByHistory(), cases, num_items=40, exclude_seen=True, top_k=10, batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_find_what_one_finds(tmp_path, world):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    subprocess.run([*launch, str(script), str(tmp_path)], check=True, env=environment, cwd=tmp_path, timeout=300)

    expected = distributed_lists().arrays()

    for process in range(world):
        found = load_file(tmp_path / f"{world}-{process}.safetensors")
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
