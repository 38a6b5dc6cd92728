"""Item vectors in, codes out: one function for every kind of assigner.

A finished result is found again by the digest of what went in, so the call can be repeated at no cost.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch import Tensor

from cost_hf.files import read_json
from cost_hf.quantizers.codebook_utilization import CodebookCollapse, check_collapse, code_health
from cost_hf.quantizers.cost import CostConfig
from cost_hf.quantizers.fixed_codes import category_codes, random_codes
from cost_hf.quantizers.inputs import FitInputs
from cost_hf.quantizers.options import CodesOptions
from cost_hf.quantizers.residual_training import train_quantizer
from cost_hf.quantizers.result import RECORD, CodesResult
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.digests import assignment_digest, codes_digest

__all__ = ["CodebookCollapse", "CodesOptions", "CodesResult", "fit_codes"]

logger = logging.getLogger(__name__)
CHECKPOINTS = "checkpoints"


def fit_codes(
    vectors: np.ndarray | Tensor,
    options: CodesOptions,
    *,
    output_dir: str | Path,
    seed: int,
    items: pd.DataFrame | None = None,
    item_ids: Sequence[str] | None = None,
    collaborative: np.ndarray | None = None,
    fit_rows: np.ndarray | None = None,
    text_encoder: dict[str, Any] | None = None,
) -> CodesResult:
    """Fit an assigner to item vectors and encode the items; a killed or repeated call continues where it stopped.

    Args:
        vectors: item text vectors, `[N, E]`.
        options: kind, sizes and training.
        output_dir: receives the quantizer, the codes and, while training, `checkpoints/`.
        seed: of weights, k-means, order of items, revival and random codes.
        items: catalog table; needed for category codes, gives the ids otherwise.
        item_ids: ids of the items, in row order; by default `items["item_id"]`.
        collaborative: collaborative vectors `[N, D]` from clicks that training may see, D being `codes.latent_dim`;
            needed where `options.needs_collaborative`. A row of zeros is an item that has none; the scale of the whole
            does not matter.
        fit_rows: items that initialisation, statistics and training may see, bool `[N]`; all by default. All items are
            encoded.
        text_encoder: what the vectors came from (`CostConfig.text_encoder`); it is written into the configuration.

    Raises:
        ValueError: for options or vectors that do not fit, saying what to change.
        CodebookCollapse: where training ends in one code for most items.
    """
    options.validate()
    inputs = FitInputs.checked(
        vectors, options, items=items, item_ids=item_ids, collaborative=collaborative, fit_rows=fit_rows
    )
    folder, state = Path(output_dir), PartialState(cpu=not torch.cuda.is_available())
    digest = inputs.digest(options, seed)
    is_finished = (folder / RECORD).is_file() and read_json(folder / RECORD)["inputs_digest"] == digest
    state.wait_for_everyone()  # no process may write before all have looked
    if is_finished:
        return CodesResult.load(folder)
    if options.kind in ("random", "category"):
        result = _fixed_result(inputs, options, seed)
    else:
        result = _model_result(inputs, options, folder=folder / CHECKPOINTS, digest=digest, seed=seed)
    if result.model is not None:
        result.model.config.text_encoder = text_encoder
    result = replace(result, inputs_digest=digest)
    if state.is_main_process:
        result.save(folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    state.wait_for_everyone()
    return result


def quantizer_config(options: CodesOptions, item_dim: int) -> CostConfig:
    """Return the configuration of the quantizer that is fitted to vectors `[N, item_dim]`."""
    hidden: list[int] | None = options.hidden_sizes
    latent = options.latent_dim
    if options.kind == "rkmeans":
        hidden, latent = (None, item_dim) if options.pca_dim is None else ([], min(options.pca_dim, item_dim))
        if options.pca_dim is not None and latent < options.pca_dim:
            logger.warning("codes.pca_dim=%d is lowered to the %d dimensions of the vectors", options.pca_dim, latent)
    return CostConfig(
        item_dim=item_dim,
        hidden_sizes=hidden,
        latent_dim=latent,
        level_sizes=options.level_sizes,
        share_codebooks=options.share_codebooks,
        input_norm=options.input_norm,
        temperature=options.temperature,
        reduction=options.reduction,
        residual_update=options.residual_update,
        sinkhorn_epsilon=options.balance,
        **options.weights,
    )


def _model_result(inputs: FitInputs, options: CodesOptions, *, folder: Path, digest: str, seed: int) -> CodesResult:
    config = quantizer_config(options, inputs.vectors.shape[1])
    seen = inputs.for_fitting(inputs.vectors)
    if options.is_trained:
        model, history = train_quantizer(
            seen, config, options, folder=folder, digest=digest, seed=seed, collaborative=inputs.fit_collaborative
        )
    else:
        model = fit_rkmeans(seen, config, seed=seed)
        history = [code_health(model.encode(seen).cpu().numpy(), model.level_sizes)]
        check_collapse(history, model.level_sizes, num_items=len(seen), options=options)
    codes = model.encode(inputs.vectors).cpu().numpy()
    return CodesResult(codes, model.level_sizes, model, history, assignment_digest(model))


def _fixed_result(inputs: FitInputs, options: CodesOptions, seed: int) -> CodesResult:
    sizes = tuple(options.level_sizes)
    if options.kind == "random":
        codes = random_codes(inputs.item_ids, sizes, seed=seed)
    else:
        if inputs.items is None:
            raise ValueError("codes.kind='category' needs the items table, got items=None; pass items=")
        codes = category_codes(inputs.items, options.category_column, sizes)
    quantizer_digest = codes_digest(inputs.item_ids, codes, sizes)
    return CodesResult(codes, sizes, None, [code_health(codes, sizes)], quantizer_digest)
