"""Initialisation of the SID token embeddings in a pretrained tokenizer and model.

Three pitfalls of transformers are handled here, each with a test. Resizing draws new rows with almost no variance, so
all codes would start equal: rows are written afterwards. T5 checkpoints have spare rows that resizing neither
initialises nor may cut (32,128 rows for 32,100 tokens): rows are written by token id and the matrix never shrinks. T5
v1.1 (flan) has an untied head but a config with tied embeddings, and resizing would replace it: the config is corrected
first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from cost_hf.semantic_ids.options import ANCHORED_INITS, CODED_INITS, EMBEDDING_INITS

TEXT_NOISE = 0.1  # of the old rows' standard deviation: enough to separate codes, small enough to stay near the anchor
CODEBOOK_SPREAD = 0.2


@dataclass(frozen=True)
class RowInit:
    """Initialisation of new embedding rows.

    `normal` draws around the mean of the old rows with their standard deviation. `mean` uses the mean of the old rows,
    and `text` the mean row of the tokens of an anchor text, both with a tenth of the old standard deviation as noise.
    `codebook` adds to the anchor, instead of noise, the code vector under a random orthonormal map, so that close codes
    start with close rows. `mapped` takes code vectors that lie in the space of the embeddings already as rows, scaled
    together to the mean length of the old ones; codes without one get a row of `text`. A pretrained model readily
    continues a list of almost equal words, so training from an anchor starts at a loss close to that of a uniform
    choice among the codes.

    Args:
        kind: one of `EMBEDDING_INITS`.
        anchor: token ids of the anchor text in the old tokenizer; for `text`, `codebook` and `mapped`.
        code_vectors: of all codes, level after level, `[n, D]`, NaN for codes without one; for `codebook` and `mapped`,
            which takes those in the width of the embeddings alone.
    """

    kind: str = "normal"
    anchor: tuple[int, ...] = ()
    code_vectors: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in EMBEDDING_INITS:
            raise ValueError(f"embedding_init must be one of {', '.join(EMBEDDING_INITS)}, got {self.kind!r}")
        if self.kind in ANCHORED_INITS and not self.anchor:
            raise ValueError(f"embedding_init {self.kind!r} needs the anchor's token ids, got none; name a word")
        if self.kind in CODED_INITS and self.code_vectors is None:
            raise ValueError(
                f"embedding_init {self.kind!r} needs the code vectors of a quantizer; these codes have no model"
            )


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> tuple[int, int]:
    """Add `tokens` in order; return the id of the first, and the first id beyond the old vocabulary.

    Raises:
        ValueError: if the tokens would not get contiguous ids; the tokenizer is then unchanged.
    """
    before = len(tokenizer)
    known = tokenizer.get_vocab()
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
    model: Any, num_tokens: int, ids: Tensor, *, new_from: int, embedding_init: RowInit | None = None, seed: int = 0
) -> None:
    """Resize the embeddings of `model` to `num_tokens` tokens and initialise the new ones among `ids`, in place.

    Args:
        model: a transformers model; its matrices never shrink.
        num_tokens: length of the extended tokenizer.
        ids: ids of the SID tokens, int64 `[n]`.
        new_from: ids from here on are new to the tokenizer; older ones keep their rows if they have any.
        embedding_init: initialisation of new rows; `normal` by default.
        seed: of the rows; input and output matrix get different values.
    """
    before = model.get_input_embeddings().weight.shape[0]
    if _has_own_head(model):
        # resizing would tie the matrices again and lose the pretrained head
        model.config.tie_word_embeddings = False
    if num_tokens > before:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    first = int(ids.min())
    num_old = min(first, before)  # spare rows of a T5 belong to no token
    ids = ids[(ids >= new_from) | (ids >= before)]
    generator = torch.Generator().manual_seed(seed)
    matrices = [model.get_input_embeddings().weight]
    if _has_own_head(model):
        matrices.append(model.get_output_embeddings().weight)
    for matrix in matrices:
        if before < first:  # of tokens that the tokenizer had and the model did not: resizing drew them at random
            matrix.data[before:first] = matrix[:before].float().mean(0).to(matrix.dtype)
        _write_rows(matrix, ids, ids - first, embedding_init or RowInit(), num_old=num_old, generator=generator)


def _has_own_head(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is not model.get_input_embeddings().weight


@torch.no_grad()
def _write_rows(
    matrix: Tensor, ids: Tensor, indices: Tensor, start: RowInit, *, num_old: int, generator: torch.Generator
) -> None:
    """Write the rows `ids`, whose indices in the vocabulary are `indices`, scaled per dimension of the old rows."""
    old = matrix[:num_old].float()
    centre = old.mean(0)
    spread = old.std(0)
    if start.anchor:
        centre = old[list(start.anchor)].mean(0)
    noise = torch.randn(len(ids), matrix.shape[1], generator=generator).to(matrix.device)
    steps = noise if start.kind == "normal" else TEXT_NOISE * noise
    new = centre + steps * spread
    if start.kind in CODED_INITS and start.code_vectors is not None:
        coded = indices < len(start.code_vectors)
        vectors = start.code_vectors[indices[coded]]
        has_vector = ~vectors.isnan().any(1)
        rows = coded.nonzero()[:, 0][has_vector].to(matrix.device)
        if start.kind == "codebook":
            mapped = _mapped(vectors[has_vector], matrix.shape[1], generator).to(matrix.device)
            new[rows] = centre + CODEBOOK_SPREAD * mapped * spread
        else:
            new[rows] = _scaled(vectors[has_vector].to(matrix.device), old)
    matrix[ids.to(matrix.device)] = new.to(matrix.dtype)


def _scaled(vectors: Tensor, old: Tensor) -> Tensor:
    """Scale vectors `[n, D]` together to the mean length of the old rows `[V, D]`.

    Raises:
        ValueError: for vectors of another width.
    """
    if vectors.shape[1] != old.shape[1]:
        raise ValueError(
            f"embedding_init 'mapped' takes code vectors in the space of the embeddings, of width {old.shape[1]}, got "
            f"width {vectors.shape[1]}; take the model that made the codes as backbone, or codebook"
        )
    lengths = vectors.float().norm(dim=1).mean().clamp_min(1e-12)
    return vectors.float() * (old.norm(dim=1).mean() / lengths)


def _mapped(vectors: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Map vectors `[n, D]` to `[n, width]` by random orthonormal directions, scaled to unit standard deviation."""
    size = max(width, vectors.shape[1])
    directions = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q[: vectors.shape[1], :width]
    mapped = (vectors.float() - vectors.float().mean(0)) @ directions
    return mapped / mapped.std().clamp_min(1e-12)
