"""Constrained `generate()`: only existing semantic IDs, as a vectorized processor and as a plain function.

Both read the ids of a row only, so one object serves any number of calls. The start of the answer follows from the row:
after the last `<|sid_begin|>` (causal prompts; history items are bare tokens after it, so the level is the number of
tokens after it mod L), else after the decoder's start token, or at 0 where the row starts with the answer
(`inputs_embeds`). The function is the readable reference; it costs one host synchronization per beam and step.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessor

from cost_hf.semantic_ids.catalog_mask import CatalogMask, log_legal
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

DEAD_SCORE = -1e9  # as `generate` scores beams that it can't fill; -inf for a whole row would break sampling


class SidLogitsProcessor(LogitsProcessor):
    """Sets every token that does not continue a legal SID to -inf.

    Drop beams with scores below -1e8 before decoding: `generate` scores beams that it could not fill with -1e9 or less,
    with repeated or -1 ids; there are such beams where fewer items are legal than there are beams.

    Args:
        trie: the legal SIDs.
        vocabulary: their token ids.
        mask: allowed items, a `CatalogMask` or a bool `[N]` or `[B, N]`, True = allowed; as in `generate`, a request's
            rows are neighbours.

    Raises:
        ValueError: for a trie and a vocabulary of different sizes, or a mask of another shape; at a call, for ids that
            no SID begins with, or scores over too small a vocabulary.

    Example (weights are random: which item comes first means nothing):

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from cost_hf import Catalog, SidTrie, SidVocabulary, SidLogitsProcessor
        >>> codes = [[0, 1], [1, 0], [1, 1]]
        >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], codes, level_sizes=(2, 2), collisions="none")
        >>> vocabulary, trie = SidVocabulary.for_catalog(catalog), SidTrie.from_catalog(catalog)
        >>> config = LlamaConfig(vocab_size=vocabulary.size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> generator = LlamaForCausalLM(config).eval()
        >>> history = vocabulary.encode(torch.tensor([[0, 1]]))  # the lamp, as tokens
        >>> prompt = torch.cat([torch.tensor([[vocabulary.begin_id]]), history], dim=1)
        >>> constraint = SidLogitsProcessor(trie, vocabulary)
        >>> answer = generator.generate(
        ...     prompt,
        ...     attention_mask=torch.ones_like(prompt),
        ...     logits_processor=[constraint],
        ...     max_new_tokens=2,
        ...     eos_token_id=None,
        ... )
        >>> vocabulary.decode(answer[:, -2:]).tolist()[0] in codes
        True
    """

    def __init__(self, trie: SidTrie, vocabulary: SidVocabulary, *, mask: Tensor | CatalogMask | None = None):
        check_sizes(trie, vocabulary)
        self.trie = trie
        self.vocabulary = vocabulary
        self.mask = CatalogMask.of(mask, trie.num_items, trie.item_ids)
        self.trie_mask = None if self.mask is None else self.mask.on(trie)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return `scores` `[rows, V]` with -inf at tokens that may not follow `input_ids` `[rows, S]`."""
        self._move(scores.device)
        if scores.shape[1] < self.vocabulary.begin_id:
            raise ValueError(
                f"scores cover {scores.shape[1]} tokens, the SIDs need {self.vocabulary.begin_id}; "
                "resize the model by SidVocabulary.extend, or load the vocabulary it was trained with"
            )
        requests = self._requests(len(scores)).to(scores.device)
        levels = _answer_lengths(input_ids, self.vocabulary) % len(self.vocabulary.level_sizes)
        present = levels.unique().tolist()
        if len(present) == 1:
            return self._at_level(present[0], input_ids, scores, requests)
        processed = torch.empty_like(scores)
        for level in present:
            rows = (levels == level).nonzero()[:, 0]
            processed[rows] = self._at_level(level, input_ids[rows], scores[rows], requests[rows])
        return processed

    def _at_level(self, level: int, input_ids: Tensor, scores: Tensor, requests: Tensor) -> Tensor:
        """Process rows that are all at `level`."""
        legal = self._legal_codes(level, input_ids, requests)
        first = int(self.vocabulary.level_offsets[level])
        block = slice(first, first + self.vocabulary.level_sizes[level])
        processed = torch.full_like(scores, -torch.inf)
        torch.add(scores[:, block], log_legal(legal, scores.dtype), out=processed[:, block])
        if self.trie_mask is None:
            return processed
        return processed + self.trie_mask.is_empty.to(scores.dtype)[requests, None] * DEAD_SCORE

    def _legal_codes(self, level: int, input_ids: Tensor, requests: Tensor) -> Tensor:
        """Return which codes of `level` may follow every row, bool `[rows, K]`."""
        offsets = self.vocabulary.level_offsets[:level].to(input_ids.device)
        prefix = input_ids[:, input_ids.shape[1] - level :]
        nodes = self.trie.prefix(prefix - offsets)
        if bool((nodes < 0).any()):
            row = int((nodes < 0).nonzero()[0])
            raise _unknown_prefix(prefix[row].tolist(), input_ids[row].tolist(), self.vocabulary)
        codes, children, is_legal = self.trie.children(level, nodes)
        if self.trie_mask is not None:
            kept = self.trie_mask.keeps_nodes(level, children, requests)
            is_legal = is_legal & (kept | self.trie_mask.is_empty[requests, None])
        # summed, since padding repeats codes of the level with 0; a real child counts 1
        counts = torch.zeros(len(nodes), self.vocabulary.level_sizes[level], dtype=torch.uint8, device=nodes.device)
        return counts.scatter_add_(1, codes, is_legal.view(torch.uint8)).view(torch.bool)

    def _requests(self, rows: int) -> Tensor:
        """Return the mask row of every score row; the beams of one request are neighbours."""
        batch = 1 if self.mask is None else self.mask.batch or 1
        if rows % batch:
            raise ValueError(
                f"mask has {batch} rows but scores have {rows}, expected a multiple; pass one row per request"
            )
        return torch.arange(rows) // (rows // batch)

    def _move(self, device: torch.device) -> None:
        if self.trie.device != device:
            self.trie = self.trie.to(device)
            self.trie_mask = None if self.mask is None else self.mask.on(self.trie)


def prefix_allowed_tokens_fn(
    trie: SidTrie, vocabulary: SidVocabulary, *, mask: Tensor | CatalogMask | None = None
) -> Callable[[int, Tensor], list[int]]:
    """Return a function for `generate(prefix_allowed_tokens_fn=…)` with the beams of `SidLogitsProcessor`.

    Args:
        trie: the legal SIDs.
        vocabulary: their token ids.
        mask: allowed items, a `CatalogMask` or a bool `[N]` or `[B, N]`, True = allowed.

    Raises:
        ValueError: as `SidLogitsProcessor`; at a call also where the mask allows no continuation, which `generate` does
            not support in a function.

    Examples:
        >>> import torch
        >>> from cost_hf import Catalog, SidTrie, SidVocabulary, prefix_allowed_tokens_fn
        >>> codes = [[0, 1], [1, 0], [1, 1]]
        >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], codes, level_sizes=(2, 2), collisions="none")
        >>> vocabulary, trie = SidVocabulary.for_catalog(catalog), SidTrie.from_catalog(catalog)
        >>> allowed = prefix_allowed_tokens_fn(trie, vocabulary)
        >>> first = allowed(0, torch.tensor([vocabulary.begin_id]))
        >>> [vocabulary.tokens[token - vocabulary.first_id] for token in first]
        ['<s_a_0>', '<s_a_1>']
        >>> second = allowed(0, torch.tensor([vocabulary.begin_id, first[0]]))
        >>> [vocabulary.tokens[token - vocabulary.first_id] for token in second]
        ['<s_b_1>']
    """
    check_sizes(trie, vocabulary)
    trie = trie.to("cpu")
    catalog_mask = CatalogMask.of(mask, trie.num_items, trie.item_ids)
    trie_mask = None if catalog_mask is None else catalog_mask.on(trie)
    num_levels = len(vocabulary.level_sizes)

    def allowed_tokens(batch_id: int, ids: Tensor) -> list[int]:
        """Return the token ids that may follow `ids` `[S]` in request `batch_id`."""
        row = ids.detach().cpu()
        level = int(_answer_lengths(row[None], vocabulary)[0]) % num_levels
        prefix = row[len(row) - level :]
        node = trie.prefix(prefix - vocabulary.level_offsets[:level])
        if int(node) < 0:
            raise _unknown_prefix(prefix.tolist(), row.tolist(), vocabulary)
        codes, children, _ = trie.children(level, node[None])
        if trie_mask is not None:
            codes = codes[trie_mask.keeps_nodes(level, children, torch.tensor([batch_id]))]
        tokens = (codes.flatten() + vocabulary.level_offsets[level]).tolist()
        if not tokens:
            raise ValueError(
                f"the mask of request {batch_id} allows no item that begins with the tokens {prefix.tolist()}; "
                "drop such requests, or use SidLogitsProcessor or beam_search, which return no items for them"
            )
        return tokens

    return allowed_tokens


def _answer_lengths(input_ids: Tensor, vocabulary: SidVocabulary) -> Tensor:
    """Return how many tokens of every row `[rows, S]` follow the start of its answer, `[rows]`."""
    length = input_ids.shape[1]
    if length == 0:
        return torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
    is_begin = input_ids == vocabulary.begin_id
    after_begin = is_begin.flip(1).to(torch.int8).argmax(1)  # tokens after the last marker
    first = input_ids[:, 0]
    starts_with_answer = (first >= vocabulary.first_id) & (first < vocabulary.first_id + vocabulary.level_sizes[0])
    return torch.where(is_begin.any(1), after_begin, length - 1 + starts_with_answer.long())


def check_sizes(trie: SidTrie, vocabulary: SidVocabulary) -> None:
    """Raise ValueError unless both have the same levels."""
    if trie.level_sizes != vocabulary.level_sizes:
        raise ValueError(
            f"the trie has level_sizes={trie.level_sizes}, the vocabulary {vocabulary.level_sizes}; "
            "build both from the same catalog"
        )


def _unknown_prefix(prefix: list[int], row: list[int], vocabulary: SidVocabulary) -> ValueError:
    known = range(vocabulary.first_id, vocabulary.size)
    texts = [vocabulary.tokens[token - vocabulary.first_id] if token in known else "?" for token in prefix]
    has_marker = vocabulary.begin_id in row
    return ValueError(
        f"no item's SID begins with the tokens {prefix} ({' '.join(texts)}); "
        + ("items after <|sid_begin|> must be complete" if has_marker else "a causal prompt needs <|sid_begin|>")
        + ", and trie and vocabulary must belong to the model's catalog"
    )
