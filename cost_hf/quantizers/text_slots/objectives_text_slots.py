"""Loss terms of text slots beside the cross-entropy of the text; what STORE (arXiv 2409.07276v1) has is not known.

With slots z of a text `[S, E]`, seen through a view that lacks some words as z':

* contrastive `-log exp(cos(z_i, z'_i) / tau) / sum_j exp(cos(z_i, z'_j) / tau)`, slots side by side, j over the batch;
* alignment `1 - cos(mean_s W z_s, mean_t e_t)`, W the map from slots to embeddings, e_t the embeddings of the words.
"""

import torch
from torch import Tensor
from torch.nn import functional


def views_loss(slots: Tensor, others: Tensor, *, temperature: float) -> Tensor:
    """Return the mean in-batch contrastive loss of two views of texts, `[B, S · E]` each, in both directions."""
    first = functional.normalize(slots.float(), dim=-1)
    second = functional.normalize(others.float(), dim=-1)
    logits = first @ second.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def word_alignment_loss(prefixes: Tensor, words: Tensor, is_word: Tensor) -> Tensor:
    """Return one minus the cosine of mean prefix and mean embedding, a mean over texts.

    Args:
        prefixes: slots in the space of embeddings, `[B, S, D]`.
        words: embeddings of the tokens of texts, `[B, T, D]`; they get no gradient.
        is_word: 1 at tokens, 0 at padding, `[B, T]`.
    """
    counts = is_word.sum(1, keepdim=True).clamp_min(1)
    means = (words.detach().float() * is_word[..., None]).sum(1) / counts
    return 1 - functional.cosine_similarity(prefixes.float().mean(1), means, dim=-1).mean()


def dropped_words(is_word: Tensor, share: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Return a mask like `is_word` `[B, T]` that lacks a random share of the tokens; the last one of a text stays."""
    drawn = torch.rand(is_word.shape, generator=generator, device="cpu").to(is_word.device)
    is_last = is_word.cumsum(1) == is_word.sum(1, keepdim=True)
    return is_word * ((drawn >= share) | is_last).to(is_word.dtype)
