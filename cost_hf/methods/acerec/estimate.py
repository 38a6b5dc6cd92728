"""What training and evaluating ACERec will cost on this machine."""

import numpy as np
import torch

from cost_hf.methods.acerec.options import AceRecOptions
from cost_hf.methods.acerec.recommender import DigitScorer
from cost_hf.methods.acerec.training import build_acerec
from cost_hf.methods.base import DataFacts, Estimate
from cost_hf.methods.benchmarking import SEEN_SETTINGS, fastest, training_step, weights_mb
from cost_hf.semantic_ids.catalog import Catalog


def estimate(options: AceRecOptions, facts: DataFacts) -> Estimate:
    """Return the costs from timed steps of training and scoring, on random codes and histories of real lengths."""
    num_items = facts.tables.num_items
    draws = np.random.default_rng(0)
    codes = np.stack([draws.integers(size, size=num_items) for size in options.codes.level_sizes], axis=1)
    catalog = Catalog.from_codes(
        list(map(str, range(num_items))), codes, level_sizes=options.codes.level_sizes, collisions="none"
    )
    model = build_acerec(options.model, catalog, seed=0)
    lengths = np.array([len(rows) - 1 for rows in facts.split.train if len(rows) > 1] or [1])
    own = draws.choice(lengths, options.training.batch_size).clip(max=options.model.max_history)
    width = int(own.max())
    rows = draws.integers(num_items, size=(len(own), width))
    histories = torch.from_numpy(np.where(np.arange(width) < own[:, None], rows, -1))
    scorer = DigitScorer(model, codes)
    step = training_step(model, {"histories": histories, "item_tokens": scorer.item_tokens, "labels": histories})
    steps = options.training.epochs * lengths.sum() / own.sum()
    training = fastest(step) * float(steps)
    model.eval()
    scoring = fastest(lambda: scorer.scores(histories.numpy())) / len(histories)
    return Estimate(
        {"training": training, "evaluation": SEEN_SETTINGS * facts.cases * scoring},
        weights_mb(model),
        [f"{options.training.epochs} epochs"],
    )
