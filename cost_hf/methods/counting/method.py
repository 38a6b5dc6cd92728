"""The counting baselines as methods; no torch or scipy is imported until one of them is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from cost_hf.methods.base import DataFacts, Estimate, Fitted, Method, MethodOptions, WarmStart, Workspace, register

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.methods.counting.recommender import CountingRecommender
    from cost_hf.recommenders.rankers import Scorer

# CPU seconds of one thread, measured at 12,000 items and vectors of width 384, and rounded up
SECONDS_PER_CLICK = 2e-7
SECONDS_PER_PAIR = 2e-8  # of items of one user, counted
SECONDS_PER_SCORE = 2e-8  # of one item for one history, sorted into a list
SECONDS_PER_PRODUCT = 1e-10  # of two numbers
SEEN_SETTINGS = 2  # every test case is ranked with seen items allowed and again without them
BYTES_PER_PAIR = 12  # a float64 and an int32 index
MAX_PAIRS = 2**24  # those of `counting`, whose import takes seconds; a test compares them
MARKOV_GAP = 3


class CountingMethod(Method[MethodOptions]):
    """A method that counts in the training part, or compares texts; it has no options, and no seed changes it."""

    family = "counting"
    can_warm_start = True
    recommenders: ClassVar[Mapping[str, str]] = {"counting": "cost_hf.methods.counting.recommender"}

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Count; a baseline row stays in memory, the system of the run is written and read back."""
        from cost_hf.methods.counting.fitting import fit_recommender

        return Fitted(fit_recommender(self.name, workspace, needs_text_vectors=self.needs_text_vectors))

    def warm_start(self, recommender: CountingRecommender, start: WarmStart) -> Fitted:
        """Count all clicks that are known today, which takes seconds."""
        from cost_hf.methods.counting.fitting import count_again

        return Fitted(count_again(recommender, start.split))

    def estimate(self, facts: DataFacts) -> Estimate:
        """Return seconds that follow from the sizes of the data."""
        num_items = facts.tables.num_items
        clicks = int(facts.split.train.lengths.sum())
        pairs = self.num_pairs(facts)
        counting = clicks * SECONDS_PER_CLICK + pairs * SECONDS_PER_PAIR
        width = facts.item_dim if self.needs_text_vectors else 0
        score = SECONDS_PER_SCORE + width * SECONDS_PER_PRODUCT
        return Estimate(
            seconds={"counting": counting, "evaluation": SEEN_SETTINGS * facts.cases * num_items * score},
            memory_mb=(pairs * BYTES_PER_PAIR + num_items * 8 * (1 + width)) / 2**20,
        )

    def num_pairs(self, facts: DataFacts) -> int:
        """Return how many pairs of items are counted."""
        return 0


@register
class Popularity(CountingMethod):
    """Training clicks of every item."""

    name = "popularity"
    summary = "training clicks, one list for everybody"


@register
class ItemKnn(CountingMethod):
    """Cosine co-occurrence with the items of the history."""

    name = "item_knn"
    summary = "item-item cosine of user sets, recent items first"

    @classmethod
    def cheap_scorer(cls, train: Sequence[np.ndarray], num_items: int, vectors: np.ndarray) -> Scorer:
        """Return the scorer of clicks."""
        from cost_hf.methods.counting.counting import ItemKnn as ItemKnnScorer

        return ItemKnnScorer.fit(train, num_items)

    def num_pairs(self, facts: DataFacts) -> int:
        """Return the pairs of items of one user, at most those that are held at once."""
        return min(int((facts.split.train.lengths**2).sum()), MAX_PAIRS)


@register
class Markov(CountingMethod):
    """Transition counts from the items of the history."""

    name = "markov"
    summary = "counts of what followed the last items within three clicks"

    def num_pairs(self, facts: DataFacts) -> int:
        """Return the pairs of clicks at most `MARKOV_GAP` apart."""
        return MARKOV_GAP * int(facts.split.train.lengths.sum())


@register
class TextLast(CountingMethod):
    """Nearest texts of the last item."""

    name = "text_last"
    summary = "cosine of text vectors to the last item"
    needs_text_vectors = True
    requires_texts = True

    @classmethod
    def cheap_scorer(cls, train: Sequence[np.ndarray], num_items: int, vectors: np.ndarray) -> Scorer:
        """Return the scorer of texts."""
        from cost_hf.methods.counting.counting import TextLast as TextLastScorer

        return TextLastScorer(vectors)


@register
class TextMean(CountingMethod):
    """Nearest texts of the whole history."""

    name = "text_mean"
    summary = "cosine of text vectors to the mean of the history"
    needs_text_vectors = True
    requires_texts = True


@register
class MarkovText(Markov):
    """Transition counts and nearest texts, fused by reciprocal ranks."""

    name = "markov_text"
    summary = "reciprocal-rank sum of markov and text_last"
    needs_text_vectors = True
    requires_texts = True
