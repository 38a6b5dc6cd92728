"""ACERec's speed: scoring by look-up against products of vectors, requests beside a beam search, steps of training.

    OMP_NUM_THREADS=1 python benchmarks/acerec_speed.py --data DIR [--items 1e4 1e5 1e6]

Weights are untrained and codes of the catalogs made up, so that speed alone is measured; models have the sizes of
recipe acerec_industrial. `score 64 histories`: `look-up` sums the log-probabilities of 32 codes of every item,
`product` multiplies 64 user vectors with item vectors of width 384, `read` is one pass over these vectors, which is
what the product would cost if memory traffic alone counted. `request`: one history of ten items, ten back, seen ones
excluded; `beams` are those of the causal generator of recipe cost_industrial over four codes an item. `training`:
target items a second on the histories of DIR/amazon_industrial, in batches that stand for an epoch; `T5 letter` is the
generator of that size, over every prefix. `ratio` is of speeds: against the product, 20 beams and T5.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import interleaved, new_parser, save, zipf_codes
from training_parts import Histories, Setup, TrainingRun, bare_step, representative

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.collation import SequenceDataset
from cost_hf.generators.ranking_trainer import LengthGroupedSampler
from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.modeling_acerec import AceRecModel, catalog_scores
from cost_hf.methods.acerec.recommender import AceRecRecommender
from cost_hf.methods.sasrec.training import HistoryCollator
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog

LEVELS = (256,) * 32
SIZES = {
    "ACERec of acerec_industrial": {"hidden_size": 128, "intermediate_size": 256, "max_history": 20},
    "ACERec of acerec_beauty": {"hidden_size": 448, "intermediate_size": 1024, "max_history": 50},
}
OWN = "ACERec of acerec_industrial"
HISTORIES = 64
HISTORY = 10
TOP_K = 10
WIDTH = 384  # of the text vectors that a dense model would multiply
BEAMS = (20, 50)
REQUESTS = 8  # of a round


def main() -> None:
    """Measure everything and print it as one table."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with the folder amazon_industrial")
    parser.add_argument("--items", type=float, nargs="+", default=[1e4, 1e5, 1e6], help="sizes of the catalogs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="batches of a timed training")
    arguments = parser.parse_args()
    rows = []
    for count in arguments.items:
        rows += scoring_rows(int(count), rounds=arguments.rounds)
        rows += request_rows(int(count), rounds=arguments.rounds)
    rows += training_rows(arguments.data, steps=arguments.steps, rounds=arguments.rounds)
    save("acerec", rows, publish=arguments.publish, rounds=arguments.rounds, steps=arguments.steps)


def model_of(name: str) -> AceRecModel:
    """Return an untrained model in eval mode."""
    torch.manual_seed(0)
    return AceRecModel(AceRecConfig(level_sizes=LEVELS, dropout=0.2, **SIZES[name])).eval()


@torch.inference_mode()
def scoring_rows(num_items: int, *, rounds: int) -> list[dict[str, Any]]:
    """Compare the look-up with a product of vectors, and with reading these once."""
    draw = torch.Generator().manual_seed(0)
    model = model_of(OWN)
    tokens = model.item_tokens(torch.randint(256, (num_items, len(LEVELS)), generator=draw))
    histories = torch.randint(num_items, (HISTORIES, HISTORY), generator=draw)
    log_probs = model.log_probs(histories, tokens)
    vectors = torch.randn(num_items, WIDTH, generator=draw)
    users = torch.randn(HISTORIES, WIDTH, generator=draw)
    variants: dict[str, Callable[[], Any]] = {
        "look-up": lambda: catalog_scores(log_probs, tokens),
        "product": lambda: users @ vectors.T,
        "read": lambda: vectors.sum(),
    }
    seconds = interleaved(variants, rounds=rounds)
    megabytes = {"look-up": tokens.nbytes / 2**20, "product": vectors.nbytes / 2**20}
    return [
        {
            "part": f"score {HISTORIES} histories",
            "items": num_items,
            "variant": name,
            "ms_per_history": 1e3 * seconds[name] / HISTORIES,
            "ratio": seconds["product"] / seconds[name],
            "table_mb": megabytes.get(name, ""),
        }
        for name in variants
    ]


def request_rows(num_items: int, *, rounds: int) -> list[dict[str, Any]]:
    """Compare requests to ACERec with those to a generator that searches."""
    ids = [f"item{row:07d}" for row in range(num_items)]
    clicks = np.zeros(num_items, dtype=np.int64)
    draws = np.random.default_rng(0)
    codes = draws.integers(256, size=(num_items, len(LEVELS)))
    catalog = Catalog.from_codes(ids, codes, level_sizes=LEVELS, collisions="none", has_parallel_levels=True)
    systems: dict[str, Recommender] = {"look-up": AceRecRecommender(model_of(OWN), catalog, popularity=clicks)}
    sids = zipf_codes(num_items)
    four = Catalog.from_codes(ids, sids, level_sizes=(256,) * sids.shape[1], collisions="none")
    backbone = build_backbone(GeneratorOptions(), four, seed=0)
    for beams in BEAMS:
        systems[f"{beams} beams"] = GenerativeRecommender(backbone, four, popularity=clicks, num_beams=beams)
    asked = [[ids[row] for row in draws.integers(num_items, size=HISTORY)] for _ in range(REQUESTS)]

    def answer(system: Recommender) -> Callable[[], Any]:
        return lambda: [system.recommend(history, top_k=TOP_K) for history in asked]

    seconds = interleaved({name: answer(system) for name, system in systems.items()}, rounds=rounds)
    return [
        {
            "part": "request",
            "items": num_items,
            "variant": name,
            "p50_ms": 1e3 * seconds[name] / REQUESTS,
            "requests_per_s": REQUESTS / seconds[name],
            "ratio": seconds["20 beams"] / seconds[name],
        }
        for name in systems
    ]


class AceRecRun:
    """Steps of ACERec over a choice of an epoch's batches that stands for all of them; a call makes every step."""

    def __init__(self, data: Histories, name: str, *, steps: int, batch_size: int = 128):
        self.model = model_of(name).train()
        num_items = len(data.catalog)
        draw = torch.Generator().manual_seed(0)
        self.tokens = self.model.item_tokens(torch.randint(256, (num_items, len(LEVELS)), generator=draw))
        self.popularity = torch.ones(num_items)
        teaching = [(rows, user) for rows, user in zip(data.sequences, data.user_ids, strict=True) if len(rows) > 1]
        sequences, users = zip(*teaching, strict=True)
        length = self.model.config.max_history + 1
        dataset = SequenceDataset(sequences, users, max_items=length, num_unlabelled=1)
        order = np.array(list(LengthGroupedSampler(dataset.lengths, batch_size=batch_size, seed=0)))
        full = [order[at : at + batch_size] for at in range(0, len(order) - batch_size + 1, batch_size)]
        batches = [HistoryCollator()([dataset[int(row)] for row in batch]) for batch in full]
        work = [[batch["labels"].numel(), int((batch["labels"] >= 0).sum())] for batch in batches]
        self.batches = [batches[number] for number in representative(np.array(work, dtype=np.float64), steps)]
        self.targets = sum(int((batch["labels"] >= 0).sum()) for batch in self.batches)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def __call__(self) -> None:
        """Make every step."""
        for batch in self.batches:
            output = self.model(**batch, item_tokens=self.tokens, popularity=self.popularity)
            bare_step(self.model, self.optimizer, output.loss)


def training_rows(directory: Path, *, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Compare steps of training."""
    data = Histories.read(directory, "amazon_industrial", batch_size=None)
    setup = Setup(data, "seq2seq", "letter")
    letter = TrainingRun(setup, collate=setup.collate, is_grouped=True, steps=steps, device="cpu", is_bf16=False)
    own = {name: AceRecRun(data, name, steps=steps) for name in SIZES}
    seconds = interleaved({"T5 letter": letter, **own}, rounds=rounds)
    targets = {"T5 letter": sum(map(len, letter.batches)), **{name: run.targets for name, run in own.items()}}
    models: dict[str, Any] = {"T5 letter": letter.model, **{name: run.model for name, run in own.items()}}
    rates = {name: targets[name] / seconds[name] for name in seconds}
    return [
        {
            "part": "training",
            "variant": name,
            "weights": models[name].num_parameters(),
            "targets_per_s": rate,
            "ratio": rate / rates["T5 letter"],
        }
        for name, rate in rates.items()
    ]


if __name__ == "__main__":
    main()
