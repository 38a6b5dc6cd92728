"""News world: the rule by which toy readers click, used both to make the clicks and to score them as an oracle.

Articles form storylines (the episodes of one story, in an order the texts do not show); every story has two
successors, one of its topic and one of any. `NewsWorld.next_click` alone holds the rule, so the oracle cannot differ
from the process except in the one thing that is hidden: a reader's present mix of topics.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

NEXT_EPISODE, JUMP, NEW_STORY = 0.60, 0.25, 0.15
TO_SAME_TOPIC, TO_ANY_TOPIC = 0.40, 0.60  # which successor, whenever a reader goes to one
EARLY_EPISODES = 4  # a successor is entered at one of these, as is a reader's first story
CONCENTRATION = 0.25  # of the Dirichlet distribution of topic mixes: most readers like one or two topics
MEMORY = 0.9  # weight of a click, for each later one, in the oracle's estimate of the mix


@dataclass(frozen=True, eq=False)
class NewsWorld:
    """All that is fixed about a toy catalog of N articles in S stories.

    Attributes:
        topics: topic of each story, int64 `[S]`.
        stories: story of each article, int64 `[N]`.
        episodes: place of each article in its story, int64 `[N]`.
        successors: a story of the same topic, and one of any, int64 `[S, 2]`.
        weights: attraction of each article, float64 `[N]`.
    """

    topics: np.ndarray
    stories: np.ndarray
    episodes: np.ndarray
    successors: np.ndarray
    weights: np.ndarray

    def __repr__(self) -> str:
        """Say in one line how large the toy catalog is."""
        return f"NewsWorld({len(self.stories)} articles in {len(self.topics)} stories)"

    def next_click(self, last: np.ndarray, read: np.ndarray, mixes: np.ndarray) -> np.ndarray:
        """Return the probability of each article being clicked next, float64 `[B, N]`.

        With .60 it is the next episode (past the last one, the first of a successor), with .25 an early episode of a
        successor, with .15 any episode of a story drawn by topic mix and attraction. What falls on an article already
        read goes to the unread ones of its story by attraction (where none is left, to all unread ones).

        Args:
            last: article clicked last, `[B]`; -1 for a reader who begins.
            read: articles clicked already, bool `[B, N]`.
            mixes: topic mixes, `[B, topics]`.
        """
        begins = (last < 0)[:, None]
        follow = self._follow[np.maximum(last, 0)].toarray()
        first = self._by_mix(mixes, self._early)
        return self._avoid_read(np.where(begins, first, follow + NEW_STORY * self._by_mix(mixes, self._anywhere)), read)

    def _by_mix(self, mixes: np.ndarray, within: np.ndarray) -> np.ndarray:
        """Draw a story by topic mix and attraction, then an article by `within`, its probability in its story."""
        attraction = np.bincount(self.stories, self.weights)  # [S]
        stories = mixes[:, self.topics] * attraction  # [B, S]
        return (stories / stories.sum(1, keepdims=True))[:, self.stories] * within

    def _avoid_read(self, chances: np.ndarray, read: np.ndarray) -> np.ndarray:
        unread = np.where(read, 0.0, self.weights)  # [B, N]
        blocked = self._sum_by_story(np.where(read, chances, 0.0))  # [B, S]
        room = self._sum_by_story(unread)
        moved = np.divide(blocked, room, out=np.zeros_like(blocked), where=room > 0)
        stranded = np.where(room > 0, 0.0, blocked).sum(1, keepdims=True)
        everywhere = unread.sum(1, keepdims=True)
        shared = np.divide(stranded, everywhere, out=np.zeros_like(stranded), where=everywhere > 0)
        return np.where(read, 0.0, chances) + (moved[:, self.stories] + shared) * unread

    def _sum_by_story(self, values: np.ndarray) -> np.ndarray:
        size = len(self.stories)
        membership = sparse.csr_array((np.ones(size), (self.stories, np.arange(size))))  # [S, N]
        return (membership @ values.T).T

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.bincount(self.stories)  # [S]

    @cached_property
    def _anywhere(self) -> np.ndarray:
        return 1.0 / self._lengths[self.stories]  # [N]

    @cached_property
    def _early(self) -> np.ndarray:
        """Probability of each article when its story is entered early."""
        return (self.episodes < EARLY_EPISODES) / np.minimum(self._lengths, EARLY_EPISODES)[self.stories]

    @cached_property
    def _follow(self) -> sparse.csr_array:
        """Probability of what follows an article by its story alone: next episode or jump, sparse `[N, N]`."""
        articles = np.arange(len(self.stories))
        by_place = np.full((len(self.topics), self._lengths.max()), -1)
        by_place[self.stories, self.episodes] = articles
        is_last = self.episodes + 1 == self._lengths[self.stories]
        following = by_place[self.stories, np.where(is_last, 0, self.episodes + 1)]
        entries = [(articles[~is_last], following[~is_last], np.full((~is_last).sum(), NEXT_EPISODE))]
        for chance, column in ((TO_SAME_TOPIC, 0), (TO_ANY_TOPIC, 1)):
            successor = self.successors[self.stories, column]  # [N]
            opening = by_place[successor, 0]
            entries.append((articles[is_last], opening[is_last], np.full(is_last.sum(), NEXT_EPISODE * chance)))
            for episode in range(min(EARLY_EPISODES, by_place.shape[1])):
                entered = by_place[successor, episode]
                exists = entered >= 0
                entries.append((articles[exists], entered[exists], JUMP * chance * self._early[entered[exists]]))
        origins, targets, chances = (np.concatenate(part) for part in zip(*entries, strict=True))
        return sparse.csr_array((chances, (origins, targets)), shape=(len(articles),) * 2)


@dataclass(frozen=True, eq=False)
class NewsOracle:
    """Scores articles by the rule that made the clicks: the best any recommender can hope for on this toy data.

    Stories, order and successors are known to it. A reader's topic mix is hidden and drifts; its place is taken by an
    estimate from the history: the expected mix under the process's own prior, clicks counted with weight .9 ** age.
    """

    world: NewsWorld

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return the probability of each catalog row being clicked next, float64 `[B, N]`; read articles get 0.

        Args:
            histories: catalog rows, oldest first, int64 `[B, T]`, -1 to the right of shorter ones.
        """
        histories = np.asarray(histories)
        batch, num_items = len(histories), len(self.world.stories)
        real = histories >= 0
        lengths = real.sum(1)
        users, columns = np.nonzero(real)
        clicked = histories[users, columns]
        read = np.zeros((batch, num_items), dtype=bool)
        read[users, clicked] = True
        mixes = np.full((batch, int(self.world.topics.max()) + 1), CONCENTRATION)
        np.add.at(
            mixes, (users, self.world.topics[self.world.stories[clicked]]), MEMORY ** (lengths[users] - 1 - columns)
        )
        last = np.full(batch, -1)
        last[lengths > 0] = histories[lengths > 0, lengths[lengths > 0] - 1]
        return self.world.next_click(last, read, mixes / mixes.sum(1, keepdims=True))
