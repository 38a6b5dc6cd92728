"""Constant words of a prompt computed once a batch in `beam_search`, against once a request; random weights.

    OMP_NUM_THREADS=1 python benchmarks/shared_prompt.py --publish

A decoder of the shape of SmolLM2-135M, histories of 20 items of 3 codes, 20 beams. Both searches compute the same; the
largest difference of their scores is rounding.
"""

from typing import Any

import numpy as np
import torch
from timing import interleaved, new_parser, save, zipf_codes
from transformers import LlamaConfig, LlamaForCausalLM

from cost_hf import SidTrie, SidVocabulary, beam_search
from cost_hf.search import causal_steps

LEVELS = 3
CODES = 64
ITEMS = 10_000
HISTORY = 20
BEAMS = 20
TEXT_TOKENS = 49_152
SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
CASES = [(1, 48), (8, 16), (8, 48), (8, 96)]  # requests and constant words
NEVER = 10**9  # no prompt shares so many tokens


def main() -> None:
    """Time every case and print the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of every variant")
    options = parser.parse_args()
    vocabulary = SidVocabulary([CODES] * LEVELS, first_id=TEXT_TOKENS)
    codes = zipf_codes(ITEMS, levels=LEVELS, size=CODES)
    trie = SidTrie(codes, [CODES] * LEVELS)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary.size, **SHAPE)).eval()
    rows = [row_of(model, vocabulary, trie, codes, *case, rounds=options.rounds) for case in CASES]
    save("shared_prompt", rows, publish=options.publish)


def row_of(
    model: LlamaForCausalLM,
    vocabulary: SidVocabulary,
    trie: SidTrie,
    codes: np.ndarray,
    batch: int,
    words: int,
    *,
    rounds: int,
) -> dict[str, Any]:
    """Return the times of one batch by both variants."""
    draws = np.random.default_rng(0)
    histories = vocabulary.encode(torch.from_numpy(codes[draws.integers(len(codes), size=(batch, HISTORY))])).flatten(1)
    constant = torch.from_numpy(draws.integers(TEXT_TOKENS, size=words)).expand(batch, -1)
    prompts = torch.cat([constant, torch.full((batch, 1), vocabulary.begin_id), histories], 1)

    def search(least: int) -> torch.Tensor:
        causal_steps.MIN_SHARED = least
        return beam_search(model, prompts, trie=trie, vocabulary=vocabulary, num_beams=BEAMS).scores

    usual = causal_steps.MIN_SHARED
    seconds = interleaved({"once": lambda: search(usual), "each": lambda: search(NEVER)}, rounds=rounds)
    difference = (search(usual) / search(NEVER) - 1).abs().max()
    causal_steps.MIN_SHARED = usual
    return {
        "requests": batch,
        "constant words": words,
        "tokens of the history": histories.shape[1],
        "once a batch, ms": 1000 * seconds["once"],
        "once a request, ms": 1000 * seconds["each"],
        "ratio": f"{seconds['each'] / seconds['once']:.2f}x",
        "largest relative difference": float(difference),
    }


if __name__ == "__main__":
    main()
