"""Costs in words, and the clock behind them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.check.estimates import duration, memory, wall_seconds
from cost_hf.methods import benchmarking
from cost_hf.methods.benchmarking import fastest, one_thread


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "under a minute"),
        (37, "under a minute"),
        (120, "1–4 minutes"),
        (300, "3–8 minutes"),
        (1200, "10–35 minutes"),
        (3000, "35–80 minutes"),
        (4 * 3600, "2–7 hours"),
    ],
)
def test_a_duration_is_a_range_without_false_precision(seconds, words):
    assert duration(seconds) == words


@given(seconds=st.floats(60, 10**6))
def test_the_estimate_lies_inside_its_range(seconds):
    numbers, unit = duration(seconds).split(" ")
    low, high = (int(number) for number in numbers.split("–"))

    assert low <= seconds / {"minutes": 60, "hours": 3600}[unit] <= high or low == 1


@pytest.mark.parametrize(("megabytes", "words"), [(700, "0.7–1.4 GB"), (3000, "3–6 GB")])
def test_memory_is_a_range_of_gigabytes(megabytes, words):
    assert memory(megabytes) == words


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
