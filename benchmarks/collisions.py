"""What the collision policies cost: time, moved items, and the distance that moves add; residual k-means codes.

    OMP_NUM_THREADS=1 python benchmarks/collisions.py [--items 1e5 1e6] [--sets DIR/amazon_beauty … --model ID_OR_DIR]

Synthetic items are 32-dimensional vectors around the centers of clusters of clusters; codes have three levels of 256,
fitted on a sample. Sets are encoded by a text encoder; their codes have three levels of 64 below 5,000 items, else 256.
Every case runs in a process of its own, all policies on the same codes.

`added distance`: how far the sum of squared distances of the items to their code vectors is above that of their nearest
codes, as a share of it. `left their prefix`: items whose levels before the last changed. `still collide`: items that
share all codes of the quantizer; `append` distinguishes them by one more level. `peak MB` is that of the process so
far; policies run in the order of the rows.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.timing import clock, machine, new_parser, peak_mb, put_into_readme, table
from cost_hf.data.options import VectorOptions
from cost_hf.data.text_vectors import encode_items
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json, write_json
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.catalog import DEFAULT_APPEND_SIZE
from cost_hf.semantic_ids.catalog_table import assign_semantic_ids, encode
from cost_hf.semantic_ids.collisions import CHUNK_DISTANCES, group_sizes, next_level_distances

RESULTS = Path(__file__).parent / "results" / "collisions.json"
POLICIES = ("append", "reassign", "sinkhorn", "min_cost")
DIM = 32
SAMPLE = 50_000  # items that codebooks are fitted to
LARGE = 5_000  # items from which on levels have 256 codes
TEXTS = {"amazon_beauty": "cost_beauty"}  # recipe whose text template a set has
OTHER_TEXTS = "cost_industrial"


def main() -> None:
    """Measure every case in a process of its own; or, inside one, a single case."""
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=float, nargs="*", default=[1e5, 1e6], help="sizes of synthetic catalogs")
    parser.add_argument("--sets", type=Path, nargs="*", default=[], help="directories with items.parquet")
    parser.add_argument("--model", default=None, help="text encoder of the sets: id or directory")
    parser.add_argument("--case", default=None, help="only measure this case and print JSON")
    known = parser.parse_args()
    if known.sets and known.model is None:
        parser.error("--sets needs --model, the text encoder")
    if known.case is not None:
        x = synthetic_vectors(int(known.items[0])) if known.items else text_vectors(known.sets[0], known.model)
        print(json.dumps(measure(known.case, x)))
        return
    cases = {f"synthetic {int(items):,}": ["--items", str(items)] for items in known.items}
    cases |= {f"{path.name}": ["--items", "--sets", str(path), "--model", known.model] for path in known.sets}
    rows = []
    for name, arguments in cases.items():
        command = [sys.executable, __file__, *arguments, "--case", name]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        rows += json.loads(found.stdout)
        print(table(rows[-len(POLICIES) :]), flush=True)
        if known.publish:
            publish(rows)


def publish(rows: list[dict[str, Any]]) -> None:
    """Write rows to `RESULTS` and README.md; rows of cases that were not measured again stay."""
    measured = {row["case"] for row in rows}
    before = read_json(RESULTS)["rows"] if RESULTS.is_file() else []
    every = [row for row in before if row["case"] not in measured] + rows
    record = {"machine": machine(), "rows": sorted(every, key=lambda row: row["items"])}
    write_json(RESULTS, record)
    put_into_readme("collisions", record)


def synthetic_vectors(items: int, *, seed: int = 0) -> np.ndarray:
    """Return vectors around the centers of clusters of clusters, fp32 `[items, DIM]`; cluster sizes follow Zipf."""
    draw = np.random.default_rng(seed)
    topics = draw.normal(size=(200, DIM))
    groups = topics[draw.integers(0, 200, 20_000)] + 0.5 * draw.normal(size=(20_000, DIM))
    share = (np.arange(20_000) + 1.0) ** -0.7
    member = draw.choice(20_000, size=items, p=share / share.sum())
    return (groups[member] + 0.2 * draw.normal(size=(items, DIM))).astype(np.float32)


def text_vectors(folder: Path, model: str) -> np.ndarray:
    """Return the text vectors of a set, fp32 `[N, E]`."""
    template = Recipe.load(TEXTS.get(folder.name, OTHER_TEXTS)).vectors.template
    items = pd.read_parquet(folder / "items.parquet").drop_duplicates("item_id")
    with tempfile.TemporaryDirectory() as output:
        return encode_items(items, VectorOptions(model=model, template=template), output_dir=output).vectors


def measure(name: str, vectors: np.ndarray) -> list[dict[str, Any]]:
    """Return a row for every policy on the same codes."""
    x = torch.from_numpy(vectors)
    size = 256 if len(x) >= LARGE else 64
    is_projected = x.shape[1] > DIM
    config = CostConfig(
        item_dim=x.shape[1],
        level_sizes=(size,) * 3,
        latent_dim=DIM,
        hidden_sizes=() if is_projected else None,
        input_norm="l2" if is_projected else "none",
    )
    sample = np.random.default_rng(0).permutation(len(x))[:SAMPLE]
    model = fit_rkmeans(x[torch.from_numpy(sample)], config, seed=0)
    codes = encode(model, x)
    nearest = total_distance(model, x, codes)
    ids = [f"{number:08d}" for number in range(len(x))]
    rows = []
    for policy in POLICIES:
        sizes = (*model.level_sizes, DEFAULT_APPEND_SIZE) if policy == "append" else model.level_sizes
        start = clock()
        sids, moved = assign_semantic_ids(
            np.empty((0, len(sizes)), dtype=np.int64),
            [],
            codes,
            ids,
            level_sizes=sizes,
            model_levels=3,
            policy=policy,
            x=x,
            model=model,
        )
        seconds = clock() - start
        own = sids[:, :3]
        rows.append(
            {
                "case": name,
                "items": len(x),
                "codes": size,
                "policy": policy,
                "seconds": seconds,
                "moved": moved,
                "left their prefix": int((own[:, :2] != codes[:, :2]).any(1).sum()),
                "still collide": int((group_sizes(own, model.level_sizes) > 1).sum()),
                "added distance": total_distance(model, x, own) / nearest - 1,
                "peak MB": peak_mb(),
            }
        )
    of_reassign = rows[POLICIES.index("reassign")]
    for row in rows:
        row["seconds against reassign"] = row["seconds"] / of_reassign["seconds"]
        if of_reassign["added distance"]:  # 0 where no codes collide
            row["distance against reassign"] = row["added distance"] / of_reassign["added distance"]
    return [
        {key: float(f"{cell:.4g}") if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows
    ]


def total_distance(model: CostModel, x: torch.Tensor, codes: np.ndarray) -> float:
    """Return the sum of the squared distances of items to the code vectors of their codes `[N, L]`."""
    total = 0.0
    step = CHUNK_DISTANCES // model.level_sizes[-1]
    for first in range(0, len(codes), step):
        part = codes[first : first + step]
        distances = next_level_distances(x[first : first + step], part[:, :-1], model)
        total += float(distances[np.arange(len(part)), part[:, -1]].sum(dtype=np.float64))
    return total


if __name__ == "__main__":
    main()
