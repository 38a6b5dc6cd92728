"""Item vectors in, codes out: one function for every kind of assigner.

A finished result is found again by the digest of what went in, so the call can be repeated at no cost.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch import Tensor

from cost_hf.files import content_digest, read_json
from cost_hf.quantizer import CostConfig
from cost_hf.quantizer_training.fixed_codes import category_codes, random_codes
from cost_hf.quantizer_training.health import CodebookCollapse, check_collapse, code_health
from cost_hf.quantizer_training.options import CodesOptions
from cost_hf.quantizer_training.result import RECORD, CodesResult
from cost_hf.quantizer_training.rkmeans import fit_rkmeans
from cost_hf.quantizer_training.training import train_quantizer
from cost_hf.semantic_ids.digests import assignment_digest, lineage_digest

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
) -> CodesResult:
    """Fit an assigner to item vectors and encode the items; a killed or repeated call continues where it stopped.

    Args:
        vectors: item text vectors, `[N, E]`.
        options: kind, sizes and training.
        output_dir: receives the quantizer, the codes and, while training, `checkpoints/`.
        seed: of weights, k-means, order of items, revival and random codes.
        items: catalog table; needed for category codes, gives the ids otherwise.
        item_ids: ids of the items, in row order; by default `items["item_id"]`.

    Raises:
        ValueError: for options or vectors that do not fit, saying what to change.
        CodebookCollapse: where training ends in one code for most items.
    """
    options.validate()
    table = _checked_vectors(vectors)
    names = _checked_ids(item_ids, items, len(table), options)
    folder, state = Path(output_dir), PartialState(cpu=not torch.cuda.is_available())
    digest = _inputs_digest(table, options, seed, names, items)
    is_finished = (folder / RECORD).is_file() and read_json(folder / RECORD)["inputs_digest"] == digest
    state.wait_for_everyone()  # no process may write before all have looked
    if is_finished:
        return CodesResult.load(folder)
    if options.kind in ("random", "category"):
        result = _fixed_result(options, names, items, seed)
    else:
        result = _model_result(table, options, folder=folder / CHECKPOINTS, digest=digest, seed=seed)
    result = replace(result, inputs_digest=digest)
    if state.is_main_process:
        result.save(folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    state.wait_for_everyone()
    return result


def _model_result(table: Tensor, options: CodesOptions, *, folder: Path, digest: str, seed: int) -> CodesResult:
    config = _model_config(options, table.shape[1])
    if options.is_trained:
        model, history = train_quantizer(table, config, options, folder=folder, digest=digest, seed=seed)
    else:
        model, history = fit_rkmeans(table, config, seed=seed), []
    codes = model.encode(table).cpu().numpy()
    if not history:
        history = [code_health(codes, model.level_sizes)]
        check_collapse(history, model.level_sizes, num_items=len(table), options=options)
    return CodesResult(codes, model.level_sizes, model, history, assignment_digest(model))


def _model_config(options: CodesOptions, item_dim: int) -> CostConfig:
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
        **options.weights,
    )


def _fixed_result(options: CodesOptions, names: list[str], items: pd.DataFrame | None, seed: int) -> CodesResult:
    sizes = tuple(options.level_sizes)
    if options.kind == "random":
        codes = random_codes(names, sizes, seed=seed)
    else:
        if items is None:
            raise ValueError("codes.kind='category' needs the items table, got items=None; pass items=")
        codes = category_codes(items, options.category_column, sizes)
    return CodesResult(codes, sizes, None, [code_health(codes, sizes)], lineage_digest(names, codes, sizes))


def _inputs_digest(
    table: Tensor, options: CodesOptions, seed: int, names: list[str], items: pd.DataFrame | None
) -> str:
    parts: list[Any] = [table.numpy(), asdict(options), seed]
    if options.kind in ("random", "category"):
        parts.append(names)
    if options.kind == "category" and items is not None and options.category_column in items:
        parts.append(items[options.category_column].fillna("").astype(str).tolist())
    return content_digest("cost_hf.codes.1", *parts)


def _checked_vectors(vectors: np.ndarray | Tensor) -> Tensor:
    table = torch.as_tensor(np.array(vectors, dtype=np.float32) if isinstance(vectors, np.ndarray) else vectors)
    table = table.detach().to("cpu", torch.float32).contiguous()
    if table.ndim != 2 or not len(table):
        raise ValueError(
            f"vectors must be [items, dimensions] with at least one item, got shape {tuple(table.shape)!r}"
        )
    broken = torch.nonzero(~table.isfinite().all(1)).squeeze(1)
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(table)} item vectors hold NaN or infinity, first in row {int(broken[0])!r}; encode "
            "these texts again"
        )
    return table


def _checked_ids(
    item_ids: Sequence[str] | None, items: pd.DataFrame | None, num_items: int, options: CodesOptions
) -> list[str]:
    if item_ids is None:
        item_ids = items["item_id"].tolist() if items is not None and "item_id" in items else []
    names = [str(item_id) for item_id in item_ids]
    if names and len(names) != num_items:
        raise ValueError(f"{num_items} item vectors need as many item ids, got {len(names)}")
    if not names and options.kind in ("random", "category"):
        raise ValueError(f"codes.kind={options.kind!r} needs item ids, got none; pass item_ids= or items=")
    return names
