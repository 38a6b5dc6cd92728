"""Synthetic news: a toy catalog and click log, so that everything runs with no data and no network.

It is toy data made by this package, and every table that shows it says so. Three forces are planted, each strong
enough to be measured: article order within a story (what sequence models find), words (what text neighbours find) and
links between topics that no text shows. The rule is `news_world.NewsWorld`; its oracle is the ceiling.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.data.news_world import CONCENTRATION, NewsOracle, NewsWorld
from cost_hf.data.schema import DataError

TOPICS = {
    "politics": ("election", "senate", "ballot", "coalition", "budget vote", "minister"),
    "economy": ("inflation", "exports", "interest rates", "payroll", "factory orders", "bonds"),
    "football": ("derby", "penalty", "transfer", "midfield", "league title", "goalkeeper"),
    "tennis": ("tie-break", "clay court", "backhand", "grand slam", "serve", "doubles final"),
    "space": ("rocket", "orbit", "lander", "telescope", "space station", "launch window"),
    "medicine": ("vaccine", "clinical trial", "surgery", "antibody", "hospital ward", "dosage"),
    "climate": ("heatwave", "emissions", "glacier", "drought", "flood defences", "carbon price"),
    "film": ("premiere", "screenplay", "box office", "director's cut", "casting", "sequel"),
    "music": ("album", "tour dates", "vinyl", "chorus", "festival stage", "songwriting"),
    "gadgets": ("smartphone", "battery", "headset", "firmware", "touchscreen", "smartwatch"),
    "travel": ("night train", "island ferry", "visa rules", "hiking trail", "boarding pass", "hostel"),
    "food": ("sourdough", "olive oil", "street stall", "tasting menu", "harvest", "spice market"),
}
VERBS = (
    "faces questions",
    "wins praise",
    "changes course",
    "raises doubts",
    "makes a comeback",
    "breaks a record",
    "draws crowds",
    "delays a decision",
    "strikes a deal",
    "surprises experts",
)
TEMPLATES = (
    "{entity} {verb} over {term}",
    "Inside the {term} story: {entity} {verb}",
    "Why {entity} {verb} as {topic} fans talk about {term}",
    "{term} latest: {entity} {verb}",
    "Five things to know about {term} after {entity} {verb}",
    "{topic} briefing: {term} in focus while {entity} {verb}",
    "Opinion: {entity} {verb}, and {term} will never be the same",
    "{entity} {verb} in a week full of {term}",
)
SYLLABLES = (
    "ka", "lo", "mi", "ren", "to", "vas", "el", "dri", "sha", "nor",
    "be", "qui", "zan", "ul", "fe", "mar", "ost", "ti", "gru", "han",
)  # fmt: skip
STORY_LENGTH = 12.5  # articles a story has on average: 48 stories for 600 articles
ATTRACTION_EXPONENT = 0.8  # the top tenth of articles then takes 28 % of the clicks
DRIFT = 0.15  # probability that interests move half of the way to a new draw before a step
MIN_CLICKS, MAX_CLICKS = 6, 14
USERS_AT_A_TIME = 1000
FIRST_SECOND = 1_704_067_200  # 2024-01-01 UTC
DAY = 86_400
PERIOD_DAYS = 60


@dataclass(frozen=True, eq=False)
class SyntheticNews:
    """A toy news set.

    Attributes:
        items: `item_id`, `topic`, `title`; N rows.
        interactions: `user_id`, `item_id`, `timestamp` (epoch seconds, rising for every user).
        oracle: scorer by the known rule; its columns are the rows of `items`.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    oracle: NewsOracle

    def __repr__(self) -> str:
        """Say in one line how large the set is."""
        return f"SyntheticNews({len(self.items)} items, {len(self.interactions)} clicks)"


def make_news(*, seed: int = 0, num_users: int = 1000, num_items: int = 600) -> SyntheticNews:
    """Make a toy catalog of news and the clicks of its readers; the same arguments give the same tables.

    Args:
        seed: which world; catalog and clicks both depend on it.
        num_users: readers, each with 6 to 14 clicks on different articles.
        num_items: articles N, at least 48.
    """
    if num_items < 48 or num_users < 1:
        raise DataError(
            f"synthetic news needs at least 48 items and 1 user, got num_items={num_items!r} and "
            f"num_users={num_users!r}; raise data.synthetic_items or data.synthetic_users"
        )
    generator = np.random.default_rng(seed)
    world = _make_world(generator, num_items)
    items = _make_items(generator, world)
    clicks = _simulate(generator, world, num_users)
    users, steps = np.nonzero(clicks >= 0)
    width = len(str(num_users))
    interactions = pd.DataFrame(
        {
            "user_id": [f"U{user + 1:0{width}d}" for user in users],
            "item_id": items["item_id"].to_numpy()[clicks[users, steps]],
            "timestamp": _make_times(generator, clicks >= 0)[users, steps],
        }
    )
    return SyntheticNews(items=items, interactions=interactions, oracle=NewsOracle(world))


def _make_world(generator: np.random.Generator, num_items: int) -> NewsWorld:
    """Deal articles to stories in turn, then shuffle them, so that catalog rows show neither story nor order."""
    num_stories = len(TOPICS) * max(1, round(num_items / STORY_LENGTH / len(TOPICS)))
    topics = np.arange(num_stories) % len(TOPICS)
    shuffled = generator.permutation(num_items)
    any_topic = _ring(generator, np.arange(num_stories), num_stories)
    same_topic = any_topic  # stays so for a topic with one story
    for topic in range(len(TOPICS)):
        members = np.flatnonzero(topics == topic)
        if len(members) > 1:
            same_topic = np.where(topics == topic, _ring(generator, members, num_stories), same_topic)
    return NewsWorld(
        topics=topics,
        stories=shuffled % num_stories,
        episodes=shuffled // num_stories,
        successors=np.stack([same_topic, any_topic], axis=1),
        weights=(1.0 + generator.permutation(num_items)) ** -ATTRACTION_EXPONENT,
    )


def _ring(generator: np.random.Generator, stories: np.ndarray, size: int) -> np.ndarray:
    """Link stories in a random ring: each follows exactly one other, so links alone make none of them popular."""
    order = generator.permutation(stories)
    following = np.full(size, -1)
    following[order] = np.roll(order, -1)
    return following


def _make_items(generator: np.random.Generator, world: NewsWorld) -> pd.DataFrame:
    topics = list(TOPICS)
    names = _make_names(generator, len(world.topics))
    used: set[str] = set()
    titles = []
    for story in world.stories:
        topic = topics[world.topics[story]]
        while True:  # 480 titles are possible for an entity, a story takes 13 or so
            template, verb = TEMPLATES[generator.integers(len(TEMPLATES))], VERBS[generator.integers(len(VERBS))]
            term = TOPICS[topic][generator.integers(len(TOPICS[topic]))]
            title = template.format(entity=names[story], verb=verb, term=term, topic=topic)
            title = title[0].upper() + title[1:]
            if title not in used:
                break
        used.add(title)
        titles.append(title)
    size = len(titles)
    ids = [f"N{number:0{len(str(size))}d}" for number in range(1, size + 1)]
    return pd.DataFrame(
        {"item_id": ids, "topic": [topics[topic] for topic in world.topics[world.stories]], "title": titles}
    )


def _make_names(generator: np.random.Generator, count: int) -> list[str]:
    """Invent distinct names, three of four with two words."""
    names: list[str] = []
    while len(names) < count:
        words = [
            "".join(generator.choice(SYLLABLES, size=generator.integers(2, 4))) for _ in range(1 + (len(names) % 4 > 0))
        ]
        name = " ".join(word.capitalize() for word in words)
        if name not in names:
            names.append(name)
    return names


def _simulate(generator: np.random.Generator, world: NewsWorld, num_users: int) -> np.ndarray:
    """Let readers click by the rule; catalog rows `[users, 14]`, -1 after a reader's last click."""
    blocks = [
        _simulate_block(generator, world, min(USERS_AT_A_TIME, num_users - start))
        for start in range(0, num_users, USERS_AT_A_TIME)
    ]
    return np.concatenate(blocks)


def _simulate_block(generator: np.random.Generator, world: NewsWorld, num_users: int) -> np.ndarray:
    prior = np.full(len(TOPICS), CONCENTRATION)
    mixes = generator.dirichlet(prior, size=num_users)
    lengths = generator.integers(MIN_CLICKS, MAX_CLICKS + 1, size=num_users)
    read = np.zeros((num_users, len(world.stories)), dtype=bool)
    clicks = np.full((num_users, MAX_CLICKS), -1, dtype=np.int64)
    last = np.full(num_users, -1)
    for step in range(MAX_CLICKS):
        drifts = (generator.random((num_users, 1)) < DRIFT) & (step > 0)
        mixes = np.where(drifts, 0.5 * mixes + 0.5 * generator.dirichlet(prior, size=num_users), mixes)
        cumulative = world.next_click(last, read, mixes).cumsum(1)
        draws = generator.random((num_users, 1)) * cumulative[:, -1:]
        last = (cumulative > draws).argmax(1)
        read[np.arange(num_users), last] = True
        clicks[:, step] = last
    clicks[np.arange(MAX_CLICKS) >= lengths[:, None]] = -1
    return clicks


def _make_times(generator: np.random.Generator, real: np.ndarray) -> np.ndarray:
    """Spread each reader's clicks over part of the 60 days, at rising seconds; int64 `[users, 14]`."""
    gaps = np.where(real, generator.lognormal(mean=0.0, sigma=1.0, size=real.shape), 0.0)
    spans = gaps.sum(1, keepdims=True)
    spread = generator.uniform(5, 45, size=(len(real), 1))  # days a reader stays
    begin = generator.uniform(0, PERIOD_DAYS - spread)
    days = begin + gaps.cumsum(1) / spans * spread
    # one second a step keeps times rising where a gap rounds to nothing
    return FIRST_SECOND + (days * DAY).astype(np.int64) + np.arange(real.shape[1])
