"""Seconds of GAOQ beside plain k-means, and what aligned codes are for: items that share a code point the same way.

    OMP_NUM_THREADS=1 python benchmarks/gaoq.py [--items 24000] [--vectors FILE.npy]

The made-up table has the size of the paper's smallest one, 24,000 vectors of width 640, and 128 directions with falling
variances, as learned vectors have; `--vectors` takes any other. k-means of scikit-learn into as many clusters as the
first level has is the unit of time: a tokenizer can hardly cost less. The cosine is the mean over pairs of items with
one code on the second level, of their offsets from the centroid of their first code; `other parents` leaves out pairs
that share the first code too, so it shows alignment alone. arXiv 2602.02338, Table 10: .046 to .057 aligned, .005 to
.017 not.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from timing import interleaved, new_parser, save

from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult, fit_codes

WIDTH = 640
DIRECTIONS = 128
PAPER = (32, 40)  # branching for 23,742 items
TARGET_SECONDS = 3


def main() -> None:
    """Measure the kinds of numbering in interleaved rounds beside the reference."""
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=int, default=24_000)
    parser.add_argument("--vectors", type=Path, help="item vectors [N, E] as .npy, in place of made-up ones")
    arguments = parser.parse_args()
    x = made_up(arguments.items) if arguments.vectors is None else np.load(arguments.vectors).astype(np.float32)
    sizes = level_sizes(*x.shape)
    results: dict[str, CodesResult] = {}
    variants = {"k-means": lambda: KMeans(sizes[0], n_init=1, random_state=0).fit(x)}
    for alignment in ("anchor", "local"):
        variants[alignment] = lambda name=alignment: results.update({name: fitted(x, sizes, name)})
    seconds = interleaved(variants, rounds=3)
    rows: list[dict[str, Any]] = [
        {"codes": f"k-means, {sizes[0]} clusters", "seconds": seconds["k-means"], "ratio": 1.0}
    ]
    for name, result in results.items():
        row = {"codes": f"gaoq, {name}", "seconds": seconds[name], "ratio": seconds[name] / seconds["k-means"]}
        rows.append(row | cosines(x, result) | {"unique": len(np.unique(result.codes, axis=0)) / len(x)})
    if arguments.vectors is None and arguments.items == 24_000:
        for row in rows[1:]:
            row["target"] = TARGET_SECONDS
    save("gaoq", rows, publish=arguments.publish, items=len(x), width=x.shape[1], level_sizes=list(sizes))


def made_up(num_items: int) -> np.ndarray:
    """Return vectors of falling variances, fp32 `[N, 640]`."""
    random = np.random.default_rng(0)
    scale = np.arange(1, DIRECTIONS + 1) ** -0.25
    points = random.normal(size=(num_items, DIRECTIONS)) * scale
    return (points @ random.normal(size=(DIRECTIONS, WIDTH))).astype(np.float32)


def level_sizes(num_items: int, width: int) -> tuple[int, int, int]:
    """Return the paper's branching where it fits, else the chosen one, with room for a quarter more items."""
    chosen = CodesOptions.of("gaoq").sizes_for(num_items, width)
    first, second = PAPER if num_items // 20 < PAPER[0] * PAPER[1] < num_items // 10 else chosen[:2]
    return first, second, -(-num_items * 5 // (first * second * 4))


def fitted(x: np.ndarray, sizes: tuple[int, int, int], alignment: str) -> CodesResult:
    """Fit codes as a run does, files included."""
    options = CodesOptions.of("gaoq", level_sizes=list(sizes), index_alignment=alignment)
    with TemporaryDirectory() as folder:
        return fit_codes(x, options, output_dir=folder, seed=0, item_ids=[f"{row:08}" for row in range(len(x))])


def cosines(x: np.ndarray, result: CodesResult) -> dict[str, float]:
    """Return the mean cosines of pairs with one second code: of all of them, and of those below different parents."""
    model: Any = result.model
    first, second = (result.codes[:, level] for level in (0, 1))
    offsets = model.input_norm(torch.from_numpy(x)) - model.tree.centroids[torch.from_numpy(first)]
    units = torch.nn.functional.normalize(offsets).double().numpy()
    totals = []
    for keys in (second, first * result.level_sizes[1] + second):
        groups = np.unique(keys, return_inverse=True)[1]
        sums = np.zeros((groups.max() + 1, x.shape[1]))
        np.add.at(sums, groups, units)
        counts = np.bincount(groups)
        totals.append((np.square(sums).sum() - counts.sum(), np.square(counts).sum() - counts.sum()))
    (within, pairs), (below, near) = totals
    return {"cosine": within / pairs, "other parents": (within - below) / (pairs - near)}


if __name__ == "__main__":
    main()
