"""Advice: from facts to what is worth mending, in the order in which it matters.

The bounds below are rules of thumb, each with its reason; they decide what is reported, never what is computed.
"""

from collections.abc import Sequence

from cost_hf.experiments.check.code_sizes import CodeSize
from cost_hf.experiments.check.facts import ClickFacts
from cost_hf.experiments.check.power import Power
from cost_hf.experiments.check.problems import Problem
from cost_hf.experiments.check.texts import TextFacts
from cost_hf.reporting.numbers import level_sizes, percent

MIN_CLICKS_AN_ITEM = 10  # below, text neighbours have been ahead of every trained model
MIN_TEST_USERS = 1_000
MAX_DETECTABLE = 0.25  # share of a simple baseline's NDCG@10
MAX_UNSEEN = 0.05
MAX_REPEATED = 0.5
MAX_TIED = 0.2
MAX_SHARED_TEXTS = 0.02
MAX_UNCLICKED = 0.1
MAX_SHORT = 0.1


def data_problems(clicks: ClickFacts, texts: TextFacts) -> list[Problem]:
    """Return what is unusual in users, items, times and texts."""
    return [*_sequence_problems(clicks), *_catalog_problems(clicks, texts)]


def split_problems(clicks: ClickFacts, split: str) -> list[Problem]:
    """Return what the chosen split can't do, what it leaks, and which other one is better."""
    chosen = next(facts for facts in clicks.splits if facts.name == split)
    if chosen.failure is not None:
        other = next((facts.name for facts in clicks.splits if facts.failure is None), None)
        return [Problem("error", chosen.failure, f"--data.split {other}" if other else "longer histories")]
    problems = []
    if chosen.unseen > MAX_UNSEEN:
        problems.append(
            Problem(
                "warning",
                f"{_whole(chosen.unseen)} of the test targets were never clicked in training: models on ids alone "
                "can't hit them",
                "keep methods that read item texts in the comparison",
            )
        )
    if chosen.repeated > 0.01:
        is_most = chosen.repeated > MAX_REPEATED
        problems.append(
            Problem(
                "warning" if is_most else "note",
                f"{percent(chosen.repeated)} of the test targets were clicked before by the same user; with seen items "
                "excluded they are misses",
                "predict the first event of an item, such as a view, by --data.target_events: a purchase of what was "
                "just viewed is easy to predict"
                if is_most
                else "",
            )
        )
    if split == "leave_one_out":
        problems.append(_leak(clicks))
    return problems


def power_problems(clicks: ClickFacts, power: Power) -> list[Problem]:
    """Return whether generative retrieval is likely to pay, and whether it could be seen if it did."""
    problems = []
    per_item = clicks.interactions / clicks.items
    if per_item < MIN_CLICKS_AN_ITEM:
        problems.append(
            Problem(
                "warning",
                f"{per_item:.1f} clicks an item: a trained generator is unlikely to pay; with so few, the neighbours "
                "of the last item's text are hard to beat",
                "compare with nearest texts first; --data.min_item_interactions 5 if rare items do not matter",
            )
        )
    if power.users < MIN_TEST_USERS or power.relative > MAX_DETECTABLE:
        problems.append(
            Problem(
                "warning",
                f"{power.users:,} test users: NDCG@10 differences below about {power.detectable:.3f} "
                f"({_relative(power)}) can't be distinguished from chance",
                "more users, or take the simplest system that is not worse",
            )
        )
    return problems


def code_problems(
    sizes: Sequence[CodeSize], chosen: tuple[int, ...], advised: CodeSize, *, most_collided: float, capacity: int
) -> list[Problem]:
    """Return what is wrong with the level sizes of the run.

    Args:
        sizes: all that were measured.
        chosen: those of the run.
        advised: the best ones.
        most_collided: bound of the share of texts that collide.
        capacity: items that may share codes.
    """
    own = next((size for size in sizes if size.level_sizes == chosen), None)
    if own is not None and own != advised and not own.separates(most_collided, capacity):
        return [
            Problem(
                "warning",
                f"codes of {level_sizes(chosen)} leave {_whole(own.collided)} of the distinct texts in a shared code, "
                f"up to {own.largest_group:,} items in one",
                f'--codes.level_sizes "{list(advised.level_sizes)}"',
            )
        ]
    if not advised.separates(most_collided, capacity):
        return [
            Problem(
                "warning",
                f"no size up to {level_sizes(sizes[-1].level_sizes)} brings collisions below {_whole(most_collided)}: "
                "many texts are nearly the same",
                "richer texts in vectors.template, or a text encoder (--vectors.model "
                "sentence-transformers/all-MiniLM-L6-v2)",
            )
        ]
    return []


def _leak(clicks: ClickFacts) -> Problem:
    names = [facts.name for facts in clicks.splits if facts.name != "leave_one_out"]
    other = f"--data.split {names[-1]}" if names else ""
    message = "leave-one-out: training may hold clicks later than a test click"
    if clicks.time.null_share == 0 and clicks.time.later_share is not None:
        message += f" (on average {_whole(clicks.time.later_share)} of all other clicks are later)"
    elif not names:
        message += "; without times it can't be avoided"
    return Problem("note", message, other)


def _relative(power: Power) -> str:
    if power.level == 0:
        return "and no simple baseline hits anything on validation"
    return f"{_whole(power.relative)} of what a simple baseline reaches"


def _sequence_problems(clicks: ClickFacts) -> list[Problem]:
    problems = []
    if clicks.lengths.median <= 2:
        problems.append(
            Problem(
                "warning",
                f"half of the users have at most {clicks.lengths.median:.0f} clicks: there is hardly a sequence to "
                "learn from",
                "--data.min_user_interactions 3, or a longer period",
            )
        )
    elif clicks.short_users > MAX_SHORT * clicks.users:
        share = clicks.short_users / clicks.users
        problems.append(
            Problem(
                "warning", f"{_whole(share)} of the users have fewer than 3 clicks", "--data.min_user_interactions 3"
            )
        )
    if clicks.time.null_share == 0 and clicks.time.tied_share > MAX_TIED:
        problems.append(
            Problem(
                "warning",
                f"{_whole(clicks.time.tied_share)} of the clicks have the time of another click of their user; their "
                "order is arbitrary",
                "finer times, or a column position",
            )
        )
    return problems


def _catalog_problems(clicks: ClickFacts, texts: TextFacts) -> list[Problem]:
    problems = []
    if texts.shared > MAX_SHARED_TEXTS * clicks.items:
        problems.append(
            Problem(
                "warning",
                f"{texts.shared:,} items ({_whole(texts.shared / clicks.items)}) share their whole text with another; "
                "no code can distinguish these",
                "add a column that does to vectors.template",
            )
        )
    if clicks.unclicked_items > MAX_UNCLICKED * clicks.items:
        share = clicks.unclicked_items / clicks.items
        problems.append(
            Problem("note", f"{_whole(share)} of the items were never clicked; only their text speaks for them")
        )
    return problems


def _whole(share: float) -> str:
    """Return a share in whole percent."""
    return percent(share, digits=0)
