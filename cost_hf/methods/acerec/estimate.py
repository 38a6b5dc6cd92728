"""What training and evaluating ACERec will cost on this machine."""

import numpy as np
import torch

from cost_hf.methods.acerec.options import AceRecOptions
from cost_hf.methods.acerec.recommender import DigitScorer
from cost_hf.methods.acerec.training import build_acerec
from cost_hf.methods.base import DataFacts, Estimate
from cost_hf.methods.benchmarking import SEEN_SETTINGS, fastest, training_step, weights_mb
from cost_hf.methods.sasrec.estimate import NOTHING_TO_TIME, typical_batch
from cost_hf.precision import trains_in_bf16
from cost_hf.semantic_ids.catalog import Catalog


def estimate(options: AceRecOptions, facts: DataFacts) -> Estimate | str:
    """Return the costs from a timed training step and a timed ranking, or why there is nothing to time.

    Histories are those of the data, codes made up. Fitting the quantizer takes seconds and is left out.
    """
    found = typical_batch(facts.split.train, max_history=options.model.max_history)
    if found is None:
        return NOTHING_TO_TIME
    batch, steps = found
    catalog = _made_up_catalog(facts.tables.num_items, options.codes.level_sizes)
    model = build_acerec(options.model, catalog, seed=0)
    scorer = DigitScorer(model, catalog.codes)
    step = training_step(model, batch | {"item_tokens": scorer.item_tokens})
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=trains_in_bf16(options.training.precision)):
        epoch = fastest(step) * steps
    model.eval()
    histories = batch["histories"].numpy()
    user = fastest(lambda: np.sort(scorer.scores(histories), axis=1)) / len(histories)
    return Estimate(
        {"training": options.training.epochs * epoch, "evaluation": SEEN_SETTINGS * facts.cases * user},
        weights_mb(model),
        [f"all {options.training.epochs} epochs (training may stop early)"],
    )


def _made_up_catalog(num_items: int, level_sizes: list[int]) -> Catalog:
    draws = np.random.default_rng(0)
    codes = np.stack([draws.integers(size, size=num_items) for size in level_sizes], axis=1)
    item_ids = [str(row) for row in range(num_items)]
    return Catalog.from_codes(item_ids, codes, level_sizes=level_sizes, collisions="none")
