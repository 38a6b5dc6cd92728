"""What a request costs: dense exact top-k, FAISS, our search and `generate()`, beside the quality of trained models.

    pip install -c constraints.txt -e ".[benchmarks]"
    python train.py --recipe cost_industrial --data.path DIR/amazon_industrial --vectors.model ID_OR_DIR \\
        --evaluation.baselines '[popularity, item_knn, text_last, sasrec_ce, sasrec_text]' --output_dir RUN
    OMP_NUM_THREADS=1 python benchmarks/serving.py --run RUN

First the models of the run, with their Recall@10 of items (seen items allowed), then a made-up catalog of `--items`
items: item vectors are a mixture of Gaussians, semantic IDs Zipf draws, generators have random weights, so that part
says what a request costs and nothing about quality. Every request asks for ten items for a history of ten. FAISS rows
include the SASRec that makes the query; `found` is the share of the exact ten that an index finds for means of five
items, and that beams find of the ten most probable items of the whole catalog (`score_catalog`). Variants take turns
request by request; p99 of a few dozen requests is close to the slowest one. Memory is what a server has to hold:
weights, item table or trie and token table.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import clock, new_parser, save, zipf_codes
from torch import Tensor, nn
from transformers import LogitsProcessorList

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie

TOP_K = 10
HISTORY = 10
BATCH = 64
WIDTH = 128
MB = 2**20
GENERATORS = {"causal small": GeneratorOptions(), "T5 letter": GeneratorOptions(kind="seq2seq", size="letter")}


@dataclass(frozen=True)
class Variant:
    """A way to answer requests: what the table says of it, and a function of histories `[B, 10]` (catalog rows)."""

    facts: dict[str, Any]
    answer: Callable[[Tensor], Any]


@torch.inference_mode()
def measure(variants: list[Variant], *, num_items: int, requests: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row per variant: latency of single requests and rate of batches, on the same histories."""
    draw = np.random.default_rng(0)
    singles = torch.from_numpy(draw.integers(0, num_items, (requests, 1, HISTORY)))
    batches = torch.from_numpy(draw.integers(0, num_items, (rounds, BATCH, HISTORY)))
    alone = _seconds(variants, singles)
    together = _seconds(variants, batches)
    rows = []
    for variant, one, many in zip(variants, alone, together, strict=True):
        rows.append(
            variant.facts
            | {
                "p50 ms": 1e3 * float(np.median(one)),
                "p99 ms": 1e3 * float(np.quantile(one, 0.99)),
                "requests/s, batch 1": 1 / float(np.mean(one)),
                f"requests/s, batch {BATCH}": BATCH / float(np.median(many)),
            }
        )
    return rows


def _seconds(variants: list[Variant], inputs: Tensor) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in variants]
    for variant in variants:
        variant.answer(inputs[0])
    for histories in inputs:
        for variant, taken in zip(variants, seconds, strict=True):
            start = clock()
            variant.answer(histories)
            taken.append(clock() - start)
    return seconds


def trained_variants(run: Path) -> tuple[list[Variant], dict[str, Any]]:
    """Return the systems of a run by the user's door and below it, and what to say about the run."""
    results = json.loads((run / "evaluation" / "results.json").read_text(encoding="utf-8"))
    missing = [name for name in ("sasrec_ce", "sasrec_text") if name not in results["rows"]]
    if missing:
        raise SystemExit(f"{run} has no {', '.join(missing)}; train with --evaluation.baselines as above (see --help)")
    dense = {name: SasRecRecommender.read(run / "baselines" / name) for name in ("sasrec_ce", "sasrec_text")}
    generative = GenerativeRecommender.read(run / "recommender")
    variants = []
    for name, system in {**dense, "recommender": generative}.items():
        facts = {"items": len(system.catalog), "system": f"{name}, trained", "memory MB": _held(system)}
        recall = results["rows"][name]["item"]["seen_allowed"]["recall@10"]["value"]
        variants.append(Variant(facts | {"path": "recommend()", "recall@10": recall}, door(system)))
        if isinstance(system, SasRecRecommender):
            variants.append(Variant(facts | {"path": "one product, topk"}, product(system.scorer)))
        else:
            variants += generative_paths(system, facts)
    return variants, {"recipe": results["recipe"]["name"], "seed": results["seed"], "run device": results["device"]}


def generative_paths(system: GenerativeRecommender, facts: dict[str, Any]) -> list[Variant]:
    """Return the searches below the door, and the exact probabilities of all items that they are held against."""
    generator = system.generator
    prompts = system.prompts
    trie = system.trie

    def exact(histories: Tensor) -> Tensor:
        inputs = prompts.inputs(histories)
        return score_catalog(generator, *inputs, trie=trie, vocabulary=prompts.vocabulary).topk(TOP_K).indices

    histories = torch.from_numpy(np.random.default_rng(1).integers(0, trie.num_items, (4 * BATCH, HISTORY)))
    best = torch.cat([exact(part) for part in histories.split(BATCH)])
    variants = [Variant(facts | {"path": "score_catalog, all items", "found": 1.0}, exact)]
    for beams in (20, system.num_beams):
        ranker = BeamRanker(generator, prompts, trie, num_beams=beams)
        listed = ranker.rank(histories, top_k=TOP_K).items
        found = float((listed[:, :, None] == best[:, None]).any(2).float().mean())
        paths = searches(generator, prompts, trie, beams=beams)
        variants += [
            Variant(facts | {"path": path} | ({"found": found} if path.startswith("beam") else {}), answer)
            for path, answer in paths
            if beams == system.num_beams or path.startswith("beam")
        ]
    return variants


def door(system: Recommender) -> Callable[[Tensor], Any]:
    ids = system.catalog.item_ids

    def answer(histories: Tensor) -> Any:
        named = [[ids[row] for row in history] for history in histories.tolist()]
        return system.recommend(named, top_k=TOP_K, exclude_seen=False)

    return answer


def product(scorer: DenseScorer) -> Callable[[Tensor], Any]:
    """Return exact top-k with nothing around it."""
    return lambda histories: (scorer.model.users(histories, scorer.table) @ scorer.targets.T).topk(TOP_K)


def searches(model: Any, prompts: PromptBuilder, trie: SidTrie, *, beams: int) -> Iterator[tuple[str, Callable]]:
    vocabulary = prompts.vocabulary
    ranker = BeamRanker(model, prompts, trie, num_beams=beams)
    yield f"beam_search, {beams} beams", lambda histories: ranker.rank(histories, top_k=TOP_K)
    processor = LogitsProcessorList([SidLogitsProcessor(trie, vocabulary)])
    allowed = prefix_allowed_tokens_fn(trie, vocabulary)

    def generate(histories: Tensor, **constraint: Any) -> Any:
        input_ids, attention_mask = prompts.inputs(histories)
        return model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            num_beams=beams,
            num_return_sequences=TOP_K,
            max_new_tokens=len(vocabulary.level_sizes),
            eos_token_id=None,
            length_penalty=0.0,
            do_sample=False,
            **constraint,
        )

    yield f"generate(), processor, {beams} beams", lambda histories: generate(histories, logits_processor=processor)
    yield (
        f"generate(), prefix function, {beams} beams",
        lambda histories: generate(histories, prefix_allowed_tokens_fn=allowed),
    )


def dense_variants(num_items: int, faiss: Any) -> list[Variant]:
    """Return exact and approximate top-k over made-up item vectors, queried by an untrained SASRec."""
    torch.manual_seed(0)
    model = SasRecModel(SasRecConfig(num_items=num_items, hidden_size=WIDTH)).eval()
    centers = torch.randn(1000, WIDTH)
    vectors = centers[torch.randint(1000, (num_items,))] + 0.7 * torch.randn(num_items, WIDTH)
    vectors = nn.functional.normalize(vectors, dim=-1)
    model.items.ids.weight.data.copy_(vectors)
    scorer = DenseScorer(model)
    ids = [str(row) for row in range(num_items)]
    ranker = ScoringRanker(scorer, popularity=np.zeros(num_items), item_ids=ids)
    facts = {"items": num_items, "system": "SASRec, made up", "memory MB": _dense_bytes(scorer) / MB}
    variants = [
        Variant(facts | {"path": "ScoringRanker"}, lambda histories: ranker.rank(histories, top_k=TOP_K)),
        Variant(facts | {"path": "one product, topk"}, product(scorer)),
    ]
    flat = faiss.IndexFlatIP(WIDTH)
    inverted = faiss.index_factory(WIDTH, "IVF1024,Flat", faiss.METRIC_INNER_PRODUCT)
    inverted.nprobe = 16
    queries = vectors[torch.randint(num_items, (500, 5))].mean(1).numpy()
    exact = None
    for path, index in {"FAISS flat": flat, "FAISS IVF1024, nprobe 16": inverted}.items():
        start = clock()
        index.train(vectors[::8].numpy())
        index.add(vectors.numpy())
        build = clock() - start
        nearest = index.search(queries, TOP_K)[1]
        exact = nearest if exact is None else exact
        found = np.mean([len(set(a) & set(b)) / TOP_K for a, b in zip(nearest, exact, strict=True)])
        size = faiss.serialize_index(index).nbytes / MB
        extra = {"path": path, "found": float(found), "build s": build, "memory MB": _bytes(model) / MB + size}
        variants.append(Variant(facts | extra, lookup(index, scorer)))
    return variants


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise SystemExit("the FAISS rows need faiss; pip install -c constraints.txt -e '.[benchmarks]'") from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def lookup(index: Any, scorer: DenseScorer) -> Callable[[Tensor], Any]:
    return lambda histories: index.search(scorer.model.users(histories, scorer.table).numpy(), TOP_K)


def generative_variants(num_items: int, *, beams: int) -> list[Variant]:
    """Return our search and `generate()` over made-up semantic IDs, with untrained generators."""
    codes = zipf_codes(num_items)
    ids = [str(row) for row in range(num_items)]
    catalog = Catalog.from_codes(ids, codes, level_sizes=(256,) * codes.shape[1], collisions="none")
    trie = SidTrie.from_catalog(catalog)
    variants = []
    for name, options in GENERATORS.items():
        backbone = build_backbone(options, catalog, seed=0)
        prompts = PromptBuilder.for_catalog(
            catalog, backbone.vocabulary, is_causal=options.kind == "causal", max_history=options.max_history
        )
        size = (_bytes(backbone.model) + trie.nbytes + prompts.item_tokens.nbytes) / MB
        facts = {"items": num_items, "system": f"{name}, made up", "memory MB": size}
        paths = searches(backbone.model.eval(), prompts, trie, beams=beams)
        variants += [Variant(facts | {"path": path}, answer) for path, answer in paths]
    return variants


def _held(system: Recommender) -> float:
    if isinstance(system, GenerativeRecommender):
        return (_bytes(system.generator) + system.trie.nbytes + system.prompts.item_tokens.nbytes) / MB
    return _dense_bytes(system.scorer) / MB


def _dense_bytes(scorer: DenseScorer) -> int:
    """Return bytes of the weights, of a table that is no weight, and of the items at unit length."""
    table = 0 if scorer.model.config.text_dim is None else scorer.table.nbytes
    return _bytes(scorer.model) + table + scorer.targets.nbytes


def _bytes(model: nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters())


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="finished run of cost_industrial with both SASRecs")
    parser.add_argument("--items", type=int, default=1_000_000, help="size of the made-up catalog")
    parser.add_argument("--beams", type=int, default=20, help="beams on the made-up catalog; trained ones keep theirs")
    parser.add_argument("--requests", type=int, default=50, help="single requests")
    parser.add_argument("--rounds", type=int, default=3, help="batches")
    arguments = parser.parse_args()
    faiss = _faiss()  # before minutes of work on the rest
    given = {"requests": arguments.requests, "rounds": arguments.rounds}
    trained, about = trained_variants(arguments.run)
    rows = measure(trained, num_items=trained[0].facts["items"], **given)
    rows += measure(dense_variants(arguments.items, faiss), num_items=arguments.items, **given)
    rows += measure(generative_variants(arguments.items, beams=arguments.beams), num_items=arguments.items, **given)
    first = ["items", "system", "path", "recall@10", "found"]
    rows = [{key: row.get(key, "") for key in (*first, *row)} for row in rows]
    save("serving", rows, publish=arguments.publish, **about, **given)


if __name__ == "__main__":
    main()
