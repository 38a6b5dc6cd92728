"""Power: the smallest difference between two systems that this many test users can show.

Two cheap baselines of different kinds, one on counts and one on texts, are ranked on validation cases; the spread of
their paired difference stands for that of any two systems. The test part is not looked at.
"""

import math
from dataclasses import dataclass

import numpy as np

from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.evaluation.statistics import detectable_difference
from cost_hf.methods.base import methods
from cost_hf.recommenders.rankers import ScoringRanker

CASES = 1_000


@dataclass(frozen=True)
class Power:
    """What the test part can show.

    Attributes:
        users: test users.
        spread: standard deviation, over users, of the paired difference in NDCG@10 between two cheap baselines.
        level: NDCG@10 of the better of the two, on validation.
        pair: names of the two.
    """

    users: int
    spread: float
    level: float
    pair: tuple[str, ...] = ()

    @property
    def detectable(self) -> float:
        """Smallest true difference in NDCG@10 found with 80 % power at 5 %: about 2.8 * spread / sqrt(users)."""
        return detectable_difference(self.spread / math.sqrt(self.users), self.level, num_claims=1).absolute

    @property
    def relative(self) -> float:
        """The detectable difference as a share of `level`; infinite where no baseline hits anything."""
        return self.detectable / self.level if self.level > 0 else math.inf


def measure_power(tables: Tables, split: Split, vectors: np.ndarray) -> Power:
    """Rank a sample of validation cases by two baselines; `vectors` `[N, E]` are those of the item texts."""
    cases = split.validation.sample(CASES, seed=0)
    popularity = split.popularity(tables.num_items)
    ids = tables.items["item_id"].tolist()
    columns = []
    found = {name: method.cheap_scorer(split.train, tables.num_items, vectors) for name, method in methods().items()}
    scorers = {name: scorer for name, scorer in found.items() if scorer is not None}
    for scorer in list(scorers.values())[:2]:
        ranked = evaluate_ranker(
            ScoringRanker(scorer, popularity=popularity, item_ids=ids),
            cases,
            sid_keys=np.arange(tables.num_items),
            num_items=tables.num_items,
            exclude_seen=False,
            top_k=10,
            progress=False,
        )
        columns.append(per_user_metrics(ranked.item_rank, cutoffs=[10])["ndcg@10"])
    return Power(
        users=len(set(split.test.user_ids)),
        spread=float(np.std(columns[0] - columns[1])),
        level=float(max(column.mean() for column in columns)),
        pair=tuple(scorers)[:2],
    )
