"""Why the T5 generator trails the causal one, and what helps: variants of its training on the same codes and split.

    python benchmarks/t5_study.py --prepared FOLDER --data DIR/amazon_industrial --vectors ID_OR_DIR   # once, on a CPU
    python benchmarks/t5_study.py --prepared FOLDER --seeds 0,1,2 --jobs 16 --out FILE

The first command writes codes and split (numbers of rows, no ids or texts) to FOLDER; the second trains every variant
from there in a process of its own. All of them make the same number of updates (`--steps`) unless `--minutes` end
first; either way the learning rate falls linearly to zero at the end. The weights with the best validation NDCG@10 are
judged on the test part with 50 beams. Nothing is chosen on the test part.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from t5_data import Study, prepare
from t5_variants import VARIANTS, AgePrompts, Variant
from timing import clock, machine, table
from transformers import TrainerCallback

from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.evaluation.statistics import bootstrap_interval
from cost_hf.recommender.backbones import GeneratorOptions, build_backbone
from cost_hf.recommender.beam_ranker import BeamRanker
from cost_hf.recommender.generator_training import TrainingOptions, train_generator
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.semantic_ids.trie import SidTrie

VALIDATIONS, BEAMS, WARMUP = 12, 50, 100
REFERENCE = "recipe"


def main() -> None:
    """Prepare, train one variant, or run them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the codes and the split")
    parser.add_argument("--data", help="data folder: prepare and stop")
    parser.add_argument("--vectors", help="text model, id or folder; for --data")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=1500, help="updates of a variant")
    parser.add_argument("--minutes", type=float, default=4.0, help="wall limit of a variant's training")
    parser.add_argument(
        "--total-minutes", type=float, default=1e6, help="no variant starts that would end later; what runs is ended"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--max-users", type=int, help="sample of validation and test cases; all by default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed/t5_study.json"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data:
        prepare(arguments.prepared, data=arguments.data, vectors=arguments.vectors)
    elif arguments.worker:
        work(arguments)
    else:
        run_all(arguments)


class Budget(TrainerCallback):
    """Learning rate from warm-up linearly to zero at the last step or the last second, whichever comes first."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, *, optimizer: Any, **_: Any) -> None:
        """Set the learning rate of the coming step."""
        share = min((state.global_step + 1) / WARMUP, 1.0) * max(1.0 - self._progress(state), 0.0)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the training, with a last validation, when the budget is used."""
        if self._progress(state) >= 1.0:
            control.should_training_stop = control.should_evaluate = control.should_save = True

    def _progress(self, state: Any) -> float:
        return max(state.global_step / state.max_steps, (time.perf_counter() - self.start) / self.seconds)


def training_options(variant: Variant, study: Study, steps: int) -> TrainingOptions:
    """Return the options of a variant that makes so many updates with a dozen validations."""
    options = TrainingOptions(**variant.training, scheduler="constant", patience=None, precision="fp32")
    skipped = variant.generator["kind"] == "seq2seq" and not options.first_items
    examples = len(study.train) if variant.generator["kind"] == "causal" else sum(map(len, study.train))
    per_pass = math.ceil((examples - skipped * len(study.train)) / options.batch_size)
    users_pass = math.ceil(len(study.train) / options.batch_size)
    options.epochs = math.ceil(steps / (users_pass if options.prefixes == "one" else per_pass))
    options.validate_every = max(round(steps / VALIDATIONS / per_pass), 1)
    return options


def work(arguments: argparse.Namespace) -> None:
    """Train and judge one variant; write its row and its test ranks."""
    name, seed = arguments.worker.rsplit(":", 1)
    variant, study, on_gpu = VARIANTS[name], Study(arguments.prepared), torch.cuda.is_available()
    PartialState(cpu=not on_gpu)
    set_seed(int(seed))
    generator = GeneratorOptions(**variant.generator)
    options = training_options(variant, study, variant.steps or arguments.steps)
    backbone = build_backbone(generator, study.catalog, seed=int(seed))
    prompt_class = AgePrompts if variant.has_ages else PromptBuilder
    prompts = prompt_class.for_catalog(
        study.catalog, backbone.vocabulary, is_causal=generator.kind == "causal", max_history=generator.max_history
    )
    trie = SidTrie.from_catalog(study.catalog, popularity=study.popularity)
    curve: list[dict[str, float]] = []
    used = {"validation": 0.0}
    start = clock()

    def values(model: Any, part: str, beams: int, batch_size: int) -> dict[str, np.ndarray]:
        ranker = BeamRanker(model, prompts, trie, num_beams=beams)
        cases = study.targets(part, arguments.max_users)
        settings: dict[str, Any] = {"sid_keys": None, "num_items": len(study.catalog), "exclude_seen": False}
        ranked = evaluate_ranker(ranker, cases, top_k=beams, batch_size=batch_size, progress=False, **settings)
        return per_user_metrics(ranked.item_rank, cutoffs=[10])

    def validate(model: Any) -> dict[str, float]:
        begin = clock()
        metrics = {key: float(column.mean()) for key, column in values(model, "validation", 10, 512).items()}
        curve.append({"seconds": round(begin - start - used["validation"], 1), "ndcg@10": metrics["ndcg@10"]})
        used["validation"] += clock() - begin
        return metrics

    with tempfile.TemporaryDirectory() as folder:
        users = [str(number) for number in range(len(study.train))]
        common: dict[str, Any] = {"generator": generator, "training": options, "validate": validate}
        budget = Budget(60 * arguments.minutes)
        trained = train_generator(
            backbone, prompts, study.train, users, **common, output_dir=folder, seed=int(seed), callbacks=[budget]
        )
    seconds = clock() - start - used["validation"]
    steps = {entry["step"]: entry["epoch"] for entry in trained.history if "eval_ndcg@10" in entry}
    curve = [
        {"step": step, "epoch": round(epoch, 2), **at} for (step, epoch), at in zip(steps.items(), curve, strict=True)
    ]
    parameters = round(trained.model.num_parameters() / 1e6, 2)
    best = max(point["ndcg@10"] for point in curve)
    row = {"variant": name, "seed": int(seed), "millions": parameters, "steps": curve[-1]["step"]}
    row |= {"epochs": curve[-1]["epoch"], "seconds": round(seconds, 1), "validation ndcg@10": best, "curve": curve}
    arguments.out.write_text(json.dumps(row))
    test = values(trained.model, "test", BEAMS, 256 if on_gpu else 64)
    np.savez(arguments.out.with_suffix(".npz"), **test)


def run_all(arguments: argparse.Namespace) -> None:
    """Train all variants in processes, add intervals and paired differences, write one JSON and print its table."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    jobs = [f"{name}:{seed}" for seed in arguments.seeds.split(",") for name in arguments.variants.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        begun = run_jobs(arguments, jobs, Path(folder))
        rows = finished_rows(begun, Path(folder), Study(arguments.prepared), arguments.max_users)
    settings = {"steps": arguments.steps, "minutes": arguments.minutes, "jobs": arguments.jobs}
    record = {"machine": machine(), **settings, "hypotheses": {name: VARIANTS[name].why for name in VARIANTS}}
    arguments.out.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")
    print(table([{key: value for key, value in row.items() if key != "curve"} for row in rows]))


def run_jobs(arguments: argparse.Namespace, jobs: list[str], folder: Path) -> list[str]:
    """Run jobs in order, so many at once, and return those that began; the total time ends what still runs then."""
    waiting, running, begun, longest = list(jobs), dict[str, subprocess.Popen[bytes]](), dict[str, float](), 0.0
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
            running[job], begun[job] = start_worker(arguments, job, out_file(folder, job)), now
        time.sleep(0.5)
    return list(begun)


def out_file(folder: Path, job: str) -> Path:
    """Return where the worker of a job writes its row."""
    return folder / f"{job.replace(':', '-')}.json"


def start_worker(arguments: argparse.Namespace, job: str, out: Path) -> subprocess.Popen[bytes]:
    """Start this script for one variant and seed; its output goes to the log beside `out`."""
    command = [sys.executable, __file__, "--prepared", str(arguments.prepared), "--worker", job, "--out", str(out)]
    for name in ("steps", "minutes", "max_users"):
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    with out.with_suffix(".log").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def finished_rows(order: list[str], folder: Path, study: Study, max_users: int | None) -> list[dict[str, Any]]:
    """Return the rows of all jobs in order, with test metrics and differences to the reference of the same seed."""
    rows, users = [], study.targets("test", max_users).user_ids
    for job in order:
        out = out_file(folder, job)
        if not out.is_file():
            rows.append({"variant": job, "error": out.with_suffix(".log").read_text()[-1500:]})
            continue
        row = json.loads(out.read_text())
        row |= test_metrics(out, folder / f"{REFERENCE}-{row['seed']}.npz", users)
        row["curve"] = row.pop("curve")  # last, it is long
        rows.append(row)
    return rows


def test_metrics(out: Path, reference: Path, users: np.ndarray) -> dict[str, str]:
    """Return test metrics and the paired difference to the reference of the same seed, as far as there are ranks."""
    if not out.with_suffix(".npz").is_file():
        return {}
    own = np.load(out.with_suffix(".npz"))
    metrics = {f"test {metric}": described(own[metric], users) for metric in ("recall@10", "ndcg@10")}
    if reference.is_file() and reference.stem != out.stem:
        metrics[f"ndcg@10 less {REFERENCE}"] = described(own["ndcg@10"] - np.load(reference)["ndcg@10"], users)
    return metrics


def described(values: np.ndarray, users: np.ndarray) -> str:
    """Return a mean with its 95 % interval over users."""
    interval = bootstrap_interval(values, clusters=users, draws=1000)
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main()
