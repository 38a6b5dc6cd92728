"""The toy news with long histories: reproducible, and readers return to stories that recent clicks do not hold."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.data.returning_interests import (
    ARTICLES_A_STORY,
    DORMANT,
    INTERESTS,
    STAY,
    make_returning_interests,
)
from cost_hf.data.synthetic import make_world

READERS = 8


@pytest.fixture(scope="module")
def toy():
    return make_returning_interests(num_users=READERS)


@pytest.fixture(scope="module")
def stories(toy):
    """The stories of every reader's clicks, in order."""
    world = make_world(np.random.default_rng(0), 960, story_length=ARTICLES_A_STORY)
    rows = pd.Index(toy.items["item_id"]).get_indexer(toy.interactions["item_id"])
    return [world.stories[rows[own]] for own in toy.interactions.groupby("user_id").indices.values()]


def test_one_seed_gives_one_world(toy):
    again = make_returning_interests(num_users=READERS)

    pd.testing.assert_frame_equal(toy.items, again.items)
    pd.testing.assert_frame_equal(toy.interactions, again.interactions)
    assert not make_returning_interests(num_users=READERS, seed=1).items["title"].equals(toy.items["title"])


def test_histories_are_long_and_times_rise(toy):
    lengths = toy.interactions["user_id"].value_counts()
    steps = toy.interactions.groupby("user_id")["timestamp"].diff().dropna()

    assert len(lengths) == READERS and lengths.between(300, 1000).all()
    assert (steps > 0).all()


def test_readers_have_their_interests_and_leave_them_for_long(stories):
    for own in stories:
        assert len(set(own.tolist())) <= INTERESTS
        moves = np.flatnonzero(np.diff(own) != 0) + 1
        assert abs(len(moves) / len(own) - (1 - STAY)) < 0.1
        late = [place for place in moves if place > 200]
        recent = [own[place] in own[place - DORMANT + 1 : place] for place in late]
        assert np.mean(recent) < 0.05  # of those a reader moves to where none is dormant
        assert np.mean([own[place] in own[:place] for place in late]) > 0.9


def test_a_recipe_names_it_and_it_has_no_oracle():
    options = DataOptions(
        reader="synthetic", synthetic_world="returning_interests", synthetic_users=4, synthetic_items=480, split="time"
    )

    data = prepare_data(options)

    assert data.oracle is None and data.tables.num_items == 480


def test_sizes_that_it_can_not_have_are_named():
    with pytest.raises(DataError, match="at least 480 items and 1 user, got num_items=479"):
        make_returning_interests(num_items=479)
    with pytest.raises(DataError, match=r"data\.synthetic_world is 'new'"):
        DataOptions(synthetic_world="new")
