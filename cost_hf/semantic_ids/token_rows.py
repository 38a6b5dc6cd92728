"""Rows for new tokens in a pretrained tokenizer and model, written by id.

Three traps of the library are handled here, each with a test. Resizing draws new rows with almost no spread, so all
codes would start equal: rows are written afterwards. T5 checkpoints have spare rows that resizing neither fills nor
may cut (32,128 rows for 32,100 tokens): rows are written by token id and the matrix never shrinks. T5 v1.1 (flan) has
a head of its own under a config that says tied, and resizing would replace it: the config is corrected first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

ROW_INITS = ("normal",)


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> tuple[int, int]:
    """Add `tokens` in order; return the id of the first, and the smallest id that is new (len(tokenizer) if none is).

    Raises:
        ValueError: where the tokens would not get contiguous ids; the tokenizer is then as it was.
    """
    before, known = len(tokenizer), tokenizer.get_vocab()
    missing = [token for token in tokens if token not in known]
    coming = dict(zip(missing, range(before, before + len(missing)), strict=True))
    ids = [known[token] if token in known else coming[token] for token in tokens]
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(
            f"the tokenizer holds {len(tokens) - len(missing)} of {len(tokens)} SID tokens already; with the rest "
            "their ids would not be contiguous; start from the original tokenizer or use another namespace"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in missing])
    if tokenizer.convert_tokens_to_ids(list(tokens)) != ids:
        raise ValueError(f"{type(tokenizer).__name__} does not number new tokens from len(tokenizer)={before!r} on")
    return ids[0], before


def extend_embedding(
    model: Any, num_tokens: int, ids: Tensor, *, new_from: int, row_init: str = "normal", seed: int = 0
) -> None:
    """Give `model` rows for `num_tokens` tokens and initialise the new ones among `ids`, in place.

    Args:
        model: a transformers model; its matrices never shrink.
        num_tokens: length of the extended tokenizer.
        ids: token ids that are ours, `[n]`.
        new_from: ids from here on are new to the tokenizer; older ones keep their rows where they have any.
        row_init: one of `ROW_INITS`.
        seed: of the rows; input and output matrix get different ones.
    """
    if row_init not in ROW_INITS:
        raise ValueError(f"row_init must be one of {', '.join(ROW_INITS)}, got {row_init!r}")
    before = model.get_input_embeddings().weight.shape[0]
    if _has_own_head(model):
        # resizing would tie the matrices again and lose the pretrained head
        model.config.tie_word_embeddings = False
    if num_tokens > before:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    num_old = min(int(ids.min()), before)  # spare rows of a T5 belong to no token and tell nothing
    ids = ids[(ids >= new_from) | (ids >= before)]
    generator = torch.Generator().manual_seed(seed)
    matrices = [model.get_input_embeddings().weight]
    if _has_own_head(model):
        matrices.append(model.get_output_embeddings().weight)
    for matrix in matrices:
        _write_normal_rows(matrix, ids, num_old=num_old, generator=generator)


def _has_own_head(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is not model.get_input_embeddings().weight


@torch.no_grad()
def _write_normal_rows(matrix: Tensor, ids: Tensor, *, num_old: int, generator: torch.Generator) -> None:
    """Draw rows with the mean and spread, per dimension, of the first `num_old` rows."""
    old = matrix[:num_old].float()
    noise = torch.randn(len(ids), matrix.shape[1], generator=generator).to(matrix.device)
    rows = old.mean(0) + noise * old.std(0)
    matrix[ids.to(matrix.device)] = rows.to(matrix.dtype)
