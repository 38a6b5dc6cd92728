"""The clock of estimated costs, and the time on an idle machine."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cost_hf.data.row_lists import RowLists
from cost_hf.experiments.check.estimates import RunCosts, estimate, wall_seconds
from cost_hf.experiments.check.vectors import CheckVectors
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods import benchmarking
from cost_hf.methods.benchmarking import fastest, one_thread


def test_more_threads_take_less_time_but_not_in_proportion():
    assert wall_seconds(100, 1) == 100
    assert 100 / 4 < wall_seconds(100, 4) < wall_seconds(100, 2) < 100


def test_work_is_timed_in_one_thread_and_torch_gets_its_threads_back(monkeypatch):
    monkeypatch.setattr(benchmarking, "BUDGET_SECONDS", 0.0)
    before, seen = torch.get_num_threads(), []

    fastest(lambda: seen.append(torch.get_num_threads()))

    assert seen == [1, 1]  # once to warm up, once by the clock
    assert torch.get_num_threads() == before


def test_threads_come_back_after_an_error():
    before = torch.get_num_threads()

    with pytest.raises(RuntimeError), one_thread():
        raise RuntimeError

    assert torch.get_num_threads() == before


def costs(test_users: int, **evaluation) -> RunCosts | str:
    """Return the costs of a recipe of counts, whose training part is always the same."""
    recipe = Recipe.load("markov_text", overrides={f"evaluation.{name}": value for name, value in evaluation.items()})
    split = SimpleNamespace(train=RowLists.of([np.zeros(5, dtype=np.int64)] * 100), test=range(test_users))
    tables = SimpleNamespace(num_items=1000)
    return estimate(recipe, tables, split, CheckVectors(np.zeros((1, 64)), "lsa", 64, 0.0, "cached"))


def test_every_baseline_ranks_every_test_case():
    none, one, two, both = (
        costs(1000, baselines=names) for names in ([], ["popularity"], ["item_knn"], ["popularity", "item_knn"])
    )

    assert "baselines" not in none.seconds
    assert both.seconds["baselines"] == pytest.approx(one.seconds["baselines"] + two.seconds["baselines"])
    assert both.run == pytest.approx(none.run + both.seconds["baselines"])


@pytest.mark.parametrize("stage", ["evaluation", "baselines"])
def test_the_evaluation_costs_as_many_times_as_users_are_evaluated(stage):
    def seconds(users: int, **evaluation) -> float:
        return costs(users, baselines=["popularity"], **evaluation).seconds[stage]

    fitting = seconds(0)
    assert seconds(1_000) > fitting
    assert seconds(2_000) - fitting == pytest.approx(2 * (seconds(1_000) - fitting))
    assert seconds(2_000, max_users=500) == seconds(900, max_users=500) == seconds(500)


def test_a_baseline_that_is_not_measured_is_said_to_come_on_top(monkeypatch):
    monkeypatch.setattr("cost_hf.methods.counting.method.ItemKnn.estimate", lambda *_: "no clock")

    found = costs(1000, baselines=["popularity", "item_knn"])

    assert found.seconds["baselines"] == costs(1000, baselines=["popularity"]).seconds["baselines"]
    assert "baseline item_knn comes on top (no clock)" in found.assumptions
