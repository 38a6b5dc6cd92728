"""Rules of thumb: each speaks on the side of its bound where it should, and names its remedy."""

import dataclasses

import pytest

from cost_hf.experiments.check.advice import code_problems, data_problems, power_problems, split_problems
from cost_hf.experiments.check.code_sizes import CodeSize
from cost_hf.experiments.check.facts import ClickFacts, Lengths, SplitFacts, TimeFacts
from cost_hf.experiments.check.power import Power
from cost_hf.experiments.check.problems import Problem, by_severity
from cost_hf.experiments.check.texts import TextFacts

SOUND = ClickFacts(
    users=5_000,
    items=1_000,
    interactions=50_000,
    density=0.01,
    lengths=Lengths(5, 8.0, 10.0, 20.0, 60),
    short_users=0,
    unclicked_items=0,
    repeated_pairs=0,
    top_share=0.4,
    time=TimeFacts("2024-01-01", "2024-06-30", 0.0, 0.0, 0.4),
    splits=(SplitFacts("leave_one_out", 5_000, 5_000, 0.0, 0.0), SplitFacts("time", 6_000, 2_000, 0.01, 0.0)),
)
TEXTS = TextFacts("{title}", (), 8.0, empty=0, shared=0, largest_shared=1, near_share=0.0)
POWER = Power(users=5_000, spread=0.2, level=0.08)
SIZES = [CodeSize((64,) * 3, 64**3, 0.4, 20), CodeSize((256,) * 3, 256**3, 0.2, 12)]
BOUNDS = {"most_collided": 0.25, "capacity": 256}


def changed(**fields):
    return dataclasses.replace(SOUND, **fields)


def test_sound_data_have_no_problem_but_the_leak_that_another_split_mends():
    (leak,) = [*data_problems(SOUND, TEXTS), *split_problems(SOUND, "leave_one_out"), *power_problems(SOUND, POWER)]

    assert leak.severity == "note"
    assert "training may hold clicks later than a test click (on average 40\u00a0%" in leak.message
    assert leak.remedy == "--data.split time"


@pytest.mark.parametrize(
    ("fields", "words", "remedy"),
    [
        ({"lengths": Lengths(1, 2.0, 2.1, 4.0, 9)}, "at most 2 clicks", "--data.min_user_interactions 3"),
        ({"short_users": 600}, "12\u00a0% of the users have fewer than 3", "--data.min_user_interactions 3"),
        ({"time": TimeFacts("a", "b", 0.0, 0.3, 0.4)}, "30\u00a0% of the clicks have the time of another", "position"),
        ({"unclicked_items": 300}, "30\u00a0% of the items were never clicked", ""),
    ],
)
def test_each_oddity_of_the_log_is_named(fields, words, remedy):
    (problem,) = data_problems(changed(**fields), TEXTS)

    assert words in problem.message
    assert remedy in problem.remedy


def test_shared_texts_ask_for_another_column():
    (problem,) = data_problems(SOUND, dataclasses.replace(TEXTS, shared=50, largest_shared=9))

    assert "50 items (5\u00a0%) share their whole text" in problem.message
    assert "vectors.template" in problem.remedy


def test_a_split_that_is_impossible_is_an_error_that_names_one_that_works():
    splits = (SOUND.splits[0], SplitFacts("time", 0, 0, 0.0, 0.0, failure="no times"))

    (problem,) = split_problems(changed(splits=splits), "time")

    assert problem == Problem("error", "no times", "--data.split leave_one_out")


def test_unseen_and_repeated_targets_of_the_chosen_split_are_named():
    splits = (SOUND.splits[0], SplitFacts("source", 100, 90, 0.2, 0.05))

    messages = [problem.message for problem in split_problems(changed(splits=splits), "source")]

    assert len(messages) == 2
    assert "20\u00a0% of the test targets were never clicked" in messages[0]
    assert "5.0\u00a0% of the test targets were clicked before" in messages[1]


def test_few_clicks_an_item_make_a_generator_unlikely_to_pay():
    (problem,) = power_problems(changed(interactions=4_000), POWER)

    assert "4.0 clicks an item: a trained generator is unlikely to pay" in problem.message


def test_few_test_users_are_told_what_they_can_not_show():
    (problem,) = power_problems(SOUND, Power(users=400, spread=0.2, level=0.08))

    assert "below about 0.028 (35\u00a0% of what a simple baseline reaches)" in problem.message


def test_the_detectable_difference_follows_its_formula():
    assert Power(users=400, spread=0.2, level=0.1).detectable == pytest.approx(2.8 * 0.2 / 20, rel=1e-3)
    assert Power(users=400, spread=0.2, level=0.1).relative == pytest.approx(0.28, rel=1e-3)


def test_colliding_sizes_of_a_recipe_get_the_advised_ones_as_a_flag():
    (problem,) = code_problems(SIZES, (64,) * 3, SIZES[1], **BOUNDS)

    assert "codes of 3 × 64 leave 40\u00a0%" in problem.message
    assert problem.remedy == '--codes.level_sizes "[256, 256, 256]"'
    assert code_problems(SIZES, (256,) * 3, SIZES[1], **BOUNDS) == []


def test_texts_that_no_size_separates_are_the_problem_themselves():
    (problem,) = code_problems(SIZES, (256,) * 3, SIZES[1], most_collided=0.1, capacity=256)

    assert "no size up to 3 × 256 brings collisions below 10\u00a0%" in problem.message


def test_errors_stand_first_and_the_order_within_a_kind_stays():
    given = [Problem("note", "a"), Problem("error", "b"), Problem("warning", "c"), Problem("error", "d")]

    assert [problem.message for problem in by_severity(given)] == ["b", "d", "c", "a"]


@pytest.mark.parametrize(("repeated", "severity"), [(0.3, "note"), (0.9, "warning")])
def test_targets_that_mostly_repeat_the_history_are_too_easy(repeated, severity):
    split = SplitFacts("leave_one_out", 5_000, 5_000, 0.0, repeated)
    problems = split_problems(changed(splits=(split,)), "leave_one_out")
    (problem,) = [problem for problem in problems if "clicked before" in problem.message]

    assert problem.severity == severity
    assert ("--data.target_events" in problem.remedy) == (severity == "warning")
