"""How many rows a second `cost-hf recommend` writes from Parquet files: in this process, and on workers of Ray.

    python train.py --recipe cost_quickstart --output_dir RUN
    OMP_NUM_THREADS=1 python benchmarks/bulk.py --run RUN [--rows 20000] [--publish]

Made-up histories of the run's items, the same for all engines, which take turns; medians of the rounds, by the wall
clock. `first file s`: Ray comes up, the model is loaded and the first row group written. Rows a second are those of the
other row groups until the last one is written, and `ratio` is that to the local engine of the same rounds. With more
than one thread the local engine would compute by other kernels than the workers, so that is refused; an engine that
writes other bytes than the local one ends the benchmark.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from timing import RESULTS, machine, table

from cost_hf.bulk.job import FILES, RECORD, run_bulk
from cost_hf.bulk.tasks import RecommendTask
from cost_hf.files import file_digests, write_json
from cost_hf.recommenders.base import Recommender

LOCAL = "local"
ENGINES: dict[str, dict[str, Any]] = {
    LOCAL: {"engine": "local"},
    "Ray, 1 worker": {"engine": "ray", "workers": 1},
    "Ray, 2 workers": {"engine": "ray", "workers": 2},
}
HISTORY = 10
TOP_K = 10


def write_histories(path: Path, item_ids: list[str], *, rows: int, row_group: int) -> None:
    """Write histories of random items as a Parquet file."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, HISTORY + 1, rows)
    histories = [[item_ids[row] for row in draw.integers(0, len(item_ids), length)] for length in lengths]
    pq.write_table(pa.table({"user_id": np.arange(rows), "history": histories}), path, row_group_size=row_group)


def measure(task: RecommendTask, inputs: Path, output: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return seconds to the first file of a job, rows a second from there to the last one, and digests of the files."""
    start = time.time()
    run_bulk(task, str(inputs), output, **options)
    files = sorted(output.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    first, last = (path.stat().st_mtime_ns / 1e9 for path in (files[0], files[-1]))
    rows = sum(pq.read_metadata(path).num_rows for path in files[1:])
    digests = file_digests(output, excluded=[RECORD, FILES])
    return {"start": first - start, "rate": rows / (last - first), "files": digests}


def rounds_of(task: RecommendTask, known: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what `measure` found for every engine and round; stop where files differ."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES}
    for number in range(known.rounds):
        for name, engine in ENGINES.items():
            options = engine | {"batch_size": known.batch_size}
            found[name].append(measure(task, folder / "in.parquet", folder / f"{name}-{number}", options))
            if found[name][-1]["files"] != found[LOCAL][0]["files"]:
                raise SystemExit(f"{name} has written other bytes than {LOCAL}")
    return found


def main() -> None:
    """Measure every engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run or recommender directory")
    parser.add_argument("--rows", type=int, default=20_000, help="histories")
    parser.add_argument("--row-group", type=int, default=1_000, help="rows of a row group, which one worker computes")
    parser.add_argument("--batch-size", type=int, default=256, help="rows that the model gets at once")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all engines")
    parser.add_argument("--publish", action="store_true", help="also write results/speed/bulk.json")
    known = parser.parse_args()
    if known.rows <= known.row_group:
        raise SystemExit(f"expected several row groups, got {known.rows} rows in groups of {known.row_group}")
    if torch.get_num_threads() != 1:
        raise SystemExit(f"expected one thread, got {torch.get_num_threads()}; set OMP_NUM_THREADS=1")
    source = str(Path(known.run).resolve())
    recommender = Recommender.from_pretrained(source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        items = list(recommender.catalog.item_ids)
        write_histories(folder / "in.parquet", items, rows=known.rows, row_group=known.row_group)
        found = rounds_of(RecommendTask(source, top_k=TOP_K), known, folder)
    rates = {name: statistics.median(job["rate"] for job in jobs) for name, jobs in found.items()}
    rows = [
        {
            "engine": name,
            "first file s": round(statistics.median(job["start"] for job in found[name]), 2),
            "rows a second": round(rate, 1),
            "ratio": round(rate / rates[LOCAL], 2),
        }
        for name, rate in rates.items()
    ]
    print(table(rows))
    if known.publish:
        record = {
            "machine": machine() | {"clock": "wall", "cores": os.cpu_count()},
            "kind": recommender.kind,
            "items": len(recommender.catalog),
            "histories": known.rows,
            "row_group": known.row_group,
            "batch_size": known.batch_size,
            "rounds": known.rounds,
            "rows": rows,
        }
        write_json(RESULTS / "bulk.json", record)


if __name__ == "__main__":
    main()
