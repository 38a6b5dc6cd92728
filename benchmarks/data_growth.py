"""How reading, checking, splitting and counting grow with the click log: seconds and peak memory of each stage.

    python benchmarks/data_growth.py [--clicks 1e5,1e6,1e7] [--label after] [--publish]

A made-up log, ten clicks a user and a hundred an item, in the order of time as an export has it; one user has a tenth
of the clicks, at most 20,000, as bots and shared accounts do. Each size runs in a process that prepares data as `train`
does and counts the baselines, stage by stage, and in one that runs `check`; two more read the same log from text files.
Seconds are CPU time of all threads. Memory is the largest resident size during a stage, with what earlier stages keep;
`start` is that of the imports.

Rows of another label stay in the results file: `--label before` with PYTHONPATH on the code of an earlier version
measures what has changed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv, parquet

from cost_hf.files import read_json

RESULTS = Path(__file__).parent / "results" / "growth" / "data.json"
CLICKS_A_USER = 10
CLICKS_AN_ITEM = 100
HEAVY = 20_000  # clicks of one user
SECONDS_A_YEAR = 365 * 24 * 3600
WORDS = 5_000
COUNTED = ("popularity", "item_knn", "markov")
TEXT_FORMATS = ("csv", "jsonl")
MIB = 1024


def write_log(folder: Path, num_clicks: int, *, formats: Collection[str] = TEXT_FORMATS, seed: int = 0) -> None:
    """Write `items.parquet` and `interactions.parquet` of a made-up shop, and the log in text formats beside them."""
    draw = np.random.default_rng(seed)
    num_users = num_clicks // CLICKS_A_USER
    num_items = num_clicks // CLICKS_AN_ITEM
    heavy = min(HEAVY, num_clicks // 10)
    users = np.append(np.zeros(heavy, np.int64), draw.integers(0, num_users, num_clicks - heavy))
    # half of the clicks are on a quarter of the items
    popular = (num_items * draw.random(num_clicks) ** 2).astype(np.int64)
    times = np.sort(draw.integers(0, SECONDS_A_YEAR, num_clicks)) + 1_700_000_000
    order = draw.permutation(num_clicks)
    log = pa.table({"user_id": _ids("user", users[order]), "item_id": _ids("item", popular), "timestamp": times})
    parquet.write_table(log, folder / "interactions.parquet")
    if "csv" in formats:
        csv.write_csv(log, folder / "interactions.csv")
    if "jsonl" in formats:
        _write_jsonl(log, folder / "interactions.jsonl")
    words = (WORDS * draw.random((num_items, 6)) ** 2).astype(np.int64)
    items = {
        "item_id": _ids("item", np.arange(num_items)),
        "title": [" ".join(_word(word) for word in line) for line in words.tolist()],
        "brand": _ids("brand ", draw.integers(0, 500, num_items)),
    }
    parquet.write_table(pa.table(items), folder / "items.parquet")


def _write_jsonl(log: pa.Table, path: Path) -> None:
    users, items, times = (log[name].to_pandas().astype(str) for name in ("user_id", "item_id", "timestamp"))
    lines = '{"user_id":"' + users + '","item_id":"' + items + '","timestamp":' + times + "}"
    path.write_text("\n".join(lines) + "\n")


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    digits = compute.utf8_lpad(pa.array(numbers).cast(pa.string()), 7, "0")
    return compute.binary_join_element_wise(prefix, digits, "")


def _word(number: int) -> str:
    """Return a made-up word of three syllables."""
    letters = []
    for _ in range(3):
        number, consonant = divmod(number * 7 + 3, 20)
        letters += ["bcdfghjklmnpqrstvwxz"[consonant], "aeiou"[number % 5]]
    return "".join(letters)


class Stages:
    """Seconds and peak memory of stages in this process, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a stage and note what it took."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.process_time()
        result = work()
        seconds = time.process_time() - start
        self.rows[name] = {"seconds": round(seconds, 3), "peak_mb": round(_peak_mb(), 1)}
        return result


def _peak_mb() -> float:
    """Return the largest resident size since it was last reset, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / MIB


def prepare(folder: Path) -> dict[str, dict[str, float]]:
    """Read, digest, split and save a log and count the baselines in it."""
    stages = Stages()
    stages.run("start", _imports)
    from cost_hf.data.options import DataOptions
    from cost_hf.data.splits import Split, split_interactions
    from cost_hf.data.tables import read_tables
    from cost_hf.methods.counting.counting import fit_tables

    options = DataOptions(path=str(folder), interactions="interactions.parquet")
    tables = stages.run("read", lambda: read_tables(options))
    stages.run("digest", lambda: tables.digest)
    split = stages.run("split", lambda: split_interactions(tables, options))
    with tempfile.TemporaryDirectory() as saved:
        stages.run("save split", lambda: split.save(saved))
        stages.run("load split", lambda: Split.load(saved))
    for name in COUNTED:
        stages.run(f"count {name}", lambda name=name: fit_tables(name, split.train, tables.num_items))
    return stages.rows


def read_text(folder: Path, kind: str) -> dict[str, dict[str, float]]:
    """Read the log from a text file."""
    _imports()
    from cost_hf.data.options import DataOptions
    from cost_hf.data.tables import read_tables

    stages = Stages()
    options = DataOptions(path=str(folder), interactions=f"interactions.{kind}")
    stages.run(f"read {kind}", lambda: read_tables(options))
    return stages.rows


def check(folder: Path) -> dict[str, dict[str, float]]:
    """Run `cost-hf check`."""
    _imports()
    import cost_hf

    stages = Stages()
    overrides = {"data.interactions": "interactions.parquet"}
    stages.run("check", lambda: cost_hf.check(folder, overrides=overrides))
    return stages.rows


def _imports() -> None:
    """Import what a command imports, which is no part of any stage."""
    import cost_hf.experiments.check.check
    import cost_hf.methods.counting  # noqa: F401


JOBS: dict[str, Callable[[Path], dict[str, dict[str, float]]]] = {
    "prepare": prepare,
    "check": check,
    **{kind: lambda folder, kind=kind: read_text(folder, kind) for kind in TEXT_FORMATS},
}


def measure(num_clicks: int, jobs: list[str]) -> dict[str, dict[str, float]]:
    """Return seconds and peak memory of every stage at one size; each job is a process of its own."""
    # settings of the allocator keep freed memory: the peak would be that of the settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_log(Path(folder), num_clicks, formats=jobs)
        for job in jobs:
            command = [sys.executable, __file__, "--job", job, "--folder", folder]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            rows |= json.loads(done.stdout.splitlines()[-1])
    return rows


def main() -> None:
    """Measure, print and, where asked to, write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", default="1e5,1e6,1e7", help="sizes of the log")
    parser.add_argument("--label", default="after", help="what the rows are of: before, after")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which processes to run")
    parser.add_argument("--publish", action="store_true", help="write results/growth/data.json, over equal sizes")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(JOBS[options.job](options.folder)))
        return
    record = read_json(RESULTS) if RESULTS.is_file() else {"rows": {}}
    for size in options.clicks.split(","):
        num_clicks = int(float(size))
        rows = measure(num_clicks, options.jobs.split(","))
        for stage, row in rows.items():
            print(f"{num_clicks:>12,} {stage:<20} {row['seconds']:>9.2f} s {row['peak_mb']:>9.0f} MiB", flush=True)
        own = record["rows"].setdefault(options.label, {})
        own[str(num_clicks)] = own.get(str(num_clicks), {}) | rows
        if options.publish:
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
