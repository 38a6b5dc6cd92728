"""The toy news set: reproducible, honest about what its texts show, and scored by its own rule."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError, NewsWorld, make_news
from cost_hf.data.synthetic import FOLLOW_LINK, FORMS, LEADS, NEW_STORY, SAME_STORY


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


def test_rows_and_ids_do_not_show_the_leads_of_a_story(news):
    leads = np.flatnonzero(news.oracle.world.leads)

    assert len(leads) == LEADS * len(news.oracle.world.topics)
    assert abs(leads.mean() / 600 - 0.5) < 0.15


def test_every_title_shows_story_topic_and_form(news):
    world, titles = news.oracle.world, news.items["title"]

    for form, words in enumerate(FORMS):
        shows = titles.str.lower().str.contains(words, regex=False).to_numpy()
        np.testing.assert_array_equal(shows, world.forms == form)
    for story in range(len(world.topics)):
        common = set.intersection(
            *(set(title.replace(",", "").replace(":", "").split()) for title in titles[world.stories == story])
        )
        assert common  # the name of the story
        assert news.items["topic"][world.stories == story].nunique() == 1


def steps_of(news):
    """Return rows of articles at every third and later click, of those before, and of those before these."""
    rows = pd.Series(pd.Index(news.items["item_id"]).get_indexer(news.interactions["item_id"]))
    user = news.interactions["user_id"]
    of_one = (user == user.shift(2)).to_numpy()
    return tuple(rows.shift(age)[of_one].to_numpy(dtype=np.int64) for age in (0, 1, 2))


def test_most_steps_stay_or_follow_a_link_and_rare_articles_have_few_clicks(news):
    world = news.oracle.world
    following, last, _ = steps_of(news)
    stays = world.stories[following] == world.stories[last]
    links = world.leads[following] & (world.stories[following] == world.successors[world.stories[last]])
    rows = pd.Index(news.items["item_id"]).get_indexer(news.interactions["item_id"])
    clicks = np.bincount(rows, minlength=600)
    is_rare = world.weights < 0.25  # the others have 600 ** -.2 or more

    assert stays.mean() == pytest.approx(SAME_STORY, abs=0.03)
    assert links.mean() == pytest.approx(FOLLOW_LINK, abs=0.03)
    assert is_rare.mean() == pytest.approx(0.37, abs=0.05)
    assert np.median(clicks[is_rare]) < 0.4 * np.median(clicks[~is_rare])


def test_the_next_form_shows_in_the_click_before_the_last_one_alone():
    """The last click says next to nothing of the next form; together with the one before it most is known."""
    news = make_news(seed=1, num_users=4000)
    world = news.oracle.world
    following, last, before = steps_of(news)
    stays = world.stories[following] == world.stories[last]
    same_form = world.forms[following] == world.forms[before]
    form_of_last = world.forms[following] == world.forms[last]
    other = world.forms[before] != world.forms[last]

    assert same_form[stays & other].mean() > 0.7
    assert form_of_last[stays & other].mean() < 0.15
    for form in range(len(FORMS)):
        given_last = world.forms[following[stays & (world.forms[last] == form)]]
        shares = np.bincount(given_last, minlength=len(FORMS)) / len(given_last)
        assert shares.max() < 0.35


def small_world():
    """Two stories of six articles in one topic, linked to each other; the first article of each is its lead."""
    stories = np.repeat([0, 1], 6)
    forms = np.tile([0, 0, 1, 1, 2, 3], 2)
    leads = np.tile(np.arange(6) == 0, 2)
    return NewsWorld(np.array([0, 0]), stories, forms, leads, np.array([1, 0]), np.tile([1.0, 1, 1, 3, 1, 1], 2))


def chances_after(last: int, before: int) -> np.ndarray:
    read = np.zeros((1, 12), dtype=bool)
    read[0, [row for row in (last, before) if row >= 0]] = True
    return small_world().next_click(np.array([last]), np.array([before]), read, np.ones((1, 1)))[0]


def test_next_click_follows_the_written_rule():
    weights = np.array([1.0, 1, 1, 3, 1, 1]) / 8
    expected = NEW_STORY * np.tile(weights, 2) / 2
    expected[2:4] += SAME_STORY * np.array([1, 3]) / 4  # the form of article 8, in the story of article 0
    expected[6] += FOLLOW_LINK
    blocked = expected[0], expected[8]  # read already
    expected[[0, 8]] = 0
    expected[1:6] += blocked[0] * weights[1:] / weights[1:].sum()
    others = [6, 7, 9, 10, 11]
    expected[others] += blocked[1] * weights[[0, 1, 3, 4, 5]] / weights[[0, 1, 3, 4, 5]].sum()

    np.testing.assert_allclose(chances_after(0, 8), expected)


def test_a_form_that_a_story_lacks_is_any_form():
    world = small_world()
    world.forms[11] = 4  # in the second story alone
    nothing = np.zeros((1, 12), dtype=bool)

    after = world.next_click(np.array([0]), np.array([11]), nothing, np.ones((1, 1)))
    any_form = world.next_click(np.array([0]), np.array([-1]), nothing, np.ones((1, 1)))

    np.testing.assert_allclose(after, any_form)
    assert after[0, :6] == pytest.approx((SAME_STORY + NEW_STORY / 2) * np.array([1, 1, 1, 3, 1, 1]) / 8)


def test_a_new_reader_begins_with_a_lead():
    begin = chances_after(-1, -1)

    assert begin[[0, 6]] == pytest.approx([0.5, 0.5])
    assert begin.sum() == pytest.approx(1)


def test_story_read_to_the_end_sends_its_chance_elsewhere():
    read = np.zeros((1, 12), dtype=bool)
    read[0, :6] = True

    chances = small_world().next_click(np.array([5]), np.array([4]), read, np.ones((1, 1)))[0]

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

    assert (rank < 10).mean() > 0.7


@pytest.mark.parametrize(("users", "items"), [(1, 48), (3, 49), (5, 2000)])
def test_other_sizes_work(users, items):
    news = make_news(seed=2, num_users=users, num_items=items)

    assert len(news.items) == items
    assert news.items["title"].is_unique
    assert news.interactions["user_id"].nunique() == users


def test_too_small_a_world_is_an_error():
    with pytest.raises(DataError, match=r"at least 48 items and 1 user, got num_items=10 and num_users=5"):
        make_news(num_users=5, num_items=10)
