"""The soak of the server: its judgement of answers and of memory, and a minute of it."""

import sys
from pathlib import Path

import pytest

from tests.serving.running import saved_example

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from soak import Plan, Record, is_same_list, soak

LIST = [("kettle", -1.0), ("press", -2.0), ("filter", -3.0)]


@pytest.mark.parametrize(
    ("listed", "is_same"),
    [
        (LIST, True),
        ([("kettle", -1.0), ("press", -2.0), ("teapot", -3.0002)], True),  # a near tie at the end
        ([("kettle", -1.0), ("press", -2.0)], False),
        ([("kettle", -1.0), ("teapot", -2.0), ("filter", -3.0)], False),
        ([("press", -1.0), ("kettle", -2.0), ("filter", -3.0)], False),
        ([("kettle", -1.0), ("press", -2.1), ("filter", -3.0)], False),
        ([("kettle", -1.0), ("kettle", -1.0), ("filter", -3.0)], False),
    ],
)
def test_a_list_of_another_edition_is_seen(listed, is_same):
    assert is_same_list(listed, LIST) is is_same


@pytest.mark.parametrize(("a_second", "growth"), [(0.0, 0.0), (1.0, 100 * 2 / 3 / 133)])
def test_growth_is_that_after_the_warm_up(a_second, growth):
    record = Record(memory=[(float(t), 100.0 + a_second * t if t >= 20 else 50.0) for t in range(120)])

    assert record.growth(20.0) == pytest.approx(growth, abs=0.05)


@pytest.mark.slow  # a minute, by design
def test_a_minute_has_no_error_no_mixed_answer_and_no_growing_memory(tmp_path):
    found = soak(saved_example(tmp_path / "served"), Plan(seconds=60.0, change=5.0, reload=15.0))

    assert found["requests"] > 0
    assert found["editions that answered"] > found["reloads of the model"] >= 2
