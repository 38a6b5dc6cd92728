"""How many lists of trained generators are proved to be the best of the catalog, and what an exact search costs.

    python train.py --recipe cost_industrial --data.path DIR/amazon_industrial --vectors.model ID_OR_DIR \\
        --evaluation.baselines '[]' --output_dir CAUSAL
    python train.py --recipe benchmarks/t5_industrial.yaml --training.epochs 2 --training.precision fp32 \\
        --data.path DIR/amazon_industrial --vectors.model ID_OR_DIR --evaluation.baselines '[]' --output_dir T5
    OMP_NUM_THREADS=1 python benchmarks/certificate.py --data DIR/amazon_industrial --runs CAUSAL T5

Every user's clicks but the last are a history, as in the test part; ten items are wanted. `proved`: share of lists that
the certificate calls complete. `right`: share with the scores of the ten best items when all items are scored
(`score_catalog`), which no search knows. `prefixes`: fed to the decoder per request, the mean. Single requests take
turns, so that all searches see the same load.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timing import clock, new_parser, save
from torch import Tensor

from cost_hf.files import read_json
from cost_hf.generators.collation import pad_rows
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.search.beam_output import BeamOutput
from cost_hf.search.beam_search import beam_search
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask

TOP_K = 10
BATCH = 64
TIMED_BATCHES = 3
REFERENCE = "50 beams"
ALL = "all items scored"
SEARCHES: dict[str, dict[str, Any]] = {
    "10 beams": {"num_beams": 10},
    "20 beams": {"num_beams": 20},
    REFERENCE: {"num_beams": 50},
    "exact": {"num_beams": TOP_K, "exact": True},
    f"{REFERENCE}, seen excluded": {"num_beams": 50, "mask": True},
    "exact, seen excluded": {"num_beams": TOP_K, "exact": True, "mask": True},
}


class Case:
    """A trained generator and the histories that it answers.

    Args:
        run: a finished run.
        clicks: of the data, oldest first for every user.
        cases: users, drawn by a seed.
    """

    def __init__(self, run: Path, clicks: pd.DataFrame, cases: int):
        system = Recommender.from_pretrained(run)
        if not isinstance(system, GenerativeRecommender):
            raise SystemExit(f"{run} holds a recommender of kind {system.kind}, expected a generator")
        self.system = system
        self.results = read_json(run / "evaluation" / "results.json")
        sequences = clicks.groupby("user_id", sort=True)["item_id"].agg(list)
        sequences = sequences[sequences.map(len) > 1]
        drawn = np.random.default_rng(0).choice(len(sequences), min(cases, len(sequences)), replace=False)
        rows = [np.asarray(system.catalog.rows_of(sequences.iloc[user][:-1])) for user in drawn]
        self.histories = [pad_rows(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
        self.name = "T5" if system.generator.config.is_encoder_decoder else "causal"

    def search(self, histories: Tensor, *, mask: bool = False, **options: Any) -> BeamOutput:
        """Search for a batch of histories `[B, T]`; `mask` excludes their items."""
        system = self.system
        return beam_search(
            system.generator,
            *system.prompts.inputs(histories),
            trie=system.trie,
            vocabulary=system.vocabulary,
            mask=CatalogMask(len(system.catalog), denied=histories) if mask else None,
            **options,
        )

    def scores(self, histories: Tensor) -> Tensor:
        """Return the score of every item, `[B, N]`."""
        system = self.system
        inputs = system.prompts.inputs(histories)
        return score_catalog(system.generator, *inputs, trie=system.trie, vocabulary=system.vocabulary)


def rows_of(case: Case, *, requests: int) -> list[dict[str, Any]]:
    """Return a row for every search."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SEARCHES}
    for histories in case.histories:
        scores = case.scores(histories)
        for name, options in SEARCHES.items():
            output = case.search(histories, **options)
            table = CatalogMask(scores.shape[1], denied=histories).hide(scores.clone()) if "mask" in options else scores
            found[name] += _compared(output, table.topk(TOP_K).values)
    alone = _seconds(case, [history[None] for history in torch.cat(_equally_wide(case.histories))[:requests]])
    together = _seconds(case, case.histories[:TIMED_BATCHES])
    nodes = case.system.trie.num_nodes
    rows = []
    for name in [*SEARCHES, ALL]:
        proved, right, prefixes = np.mean(found[name], axis=0) if name in found else (1.0, 1.0, sum(nodes[:-1]))
        reference = f"{REFERENCE}, seen excluded" if "seen excluded" in name else REFERENCE
        row = {
            "model": case.name,
            "search": name,
            "proved": float(proved),
            "right": float(right),
            "prefixes": round(float(prefixes), 1),
            "p50 ms": 1e3 * float(np.median(alone[name])),
            "p95 ms": 1e3 * float(np.quantile(alone[name], 0.95)),
            "against 50 beams": f"{np.median(alone[name] / alone[reference]):.2f}x",
            f"ms, batch of {BATCH}": 1e3 * float(np.median(together[name])) / BATCH,
            f"against 50 beams, batch of {BATCH}": f"{np.median(together[name] / together[reference]):.2f}x",
        }
        rows.append(row)
    return rows


def _compared(output: BeamOutput, best: Tensor) -> list[tuple[float, float, float]]:
    """Return, for every request, whether its list is proved, whether it is right, and the prefixes fed."""
    certificate = output.certificate
    if certificate is None:
        raise SystemExit("the model searches by generate(), whose beams prove nothing")
    right = torch.isclose(output.scores[:, :TOP_K], best, rtol=1e-4, atol=1e-4).all(1)
    columns = certificate.is_exact(TOP_K), right, certificate.num_expanded
    return list(zip(*(column.float().tolist() for column in columns), strict=True))


def _equally_wide(parts: list[Tensor]) -> list[Tensor]:
    width = max(part.shape[1] for part in parts)
    return [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=-1) for part in parts]


def _seconds(case: Case, inputs: list[Tensor]) -> dict[str, np.ndarray]:
    """Return the seconds of every search for every input; whole batches only where there are several."""
    inputs = [part for part in inputs if len(part) == len(inputs[0])]
    runs = {name: lambda part, options=options: case.search(part, **options) for name, options in SEARCHES.items()}
    runs[ALL] = case.scores
    for run in runs.values():
        run(inputs[0])
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for part in inputs:
        for name, run in runs.items():
            start = clock()
            run(part)
            seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def main() -> None:
    """Measure every run."""
    parser = new_parser(__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="finished runs of generators on the data")
    parser.add_argument("--data", type=Path, required=True, help="directory with interactions.parquet")
    parser.add_argument("--cases", type=int, default=256, help="histories whose lists are compared")
    parser.add_argument("--requests", type=int, default=50, help="of them, those that are timed one at a time")
    options = parser.parse_args()
    clicks = pd.read_parquet(options.data / "interactions.parquet").sort_values(["user_id", "position"])
    rows = []
    models = {}
    for run in options.runs:
        case = Case(run, clicks, options.cases)
        recipe = case.results["recipe"]
        models[case.name] = {
            "recipe": recipe["name"],
            "epochs": recipe["training"]["epochs"],
            "seed": case.results["seed"],
            "items": len(case.system.catalog),
            "nodes": case.system.trie.num_nodes,
        }
        rows += rows_of(case, requests=options.requests)
    about = {"data": options.data.name, "cases": options.cases, "requests": options.requests, "models": models}
    save("certificate", rows, publish=options.publish, **about)


if __name__ == "__main__":
    main()
