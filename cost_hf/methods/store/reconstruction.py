"""Section `reconstruction` of results.json: how well texts come back from their slots and from their codes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cost_hf.methods.base import Fitted, Workspace

SAMPLE = 64  # items whose texts are generated
LOGGED = ("text_perplexity_slots", "text_perplexity_codes", "text_perplexity_others")
STEP = ("steps", "tokens_per_step", "seconds_per_step")


def describe_reconstruction(fitted: Fitted, workspace: Workspace, *, seed: int) -> dict[str, Any]:
    """Return exact match and ROUGE of texts generated from slots and from codes, and what was logged.

    The texts are those of items that the quantizer was trained on.

    Args:
        fitted: with the codes of the run; its recommender has the quantizer.
        workspace: of the run.
        seed: of the sample of items.

    Returns:
        `texts`: number of `cases`, and mean scores `slots` and `codes`. `perplexity`: of a token of a text given its
        slots, its codes, and another text's slots; none where texts were not rebuilt in training. `step`: number of
        training steps of the quantizer, and the tokens and seconds of one.
    """
    recommender: Any = fitted.recommender
    model = recommender.quantizer
    log = fitted.parts["codes"].history[-1]
    texts = workspace.text_vectors().texts
    fit_rows = workspace.data.fit_rows
    trained = np.arange(len(texts)) if fit_rows is None else np.flatnonzero(fit_rows)
    rows = np.sort(np.random.default_rng(seed).permutation(trained)[:SAMPLE])
    scores = written_scores(
        model, [texts[row] for row in rows], recommender.catalog.codes[rows, : recommender.catalog.model_levels]
    )
    return {
        "texts": {"cases": len(rows), **scores},
        "perplexity": {name.removeprefix("text_perplexity_"): log[name] for name in LOGGED if name in log},
        "step": {name: log[name] for name in STEP},
    }


def written_scores(model: Any, texts: Sequence[str], codes: np.ndarray) -> dict[str, dict[str, float]]:
    """Return mean exact match and ROUGE of texts that a `TextSlotsModel` generates from slots and from codes.

    Args:
        model: with centroids.
        texts: n of them.
        codes: of the texts, `[n, L]`.

    Returns:
        Scores by metric, for `slots` and `codes`.
    """
    from cost_hf.metrics.title_match.title_match import title_match  # of the extra `titles`

    tokens = model.tokenized(texts)
    asked = [model.tokenizer.decode(own, skip_special_tokens=True).strip() for own in tokens]  # cut as in training
    held = torch.from_numpy(codes.copy())
    given = {"slots": model.embed_texts(texts), "codes": model.quantized(held.to(model.device)).cpu()}
    return {
        name: {metric: float(values.mean()) for metric, values in title_match(model.write_texts(own), asked).items()}
        for name, own in given.items()
    }
