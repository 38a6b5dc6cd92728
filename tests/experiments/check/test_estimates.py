"""The clock of estimated costs, and the time on an idle machine."""

import pytest
import torch

from cost_hf.experiments.check.estimates import wall_seconds
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
