"""How seconds and memory of every stage over a catalog grow with its items: 1e4 to 1e7 made-up ones.

    OMP_NUM_THREADS=1 python benchmarks/item_growth.py [--items 1e4 1e5 1e6 1e7] [--stages encode rank …] [--publish]
    OMP_NUM_THREADS=1 python benchmarks/item_growth.py --as before --package DIR …   measures another checkout

Items are 32-dimensional vectors around the centers of clusters of clusters, codes have three levels of 256, fitted on a
sample. A stage runs in a process of its own, whose inputs are read from disk before the clock starts. `seconds` are CPU
seconds of one thread. `above` is the largest resident size during the stage beyond what the process held when it began:
the result of the stage and what it needed on the way.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.collisions import synthetic_vectors
from benchmarks.timing import machine
from cost_hf.data.text_vectors import encode_cached
from cost_hf.evaluation.ranking import RankedLists
from cost_hf.evaluation.results import build_results
from cost_hf.files import content_digest, read_json, write_json
from cost_hf.methods.counting.counting import build_baseline
from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_list import ItemList

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "growth" / "items.json"
DIM = 32
LEVELS = (256, 256, 256)
SAMPLE = 50_000  # items that codebooks are fitted to
SHARD = 1_000_000  # rows that are encoded at once
ADDED = 10_000
MASKED = 100_000
CASES = 256  # that are ranked at once
HISTORY = 20
USERS = 200_000  # of the clicks that scorers count
VERSIONS = 20  # of a catalog, to which one item each is added
TEXT_DIM = 384
LARGE = 5_000_000  # beyond, only what works without a table of all vectors
CUTOFFS = (5, 10, 20)
DRAWS = 200  # of the bootstrap: a tenth of the usual ones
ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_")  # settings that would hide what a stage takes


def main() -> None:
    """Measure every stage in a process of its own, forked from one that has imported everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=float, nargs="+", default=[1e4, 1e5, 1e6, 1e7], help="sizes of catalogs")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES), help="what is measured")
    parser.add_argument(
        "--as", dest="label", default="after", choices=("before", "after"), help="column of the figures"
    )
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--folder", type=Path, help="of inputs, which are kept for the next call")
    parser.add_argument("--publish", action="store_true", help="also write results/growth/items.json")
    known = parser.parse_args()
    start_again_with(known.package)
    with tempfile.TemporaryDirectory() as temporary:
        for items in (int(size) for size in known.items):
            inputs = Inputs(items, known.folder or Path(temporary))
            wanted = [stage for stage in known.stages if items <= STAGES[stage].most]
            in_own_process(inputs.prepare)
            for stage in wanted:
                row = {"stage": stage, "items": items, **in_own_process(partial(measure, stage, inputs))}
                print(json.dumps({"as": known.label, **row}), flush=True)
                if known.publish:
                    publish(known.label, row)


def start_again_with(package: Path) -> None:
    """Replace this process by one that imports the package of a checkout and frees memory at once."""
    paths = [str(package.resolve()), str(ROOT)]
    if os.environ.get("PYTHONPATH", "").split(os.pathsep)[:2] == paths:
        return
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ALLOCATOR)}
    os.execve(sys.executable, [sys.executable, *sys.argv], kept | {"PYTHONPATH": os.pathsep.join(paths)})


def in_own_process(work: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Return what `work` returns in a forked process, or that it failed, as where memory is short."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(send, json.dumps(work()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        answer = file.read()
    failed = os.waitpid(child, 0)[1] != 0
    return {"failed": True} if failed else json.loads(answer) or {}


def measure(stage: str, inputs: "Inputs") -> dict[str, Any]:
    """Run a stage, and return its seconds and how far the resident size rose above that before it, MiB."""
    work = STAGES[stage](inputs)
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident size counts from here
    before = _status("VmRSS")
    start = time.process_time()
    facts = work() or {}
    seconds = time.process_time() - start
    return {"seconds": _rounded(seconds), "above_mb": _rounded(_status("VmHWM") - before), **facts}


def _status(name: str) -> float:
    """Return an entry of this process's status, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def publish(label: str, row: dict[str, Any]) -> None:
    """Write a row to `RESULTS` in place of that of the same stage and items."""

    record = read_json(RESULTS) if RESULTS.is_file() else {"before": [], "after": []}
    kept = [old for old in record[label] if (old["stage"], old["items"]) != (row["stage"], row["items"])]
    rows = [*kept, row | {"machine": machine()}]  # rows of a file come from several
    record[label] = sorted(rows, key=lambda own: (list(STAGES).index(own["stage"]), own["items"]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS, record)


class Inputs:
    """What stages read: parts of a made-up catalog from its folder, each when it is asked for.

    Args:
        items: N.
        folder: holds what `prepare` wrote, and what a stage leaves for the next.
    """

    def __init__(self, items: int, folder: Path):
        self.items = items
        self.folder = folder / str(items)

    def prepare(self) -> None:
        """Write vectors, quantizer and codes where they are missing."""
        if (self.folder / "codes.npy").is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        x = synthetic_vectors(self.items)
        np.save(self.folder / "vectors.npy", x)
        config = CostConfig(item_dim=DIM, level_sizes=LEVELS, latent_dim=DIM, hidden_sizes=None, input_norm="none")
        sample = np.random.default_rng(0).permutation(self.items)[:SAMPLE]
        model = fit_rkmeans(torch.from_numpy(x[sample]), config, seed=0)
        model.save_pretrained(self.folder / "quantizer")
        shards = range(0, self.items, SHARD)
        codes = [model.encode(torch.from_numpy(x[start : start + SHARD])).numpy() for start in shards]
        np.save(self.folder / "codes.npy", np.concatenate(codes).astype(np.int16))

    @property
    def ids(self) -> list[str]:
        """Ids of all items."""
        return [f"{number:08d}" for number in range(self.items)]

    @property
    def vectors(self) -> Any:
        """Item vectors, fp32 `[N, DIM]`, in memory."""

        return np.load(self.folder / "vectors.npy")

    @property
    def codes(self) -> Any:
        """Nearest codes, int16 `[N, L]`."""

        return np.load(self.folder / "codes.npy")

    @property
    def quantizer(self) -> Any:
        """The quantizer of the codes."""

        return CostModel.from_pretrained(self.folder / "quantizer")

    def catalog(self) -> Any:
        """Return the catalog with an appended level, from its files; they are written where they are missing."""

        if not (self.folder / "catalog.safetensors").is_file():
            made = Catalog.from_codes(self.ids, self.codes, level_sizes=LEVELS, append_size=self.append_size)
            made.save_items(self.folder, "catalog")
        return Catalog.load_items(self.folder, "catalog")

    @property
    def append_size(self) -> int:
        """Codes of the appended level: as many as the largest group has items, and room for more."""

        keys = np.zeros(self.items, dtype=np.int64)
        for level, codes in enumerate(self.codes.T):
            keys = keys * LEVELS[level] + codes
        return 2 * int(np.unique(keys, return_counts=True)[1].max())

    def histories(self) -> Any:
        """Return the histories of `CASES` cases, int64 `[CASES, HISTORY]`."""

        return torch.randint(self.items, (CASES, HISTORY), generator=torch.Generator().manual_seed(0))

    def sequences(self) -> list[Any]:
        """Return the clicks of `USERS` users, few of them on most items."""

        draw = np.random.default_rng(0)
        rows = (self.items * draw.random((USERS, 8)) ** 2).astype(np.int64)
        return list(rows)


Work = Callable[[], dict[str, Any] | None]


class Stage:
    """A stage and the largest catalog that it is measured on.

    Args:
        setup: reads the inputs and returns what is measured.
        most: items.
    """

    def __init__(self, setup: Callable[[Inputs], Work], most: int = LARGE):
        self.setup = setup
        self.most = most

    def __call__(self, inputs: Inputs) -> Work:
        """Return what is measured."""
        return self.setup(inputs)


def encode(inputs: Inputs) -> Work:
    """Encode vectors that lie on disk, shard by shard."""

    model = inputs.quantizer
    table = np.load(inputs.folder / "vectors.npy", mmap_mode="r")

    def work() -> None:
        codes = np.empty((inputs.items, len(LEVELS)), dtype=np.int16)
        for start in range(0, inputs.items, SHARD):
            shard = torch.from_numpy(np.array(table[start : start + SHARD]))
            codes[start : start + SHARD] = model.encode(shard).numpy()

    return work


def build(policy: str) -> Callable[[Inputs], Work]:
    """Return the stage that makes a catalog of stored codes without collisions."""

    def setup(inputs: Inputs) -> Work:

        ids, codes = inputs.ids, inputs.codes
        if policy == "append":
            size = inputs.append_size

            def work() -> None:
                Catalog.from_codes(ids, codes, level_sizes=LEVELS, append_size=size)
        else:
            vectors, model = inputs.vectors, inputs.quantizer

            def work() -> None:
                Catalog.from_embeddings(ids, vectors, model, codes=codes, collisions=policy)

        return work

    return setup


def save(inputs: Inputs) -> Work:
    """Write the two files of a catalog, its digest included."""
    catalog = inputs.catalog()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            catalog.save_items(folder, "catalog")

    return work


def load(inputs: Inputs) -> Work:
    """Read them."""

    inputs.catalog()
    return lambda: {"rows": len(Catalog.load_items(inputs.folder, "catalog"))}


def digest(inputs: Inputs) -> Work:
    """Compute the digest by which parts are recognised."""
    catalog = inputs.catalog()
    return lambda: {"digest": catalog.digest[:12]}


def to_parquet(inputs: Inputs) -> Work:
    """Write the table that is published."""
    catalog = inputs.catalog()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            catalog.to_parquet(Path(folder) / "items.parquet")

    return work


def add(inputs: Inputs) -> Work:
    """Add `ADDED` items."""

    catalog = inputs.catalog()
    ids = [f"new{number:07d}" for number in range(ADDED)]
    codes = np.random.default_rng(1).integers(0, LEVELS[0], (ADDED, len(LEVELS)))
    _ = catalog.row_of(catalog.item_ids[0])  # the first look-up numbers the ids
    return lambda: {"rows": len(catalog.with_items(ids, codes=codes))}


def mask(inputs: Inputs) -> Work:
    """Deny `MASKED` items, by their ids."""

    catalog = inputs.catalog()
    denied = list(catalog.item_ids[:: max(1, inputs.items // MASKED)])
    _ = catalog.row_of(denied[0])
    return lambda: {"rows": CatalogMask.from_item_ids(catalog, denied=denied).num_items}


def rank(name: str) -> Callable[[Inputs], Work]:
    """Return the stage that ranks a catalog for `CASES` cases by counts, texts or an untrained model."""

    def setup(inputs: Inputs) -> Work:

        if name == "sasrec":
            torch.manual_seed(0)
            scorer: Any = DenseScorer(SasRecModel(SasRecConfig(num_items=inputs.items)).eval())
        else:
            vectors = inputs.vectors if "text" in name else None
            scorer = build_baseline(name, inputs.sequences(), inputs.items, vectors=vectors)
        counts = np.bincount(np.concatenate(inputs.sequences()), minlength=inputs.items)
        ranker = ScoringRanker(scorer, popularity=counts, item_ids=inputs.ids)
        histories = inputs.histories()

        def work() -> dict[str, Any]:

            ranking = ranker.rank(histories, top_k=50)
            return {"lists": content_digest(ranking.items.numpy(), ranking.scores.numpy())[:12]}

        return work

    return setup


def versions(inputs: Inputs) -> Work:
    """Add one item after the other to a list with the vectors of its texts, and keep every version."""

    vectors = np.random.default_rng(0).normal(size=(inputs.items, TEXT_DIM)).astype(np.float32)
    items = ItemList(tuple(inputs.ids), np.zeros(inputs.items, dtype=bool), None, vectors)
    own = vectors[:1].copy()

    def work() -> dict[str, Any]:
        held = [items]
        for number in range(VERSIONS):
            held.append(held[-1].with_items([f"new{number}"], vectors=own))
        return {"versions": len(held)}

    return work


def texts(inputs: Inputs) -> Work:
    """Encode texts by an encoder that costs nothing, with a cache that is empty at first."""

    class Encoder:
        digest = "growth"

        def encode(self, texts: list[str]) -> Any:
            return np.ones((len(texts), TEXT_DIM), dtype=np.float32)

    lines = [f"{item} is an item with a title of some words" for item in inputs.ids]

    def work() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode_cached(lines, Encoder(), cache)

    return work


def evaluation(inputs: Inputs) -> Work:
    """Make intervals over as many test users as a catalog of this size has items: four systems, seen items or not."""

    users = inputs.items
    draw = np.random.default_rng(0)
    lists = np.zeros((users, CUTOFFS[-1]), dtype=np.int32)

    def ranks() -> Any:
        found = draw.integers(1, 200, users).astype(np.float64)
        return np.where(found <= CUTOFFS[-1], found, np.nan)

    names = ("recommender", "popularity", "markov", "text_last")
    ranked = {
        (name, seen): RankedLists(ranks(), ranks(), lists)
        for name in names
        for seen in ("seen_allowed", "seen_excluded")
    }
    user_ids = np.array([f"u{number}" for number in range(users)], dtype=object)

    def work() -> dict[str, Any]:

        found = build_results(ranked, user_ids=user_ids, num_items=inputs.items, cutoffs=CUTOFFS, draws=DRAWS)
        return {"results": content_digest(found)[:12]}

    return work


MILLION = 1_000_000
STAGES: dict[str, Stage] = {
    "encode": Stage(encode, 10 * MILLION),
    "append": Stage(build("append"), 10 * MILLION),
    "reassign": Stage(build("reassign")),
    "min_cost": Stage(build("min_cost"), MILLION // 10),
    "sinkhorn": Stage(build("sinkhorn"), MILLION // 10),
    "save": Stage(save, 10 * MILLION),
    "load": Stage(load, 10 * MILLION),
    "digest": Stage(digest, 10 * MILLION),
    "to_parquet": Stage(to_parquet, 10 * MILLION),
    "add": Stage(add, 10 * MILLION),
    "mask": Stage(mask, 10 * MILLION),
    "rank_popularity": Stage(rank("popularity")),
    "rank_item_knn": Stage(rank("item_knn")),
    "rank_markov": Stage(rank("markov")),
    "rank_text_last": Stage(rank("text_last")),
    "rank_markov_text": Stage(rank("markov_text")),
    "rank_sasrec": Stage(rank("sasrec")),
    "versions": Stage(versions, 100_000),
    "texts": Stage(texts),
    "evaluation": Stage(evaluation),
}

if __name__ == "__main__":
    main()
