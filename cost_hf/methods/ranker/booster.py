"""LambdaMART by LightGBM over candidates of many requests (Burges 2010, "From RankNet to LambdaRank to LambdaMART")."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import torch

from cost_hf.methods.ranker.model_text import check_model_text
from cost_hf.methods.ranker.options import RankerSection

PATIENCE = 30  # rounds without a better NDCG@10 on the users that are left out
MIN_ROWS = 50  # candidates of a leaf
CUTOFF = 10
LAMBDA_DEPTH = 20  # pairs with one of the first candidates count; NDCG@10 hardly sees the others


@dataclass(frozen=True, eq=False)
class RankingCases:
    """Candidates of cases whose target is among them, as LightGBM reads them.

    Attributes:
        features: float32 `[R, F]`, the candidates of a case together.
        labels: 1 for the target, 0 for others, int8 `[R]`.
        sizes: candidates of every case, int64 `[M]`.
        folds: group of the user of every case, int64 `[M]`; a user's cases are in one group.
    """

    features: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    folds: np.ndarray

    def subset(self, chosen: np.ndarray) -> "RankingCases":
        """Return the cases of a bool `[M]`."""
        rows = np.repeat(chosen, self.sizes)
        return RankingCases(self.features[rows], self.labels[rows], self.sizes[chosen], self.folds[chosen])

    def dataset(self, names: Sequence[str], categories: Sequence[str]) -> Any:
        """Return the data set of LightGBM."""
        return lightgbm.Dataset(
            self.features,
            label=self.labels,
            group=self.sizes,
            feature_name=model_names(names),
            categorical_feature=[list(names).index(name) for name in categories],
            free_raw_data=False,
        )


@dataclass(frozen=True)
class Boosters:
    """A booster of all cases, and one for every fold that has not seen its users.

    Attributes:
        final: boosted for the mean number of rounds that the folds found best.
        folds: by number of the fold whose users it has not seen.
    """

    final: Any
    folds: list[Any]


def train_boosters(
    cases: RankingCases, names: Sequence[str], categories: Sequence[str], options: RankerSection, *, seed: int
) -> Boosters:
    """Fit one booster a fold, with early stopping on the fold that is left out, then one on all cases.

    Raises:
        ValueError: for cases of fewer folds than two.
    """
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [CUTOFF],
        "lambdarank_truncation_level": LAMBDA_DEPTH,
        "learning_rate": options.learning_rate,
        "num_leaves": options.leaves,
        "min_data_in_leaf": MIN_ROWS,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbosity": -1,
    }
    used = np.unique(cases.folds)
    if len(used) < 2:
        raise ValueError(
            f"the ranker needs validation cases of users in two folds or more whose target is listed by a part, got "
            f"{len(cases.sizes)} cases in {len(used)}; use more data, or method fusion"
        )
    boosters: list[Any] = [None] * options.folds
    for fold in used.tolist():
        data = cases.subset(cases.folds != fold).dataset(names, categories)
        left_out = cases.subset(cases.folds == fold)
        boosters[fold] = lightgbm.train(
            parameters,
            data,
            num_boost_round=options.rounds,
            valid_sets=[lightgbm.Dataset(left_out.features, left_out.labels, group=left_out.sizes, reference=data)],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
    rounds = max(1, round(float(np.mean([boosters[fold].best_iteration for fold in used]))))
    final = lightgbm.train(parameters, cases.dataset(names, categories), num_boost_round=rounds)
    # the model of all cases has seen no user of a fold without cases
    return Boosters(final, [final if booster is None else booster for booster in boosters])


def model_names(names: Sequence[str]) -> list[str]:
    """Return names of features as LightGBM takes them: letters, digits and underscores, all different."""
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        free = (
            own for own in itertools.chain([plain], (f"{plain}_{n}" for n in itertools.count(2))) if own not in found
        )
        found[next(free)] = None
    return list(found)


def read_booster(text: str) -> Any:
    """Return the booster of a `model_text`; raise ValueError for a text that is none."""
    check_model_text(text)
    return lightgbm.Booster(model_str=text)


def predict(booster: Any, features: np.ndarray) -> np.ndarray:
    """Return the scores of candidates, float64 `[R]`."""
    return np.asarray(booster.predict(features, num_threads=1))


def contributions(booster: Any, features: np.ndarray) -> np.ndarray:
    """Return the SHAP value of every feature (arXiv 1802.03888), and the mean score last, float64 `[R, F + 1]`."""
    return np.asarray(booster.predict(features, pred_contrib=True, num_threads=1))


def importances(booster: Any, names: Sequence[str]) -> list[tuple[str, float]]:
    """Return every feature with its share of the total gain, largest first; files keep the order of a list.

    Args:
        names: of the features, in the order of the model.
    """
    gains = booster.feature_importance("gain")
    total = gains.sum() or 1.0
    shares = [(name, float(gain / total)) for name, gain in zip(names, gains, strict=True)]
    return sorted(shares, key=lambda entry: -entry[1])
