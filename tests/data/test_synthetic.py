"""The toy news set: reproducible, honest about what its texts show, and scored by its own rule."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError, NewsWorld, make_news
from cost_hf.data.synthetic import EARLY_EPISODES, JUMP, NEW_STORY, NEXT_EPISODE, TO_ANY_TOPIC, TO_SAME_TOPIC


@pytest.fixture(scope="module")
def news():
    return make_news()


def test_one_seed_gives_one_world(news):
    again = make_news(seed=0)

    pd.testing.assert_frame_equal(news.items, again.items)
    pd.testing.assert_frame_equal(news.interactions, again.interactions)
    assert not make_news(seed=1).items["title"].equals(news.items["title"])


def test_tables_have_the_documented_shape(news):
    lengths = news.interactions["user_id"].value_counts()

    assert list(news.items.columns) == ["item_id", "topic", "title"]
    assert list(news.interactions.columns) == ["user_id", "item_id", "timestamp"]
    assert len(news.items) == news.items["item_id"].nunique() == news.items["title"].nunique() == 600
    assert len(lengths) == 1000
    assert lengths.between(6, 14).all()
    assert news.interactions["item_id"].isin(news.items["item_id"]).all()


def test_no_reader_reads_an_article_twice(news):
    assert not news.interactions.duplicated(["user_id", "item_id"]).any()


def test_times_rise_for_every_reader_within_sixty_days(news):
    steps = news.interactions.groupby("user_id")["timestamp"].diff().dropna()
    times = news.interactions["timestamp"]

    assert (steps > 0).all()
    assert times.max() - times.min() <= 60 * 86_400 + 14


def test_rows_and_ids_do_not_show_the_order_of_a_story(news):
    world = news.oracle.world
    correlations = [
        np.corrcoef(np.flatnonzero(world.stories == story), world.episodes[world.stories == story])[0, 1]
        for story in range(len(world.topics))
    ]

    assert abs(np.mean(correlations)) < 0.1


def test_most_steps_stay_in_the_story_and_few_articles_dominate(news):
    rows = pd.Index(news.items["item_id"]).get_indexer(news.interactions["item_id"])
    stories = pd.Series(news.oracle.world.stories[rows])
    user = news.interactions["user_id"]
    within = (stories == stories.shift())[user == user.shift()]
    clicks = np.sort(np.bincount(rows, minlength=600))[::-1]

    assert within.mean() == pytest.approx(0.6, abs=0.03)
    assert 0.2 < clicks[:60].sum() / clicks.sum() < 0.35


def small_world():
    """Two stories of six articles in one topic, linked to each other both ways."""
    episodes = np.tile(np.arange(6), 2)
    stories = np.repeat([0, 1], 6)
    return NewsWorld(np.array([0, 0]), stories, episodes, np.array([[1, 1], [0, 0]]), np.ones(12))


def test_next_click_follows_the_written_rule():
    read = np.zeros((1, 12), dtype=bool)
    read[0, 0] = True

    chances = small_world().next_click(np.array([0]), read, np.ones((1, 1)))[0]

    anywhere = NEW_STORY / 12
    moved = anywhere / 5  # what fell on the article already read goes to the five others of its story
    expected = np.full(12, anywhere)
    expected[0] = 0
    expected[1:6] += moved
    expected[1] += NEXT_EPISODE
    expected[6 : 6 + EARLY_EPISODES] += JUMP / EARLY_EPISODES
    np.testing.assert_allclose(chances, expected)


def test_after_the_last_episode_a_successor_opens():
    read = np.zeros((1, 12), dtype=bool)
    read[0, 5] = True

    chances = small_world().next_click(np.array([5]), read, np.ones((1, 1)))[0]

    share = TO_SAME_TOPIC + TO_ANY_TOPIC
    assert chances[6] == pytest.approx(NEXT_EPISODE * share + JUMP / EARLY_EPISODES + NEW_STORY / 12)


def test_story_read_to_the_end_sends_its_chance_elsewhere():
    read = np.zeros((1, 12), dtype=bool)
    read[0, :6] = True

    chances = small_world().next_click(np.array([5]), read, np.ones((1, 1)))[0]

    assert chances[:6].sum() == 0
    assert chances.sum() == pytest.approx(1)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_oracle_gives_a_distribution_over_unread_articles(data, news):
    histories = data.draw(st.lists(st.lists(st.integers(0, 599), max_size=14, unique=True), min_size=1, max_size=5))
    matrix = np.full((len(histories), 14), -1)
    for row, history in enumerate(histories):
        matrix[row, : len(history)] = history

    scores = news.oracle.scores(matrix)

    assert scores.shape == (len(histories), 600)
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(1), 1)
    for row, history in enumerate(histories):
        assert (scores[row, history] == 0).all()


def test_oracle_answers_an_empty_batch_and_empty_histories(news):
    assert news.oracle.scores(np.full((0, 3), -1)).shape == (0, 600)
    assert news.oracle.scores(np.empty((2, 0), dtype=np.int64)).sum() == pytest.approx(2)


def test_oracle_ranks_true_clicks_far_above_popularity(news):
    rows = pd.Index(news.items["item_id"]).get_indexer(news.interactions["item_id"])
    sequences = [rows[indices] for indices in news.interactions.groupby("user_id").indices.values()]
    histories = np.full((len(sequences), 13), -1)
    for number, sequence in enumerate(sequences):
        histories[number, : len(sequence) - 1] = sequence[:-1]
    targets = np.array([sequence[-1] for sequence in sequences])

    scores = news.oracle.scores(histories)
    rank = (scores > scores[np.arange(len(targets)), targets][:, None]).sum(1)

    assert (rank < 10).mean() > 0.8


@pytest.mark.parametrize(("users", "items"), [(1, 48), (3, 49), (5, 2000)])
def test_other_sizes_work(users, items):
    news = make_news(seed=2, num_users=users, num_items=items)

    assert len(news.items) == items
    assert news.items["title"].is_unique
    assert news.interactions["user_id"].nunique() == users


def test_too_small_a_world_is_an_error():
    with pytest.raises(DataError, match=r"at least 48 items and 1 user, got num_items=10 and num_users=5"):
        make_news(num_users=5, num_items=10)
