"""Constrained decoding: `beam_search` against `generate()` under a prefix function, random weights, made-up catalog.

    OMP_NUM_THREADS=1 python benchmarks/decode.py

Histories of 20 items and no padding; 100,000 items of 4 levels of 256 codes. `share of limit` is the work that the
search needs over its time and the machine's measured rate of fp32 products. `same` is the share of requests whose items
equal those of `generate()` in order. The rows with a mask say what the mask costs the search; `level` rows are
normalised over the level's codes, so their scores are others. `--device cuda` runs larger batches in fp32 and bf16 and
adds a search whose steps replay as one graph, and the constraint's own work at all levels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import interleaved, matmul_gflops, new_parser, save, zipf_codes
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from cost_hf import CatalogMask, SidLogitsProcessor, SidTrie, SidVocabulary, beam_search, prefix_allowed_tokens_fn
from cost_hf.generators.backbones import CAUSAL_SIZES, SEQ2SEQ_SIZES
from cost_hf.search.captured_search import CapturedSearch

LEVELS = 4
CODES = 256
HISTORY = 20
T5_SMALL = {"num_layers": 6, "num_decoder_layers": 6, "d_model": 512, "d_ff": 2048, "num_heads": 8, "d_kv": 64}
T5_BASE = {"num_layers": 12, "num_decoder_layers": 12, "d_model": 768, "d_ff": 3072, "num_heads": 12, "d_kv": 64}
T5_WORDS = 32_128
CPU_CASES = [("letter", 16, 20), ("letter", 16, 50), ("letter", 1, 20), ("letter", 1, 50), ("t5-small", 8, 20)]
CPU_CASES += [("small", 16, 20)]  # the decoder-only one
GPU_CASES = [("letter", 64, 50), ("t5-base", 64, 50), ("small", 64, 50)]


class Case:
    """A model with random weights, a batch of prompts and the searches that are compared."""

    def __init__(self, size: str, trie: SidTrie, codes: np.ndarray, *, batch: int, beams: int, device: str, dtype: Any):
        self.trie = trie.to(device)
        self.beams = beams
        self.is_causal = size in CAUSAL_SIZES
        first_id = T5_WORDS if size.startswith("t5") else 3
        self.vocabulary = SidVocabulary([CODES] * LEVELS, first_id=first_id)
        torch.manual_seed(0)
        self.model = new_model(size, self.vocabulary).to(device, dtype).eval()
        rows = np.random.default_rng(1).integers(0, len(codes), (batch, HISTORY))
        items = self.vocabulary.encode(torch.from_numpy(codes[rows])).flatten(1)
        edge = torch.full((batch, 1), self.vocabulary.begin_id if self.is_causal else self.vocabulary.eos_id)
        self.input_ids = torch.cat([edge, items] if self.is_causal else [items, edge], dim=1).to(device)
        self.attention_mask = torch.ones_like(self.input_ids)
        self.seen = torch.from_numpy(rows)

    def search(self, **options: Any) -> Any:
        """Search by this package."""
        return beam_search(
            self.model,
            self.input_ids,
            self.attention_mask,
            trie=self.trie,
            vocabulary=self.vocabulary,
            num_beams=self.beams,
            **options,
        )

    @torch.inference_mode()
    def generate(self, **constraint: Any) -> Any:
        """Search by the model's own `generate()`."""
        return self.model.generate(
            input_ids=self.input_ids,
            attention_mask=self.attention_mask,
            num_beams=self.beams,
            num_return_sequences=self.beams,
            max_new_tokens=LEVELS,
            do_sample=False,
            eos_token_id=None,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
            **constraint,
        )

    def variants(self, *, masks: bool) -> dict[str, Callable[[], Any]]:
        """Return the searches to compare, the reference first."""
        function = prefix_allowed_tokens_fn(self.trie, self.vocabulary)
        processor = SidLogitsProcessor(self.trie, self.vocabulary)
        runs: dict[str, Callable[[], Any]] = {
            "generate, prefix function": lambda: self.generate(prefix_allowed_tokens_fn=function),
            "generate, processor": lambda: self.generate(logits_processor=[processor]),
            "beam_search": self.search,
            "beam_search, level": lambda: self.search(normalization="level"),
        }
        if masks:
            half = torch.rand(self.trie.num_items, generator=torch.Generator().manual_seed(0)) < 0.5
            stock = CatalogMask(len(half), half)
            everything = CatalogMask(len(half))
            runs["beam_search, seen excluded"] = lambda: self.search(mask=everything.without(self.seen))
            runs["beam_search, half in stock"] = lambda: self.search(mask=stock)
            runs["beam_search, both"] = lambda: self.search(mask=stock.without(self.seen))
        if self.input_ids.is_cuda:
            captured = CapturedSearch(self.model, trie=self.trie, vocabulary=self.vocabulary, num_beams=self.beams)
            runs["captured search"] = lambda: captured(self.input_ids, self.attention_mask)
            runs["constraint alone"] = self.constraint
        return runs

    @torch.inference_mode()
    def constraint(self) -> None:
        """Do what the constraint does in one search: children, their log-probabilities, illegal ones to -inf."""
        batch = len(self.input_ids)
        beams = self.beams
        device = self.input_ids.device
        for level in range(LEVELS):
            nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)
            if level:
                nodes = torch.arange(batch * beams, device=device).view(batch, beams) % self.trie.num_nodes[level - 1]
            codes, _, legal = (part.unflatten(0, nodes.shape) for part in self.trie.children(level, nodes.flatten()))
            table = torch.zeros(*nodes.shape, CODES, device=device)
            table.gather(2, codes).masked_fill_(~legal, -torch.inf)

    def agreement(self) -> tuple[float, float]:
        """Return the share of requests with the items of `generate()` in order, and the largest relative difference."""
        found = self.search()
        output = self.generate(logits_processor=[SidLogitsProcessor(self.trie, self.vocabulary)])
        tokens = self.vocabulary.encode(found.codes.cpu()).flatten(0, 1).to(output.sequences.device)
        same = (tokens == output.sequences[:, -LEVELS:]).view(len(found.items), -1).all(1)
        scores = output.sequences_scores.view_as(found.scores)
        error = ((found.scores - scores).abs() / scores.abs().clamp_min(1)).max()
        return float(same.float().mean()), float(error)


def new_model(size: str, vocabulary: SidVocabulary) -> PreTrainedModel:
    """Return a model of a size of this package, or of T5's own."""
    if size in CAUSAL_SIZES:
        config = LlamaConfig(vocab_size=vocabulary.size, tie_word_embeddings=True, **CAUSAL_SIZES[size])
        config.pad_token_id = 0
        config.bos_token_id = vocabulary.begin_id
        config.eos_token_id = None
        return LlamaForCausalLM(config)
    sizes = {"t5-small": T5_SMALL, "t5-base": T5_BASE} | SEQ2SEQ_SIZES
    tokens = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": vocabulary.eos_id}
    return T5ForConditionalGeneration(T5Config(vocab_size=vocabulary.size, **tokens, **sizes[size]))


def t5_gflop(config: T5Config, *, batch: int, beams: int, source: int) -> float:
    """Count the products that an exact search needs: the source once, the start token once, the beams L - 1 times."""
    model = config.d_model
    inner = config.num_heads * config.d_kv
    wide = config.d_ff
    encoder = source * (8 * model * inner + 4 * model * wide + 4 * source * inner) * config.num_layers
    cross = source * 4 * model * inner * config.num_decoder_layers
    fed = [1] + [beams] * (LEVELS - 1)
    tokens = sum(fed) * (12 * model * inner + 4 * model * wide + 4 * source * inner)
    ancestors = sum(width * 4 * (depth + 1) * inner for depth, width in enumerate(fed))
    head = sum(fed) * 2 * model * config.vocab_size
    return 1e-9 * batch * (encoder + cross + (tokens + ancestors) * config.num_decoder_layers + head)


def rows_of(case: Case, name: str, *, rounds: int, limit: float | None) -> list[dict[str, Any]]:
    """Time one case; `limit` is the machine's rate in GFLOP/s."""
    batch = len(case.input_ids)
    runs = case.variants(masks=name.startswith("letter") and batch > 1)
    reference = "generate, prefix function"
    if case.input_ids.is_cuda:  # it asks the host for every beam: seconds a call
        seconds = interleaved({reference: runs.pop(reference)}, rounds=1) | interleaved(runs, rounds=rounds)
    else:
        seconds = interleaved(runs, rounds=rounds)
    same, error = case.agreement()
    rows = []
    for variant, value in seconds.items():
        row = {"model": name, "batch": batch, "beams": case.beams, "search": variant, "ms": 1e3 * value}
        row["against prefix function"] = f"{seconds[reference] / value:.1f}x"
        row["against processor"] = f"{seconds['generate, processor'] / value:.1f}x"
        if variant.split(", ")[-1] in ("seen excluded", "half in stock", "both"):
            row["against unmasked"] = f"{value / seconds['beam_search']:.2f}x"
        if variant == "beam_search":
            row |= {"same": same, "largest relative difference": error}
            if limit is not None and not case.is_causal:
                work = t5_gflop(case.model.config, batch=batch, beams=case.beams, source=case.input_ids.shape[1])
                row["share of limit"] = f"{work / value / limit:.2f}"
        rows.append(row)
    return rows


def main() -> None:
    """Run the cases of the CPU or of the GPU."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--items", type=float, default=1e5, help="size of the made-up catalog")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls, five times as many of single requests")
    known = sorted({size for size, _, _ in [*CPU_CASES, *GPU_CASES]})
    parser.add_argument("--sizes", nargs="+", choices=known, default=known, help="only these models")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch can use")
    codes = zipf_codes(int(options.items), levels=LEVELS, size=CODES)
    trie = SidTrie(codes, [CODES] * LEVELS)
    on_cpu = options.device == "cpu"
    cases = CPU_CASES if on_cpu else GPU_CASES
    rows = []
    for dtype in [torch.float32] if on_cpu else [torch.float32, torch.bfloat16]:
        for size, batch, beams in cases:
            if size not in options.sizes:
                continue
            case = Case(size, trie, codes, batch=batch, beams=beams, device=options.device, dtype=dtype)
            name = size if on_cpu else f"{size} {str(dtype).removeprefix('torch.')}"
            # single requests are short, so a hiccup weighs more
            rounds = options.rounds if batch > 1 else 5 * options.rounds
            rows += rows_of(case, name, rounds=rounds, limit=matmul_gflops() if on_cpu else None)
    save("decode" if on_cpu else "decode_gpu", rows, publish=options.publish, items=len(codes))


if __name__ == "__main__":
    main()
