"""Why the T5 generator trails the causal one, and what helps: variants of its training on the same codes and split.

    python benchmarks/t5_study.py --prepared FOLDER --data DIR/amazon_industrial --vectors ID_OR_DIR   # once, on a CPU
    python benchmarks/t5_study.py --prepared FOLDER --seeds 0,1,2 --jobs 16 --work WORK --out FILE
    python benchmarks/t5_table.py FILE … --name t5_study

The first command writes codes and split (numbers of rows, no ids or texts) to FOLDER; the second trains every variant
from there in a process of its own. All make the same number of updates (`--steps`) unless `--minutes` end first; either
way the learning rate falls linearly to zero at the end. Minutes are of training alone, without its validations, and CPU
time where there is one thread and no GPU. The weights with the best validation NDCG@10 are judged on the test part with
50 beams. Nothing is chosen on the test part. A job that finished in WORK is not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from t5_data import Study, prepare
from t5_training import work
from t5_variants import CPU_VARIANTS, VARIANTS
from timing import machine, table

from cost_hf.evaluation.statistics import bootstrap_interval

PASSED_ON = ("steps", "minutes", "validations", "validation_users", "test_users")


def main() -> None:
    """Prepare, train one variant, or run them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the codes and the split")
    parser.add_argument("--data", help="data folder: prepare and stop")
    parser.add_argument("--vectors", help="text model, id or folder; for --data")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"also {', '.join(CPU_VARIANTS)}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--reference", default="recipe", help="variant that differences are taken to")
    parser.add_argument("--steps", type=int, default=1500, help="updates of a variant")
    parser.add_argument("--minutes", type=float, default=4.0, help="limit of a variant's training")
    parser.add_argument(
        "--total-minutes", type=float, default=1e6, help="no variant starts that would end later; what runs is ended"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--validations", type=int, default=12, help="validations of a variant, about")
    parser.add_argument("--validation-users", type=int, help="sample of validation cases; all by default")
    parser.add_argument("--test-users", type=int, help="sample of test cases; all by default")
    parser.add_argument("--work", type=Path, help="folder of the jobs' results; a new one by default")
    parser.add_argument("--out", type=Path, default=Path("t5_study.json"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data:
        prepare(arguments.prepared, data=arguments.data, vectors=arguments.vectors)
    elif arguments.worker:
        work(arguments)
    else:
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Train all variants in processes, add intervals and paired differences, write one JSON and print its table."""
    jobs = [f"{name}:{seed}" for seed in arguments.seeds.split(",") for name in arguments.variants.split(",")]
    folder = arguments.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    begun = run_jobs(arguments, [job for job in jobs if not out_file(folder, job).is_file()], folder)
    wanted = [job for job in jobs if job in begun or out_file(folder, job).is_file()]
    rows = finished_rows(arguments, wanted, folder)
    settings = {name: getattr(arguments, name) for name in (*PASSED_ON, "jobs", "reference")}
    arguments.out.write_text(json.dumps({"machine": machine(), **settings, "rows": rows}, indent=1) + "\n")
    print(table([{key: value for key, value in row.items() if key != "curve"} for row in rows]))


def run_jobs(arguments: argparse.Namespace, jobs: list[str], folder: Path) -> list[str]:
    """Run jobs in order, so many at once, and return those that began; the total time ends what still runs then."""
    waiting = list(jobs)
    running = dict[str, subprocess.Popen[bytes]]()
    begun = dict[str, float]()
    longest = 0.0
    start = time.perf_counter()
    while waiting or running:
        now = time.perf_counter()
        for job in [job for job, process in running.items() if process.poll() is not None]:
            longest = max(longest, now - begun[job])
            print(f"{job} ended with {running.pop(job).returncode} after {now - begun[job]:.0f} s", flush=True)
        if now - start + longest > 60 * arguments.total_minutes:
            waiting.clear()
        if now - start > 60 * arguments.total_minutes:
            for process in running.values():
                process.kill()
        while waiting and len(running) < arguments.jobs:
            job = waiting.pop(0)
            running[job] = start_worker(arguments, job, out_file(folder, job))
            begun[job] = now
        time.sleep(0.5)
    return list(begun)


def out_file(folder: Path, job: str) -> Path:
    """Return where the worker of a job writes its row, once all is done."""
    return folder / f"{job.replace(':', '-')}.json"


def start_worker(arguments: argparse.Namespace, job: str, out: Path) -> subprocess.Popen[bytes]:
    """Start this script for one variant and seed; its output goes to the log beside `out`."""
    command = [sys.executable, __file__, "--prepared", str(arguments.prepared), "--worker", job, "--out", str(out)]
    for name in PASSED_ON:
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    with out.with_suffix(".log").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def finished_rows(arguments: argparse.Namespace, jobs: list[str], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all jobs in order, with test metrics and differences to the reference of the same seed."""
    rows = []
    users = Study(arguments.prepared).targets("test", arguments.test_users).user_ids
    for job in jobs:
        out = out_file(folder, job)
        if not out.is_file():
            rows.append({"variant": job, "error": out.with_suffix(".log").read_text()[-1500:]})
            continue
        row = json.loads(out.read_text())
        own = np.load(out.with_suffix(".npz"))
        reference = folder / f"{arguments.reference}-{row['seed']}.npz"
        curve = row.pop("curve")
        row |= {f"test {metric}": described(own[metric], users) for metric in ("recall@10", "ndcg@10")}
        if reference.is_file() and reference.stem != out.stem:
            difference = own["ndcg@10"] - np.load(reference)["ndcg@10"]
            row[f"ndcg@10 less {arguments.reference}"] = described(difference, users)
        rows.append({**row, "curve": curve})  # last, it is long
    return rows


def described(values: np.ndarray, users: np.ndarray) -> str:
    """Return a mean with its 95 % interval over users."""
    interval = bootstrap_interval(values, clusters=users, draws=1000)
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main()
