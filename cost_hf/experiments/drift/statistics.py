"""The statistics of drift: of a sample of items against the training items outside of it, and of a click log.

A sample of training items is compared with the other training items, as new items are with all of them. So the values
of such samples are those of held-out items: a word that only the sample has counts as unknown, and an item's nearest
neighbour is one outside the sample.
"""

from dataclasses import dataclass

import numpy as np

from cost_hf.experiments.drift.features import CodeFeatures, ItemFeatures, Neighbours, TextFeatures
from cost_hf.semantic_ids.codebook_utilization import level_utilization

TEXTS = "texts"
VECTORS = "item vectors"
CODES = "semantic IDs"
CLICKS = "clicks"
GROUPS = (TEXTS, VECTORS, CODES, CLICKS)
FINE = "fine"
WATCH = "watch"
RETRAIN = "retrain"
VERDICTS = (FINE, WATCH, RETRAIN)  # the worst last
HIGH = "high"  # side on which a value is drift
LOW = "low"
BOTH = "both"
SHARE = "share"  # how a value is shown
NUMBER = "number"
RATIO = "ratio"  # to the usual value


@dataclass(frozen=True)
class Statistic:
    """One statistic.

    Attributes:
        name: as in the findings.
        group: one of `GROUPS`.
        label: for readers.
        unit: `share`, `number` or `ratio`.
        too_high: what a value above its limits means, a sentence; empty where high values are no drift.
        too_low: what a value below its limits means, likewise.
        worst: worst verdict that it can give: `watch` where training again is no remedy by itself.
    """

    name: str
    group: str
    label: str
    unit: str
    too_high: str = ""
    too_low: str = ""
    worst: str = RETRAIN

    @property
    def side(self) -> str:
        """Where a value is drift: `high`, `low` or `both`."""
        return BOTH if self.too_high and self.too_low else HIGH if self.too_high else LOW


WORDS = Statistic(
    "words_per_text",
    TEXTS,
    "words per text",
    NUMBER,
    "The new texts are longer than those of the training.",
    "The new texts are shorter than those of the training.",
    worst=WATCH,
)
UNKNOWN_WORDS = Statistic(
    "unknown_words",
    TEXTS,
    "words that no training text has",
    SHARE,
    "The new texts use other words: a text encoder that was fitted to the old ones does not know them.",
)
LETTERS = Statistic(
    "letter_shift",
    TEXTS,
    "distance of letter frequencies",
    NUMBER,
    "The new texts are in another language, or in another mixture of languages.",
)
NEAREST = Statistic(
    "nearest_distance",
    VECTORS,
    "distance to the nearest training item",
    NUMBER,
    "The new items are unlike the items of the training.",
)
ERROR = Statistic(
    "quantization_error",
    CODES,
    "quantization error",
    RATIO,
    "The codes describe the new items worse than held-out items of the training.",
)
USED = Statistic(
    "codes_used", CODES, "codes in use", SHARE, too_low="The new items share fewer codes than items of the training."
)
PREFIX = Statistic(
    "prefix_shift",
    CODES,
    "distance of first-code frequencies",
    NUMBER,
    "The new items begin with other codes than items of the training.",
)
LARGEST = Statistic(
    "largest_prefix",
    CODES,
    "items with the commonest first code",
    SHARE,
    "Many new items begin with the same code.",
)
COLLISIONS = Statistic(
    "collisions",
    CODES,
    "items with the codes of another item",
    SHARE,
    "The codes tell new items apart from others less often than those of the training.",
)
UNKNOWN_CLICKS = Statistic(
    "unknown_item_clicks",
    CLICKS,
    "clicks on items outside the catalog",
    SHARE,
    "These items can't be recommended: add them with `cost-hf update-catalog`.",
    worst=WATCH,
)
NEW_CLICKS = Statistic(
    "new_item_clicks",
    CLICKS,
    "clicks on items without a click in training",
    SHARE,
    "The weights have learned nothing about these items from clicks.",
)
HEAD_CLICKS = Statistic(
    "head_clicks",
    CLICKS,
    "clicks on the most clicked fifth",
    SHARE,
    "The clicks gather at items that were popular in training.",
    "Other items are popular now than in training.",
)
ALL = (
    WORDS,
    UNKNOWN_WORDS,
    LETTERS,
    NEAREST,
    ERROR,
    USED,
    PREFIX,
    LARGEST,
    COLLISIONS,
    UNKNOWN_CLICKS,
    NEW_CLICKS,
    HEAD_CLICKS,
)


def perplexity(level: int) -> Statistic:
    """Return the statistic of the perplexity of a level, counted from 0."""
    return Statistic(
        f"perplexity_{level + 1}",
        CODES,
        f"perplexity of level {level + 1}",
        NUMBER,
        too_low="The new items crowd in a few codes of this level.",
    )


def statistic_of(name: str) -> tuple[Statistic, str]:
    """Return a statistic by its name in the findings, and the part of the recommender that it is of, "" for all."""
    part, _, base = name.rpartition(".")
    known = {own.name: own for own in ALL}
    if base in known:
        return known[base], part
    return perplexity(int(base.rpartition("_")[2]) - 1), part


@dataclass(frozen=True, eq=False)
class TrainingTotals:
    """Sums over all training items, from which those of a sample are subtracted.

    Attributes:
        features: of the training items.
        texts_with_word: number of training texts with each word, int64 `[V]`; empty where texts are not known.
        letters: how often each letter is, int64 `[A]`; likewise.
        first_codes: training items by first code, for every part, int64 `[K]`.
        items_with_key: training items by `CodeFeatures.keys`, for every part, as long as there are keys.
        level_sizes: codes per level, for every part.
    """

    features: ItemFeatures
    texts_with_word: np.ndarray
    letters: np.ndarray
    first_codes: dict[str, np.ndarray]
    items_with_key: dict[str, np.ndarray]
    level_sizes: dict[str, tuple[int, ...]]

    @classmethod
    def of(
        cls, features: ItemFeatures, *, num_keys: dict[str, int], level_sizes: dict[str, tuple[int, ...]]
    ) -> "TrainingTotals":
        """Return the sums over the features of all training items.

        Args:
            features: of the training items.
            num_keys: number of keys, those of new items too, for every part.
            level_sizes: codes per level, for every part.
        """
        own = features.codes
        texts = features.texts
        nothing = np.empty(0, dtype=np.int64)
        return cls(
            features=features,
            texts_with_word=nothing if texts is None else _column_sums(texts.words > 0),
            letters=nothing if texts is None else _column_sums(texts.letters),
            first_codes={
                name: np.bincount(part.codes[:, 0], minlength=level_sizes[name][0]) for name, part in own.items()
            },
            items_with_key={name: np.bincount(part.keys, minlength=num_keys[name]) for name, part in own.items()},
            level_sizes=level_sizes,
        )


def item_statistics(items: ItemFeatures, chosen: np.ndarray, training: TrainingTotals) -> dict[str, float]:
    """Return the statistics of some items against the training items that are not among them.

    Args:
        items: features of the items.
        chosen: their indices, int64 `[m]`.
        training: the training items.

    Returns:
        Values by name; those of parts with codes of their own have a prefix `<part>.`. What the features do not have
        is left out.
    """
    found: dict[str, float] = {}
    own = items.training_rows[chosen]
    own = own[own >= 0]
    if items.texts is not None and training.features.texts is not None:
        found |= _text_statistics(items.texts, chosen, training.features.texts, own, training)
    if items.neighbours is not None:
        found[NEAREST.name] = _nearest_distance(items.neighbours, chosen, own, len(training.features))
    for name, part in items.codes.items():
        values = _code_statistics(part, chosen, own, name, training)
        found |= {f"{name}.{key}" if name else key: value for key, value in values.items()}
    return found


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two tables of counts, in [0, 1]: 0 for equal shares, 1 for none in common.

    Examples:
        >>> jensen_shannon(np.array([1, 1]), np.array([5, 5])), jensen_shannon(np.array([1, 0]), np.array([0, 3]))
        (0.0, 1.0)
    """
    if not one.sum() or not other.sum():
        return 0.0 if one.sum() == other.sum() else 1.0
    shares = [table / table.sum() for table in (one, other)]
    middle = (shares[0] + shares[1]) / 2
    divergence = 0.0
    for share in shares:
        known = share > 0
        divergence += float((share[known] * np.log2(share[known] / middle[known])).sum()) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _text_statistics(
    items: TextFeatures, chosen: np.ndarray, known: TextFeatures, own: np.ndarray, training: TrainingTotals
) -> dict[str, float]:
    """Return the statistics of texts; `own` are the rows of the sample among the training items, which are `known`."""
    counts = _column_sums(items.words[chosen])
    others = training.texts_with_word - _column_sums(known.words[own] > 0)
    total = counts.sum()
    letters = training.letters - _column_sums(known.letters[own])
    return {
        WORDS.name: float(total / len(chosen)),
        UNKNOWN_WORDS.name: float(counts[others == 0].sum() / total) if total else 0.0,
        LETTERS.name: jensen_shannon(_column_sums(items.letters[chosen]), letters),
    }


def _nearest_distance(neighbours: Neighbours, chosen: np.ndarray, own: np.ndarray, num_training: int) -> float:
    """Return the mean cosine distance of the chosen items to their nearest training item outside of the sample.

    Where the sample holds all neighbours of an item that are known, the last one counts, which is at least as near.
    """
    is_own = np.zeros(num_training, dtype=bool)
    is_own[own] = True
    is_outside = ~is_own[neighbours.rows[chosen]]  # [m, k]
    first = np.where(is_outside.any(axis=1), is_outside.argmax(axis=1), is_outside.shape[1] - 1)
    return float((1 - neighbours.cosines[chosen, first]).mean())


def _code_statistics(
    part: CodeFeatures, chosen: np.ndarray, own: np.ndarray, name: str, training: TrainingTotals
) -> dict[str, float]:
    """Return the statistics of the codes of one quantizer."""
    sizes = training.level_sizes[name]
    codes = part.codes[chosen]  # [m, L]
    found = {}
    if part.errors is not None:
        found[ERROR.name] = float(part.errors[chosen].mean())
    used = []
    for level, size in enumerate(sizes):
        share, value = level_utilization(codes[:, level], size)
        used.append(share)
        found[perplexity(level).name] = value
    found[USED.name] = float(np.mean(used))
    first = np.bincount(codes[:, 0], minlength=sizes[0])
    own_codes = training.features.codes[name].codes[own, 0]
    others = training.first_codes[name] - np.bincount(own_codes, minlength=sizes[0])
    found[PREFIX.name] = jensen_shannon(first, others)
    found[LARGEST.name] = float(first.max() / len(chosen))
    if not part.are_whole:  # items share them by design
        return found
    keys = part.keys[chosen]
    all_with_key = training.items_with_key[name]
    own_keys = training.features.codes[name].keys[own]
    others_with_key = all_with_key - np.bincount(own_keys, minlength=len(all_with_key))
    in_sample = np.bincount(keys, minlength=len(all_with_key))
    found[COLLISIONS.name] = float((others_with_key[keys] + in_sample[keys] > 1).mean())
    return found


def _column_sums(table: object) -> np.ndarray:
    return np.asarray(table.sum(axis=0)).ravel()  # type: ignore[attr-defined]
