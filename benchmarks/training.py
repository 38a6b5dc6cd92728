"""Training speed: packing, what `Trainer` costs, and all positions at once against every prefix.

    OMP_NUM_THREADS=1 python benchmarks/training.py --data DIR

DIR holds `amazon_industrial` and `amazon_games`; `--device cuda` measures the sizes for GPUs, as `training_cuda`.
Histories are real, codes are made up and weights untrained: speed only. The batches of a round stand for an epoch:
their padded cells, tokens and targets are its mean within 2 %. Rates count real tokens, targets (all items that the
loss is on), and targets with a history before them, since T5 over prefixes has no others. T5 makes steps of two sizes:
as many prefixes as the causal generator's step has users, and all prefixes of as many users, which makes the targets
with a history equal. Both drop by random bytes; only T5 also drops attention weights, which is part of it. `ratio` and
`ratio_with_history` are of the two rates against the row named in `against`, measured in the same rounds; for trainers,
`ratio` is of the time. Peak memory, on a GPU alone, is that of the tensors.
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timing import interleaved, new_parser, save
from training_loops import bare_seconds, trainer_seconds
from training_parts import Histories, Setup, TrainingRun

from cost_hf.generators.collation import CausalCollator

PAIRS = (("0.6 M, 2+2 layers", "small"), ("0.6 M, 4+4 layers", "small"), ("letter", "medium"))  # T5, causal


def main() -> None:
    """Measure everything and print it as one table."""
    arguments = _arguments()
    device = arguments.device
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Trainer and the clock would take a GPU that is there
    names = arguments.names.split(",")
    sizes = ["small"] if device == "cpu" else ["small", "medium", "large"]
    rows: list[dict[str, Any]] = []
    for name in names:
        data = Histories.read(arguments.data, name, batch_size=arguments.batch_size)
        for size in sizes:
            rows += packing_rows(data, size, arguments)
        rows += every_prefix_rows(data, arguments, PAIRS if name == names[0] else PAIRS[:2])
    rows += trainer_rows(Histories.read(arguments.data, names[0], batch_size=None), arguments)
    settings = {"steps": arguments.steps, "rounds": arguments.rounds}
    save("training" if device == "cpu" else "training_cuda", rows, publish=arguments.publish, **settings)


def packing_rows(data: Histories, size: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare batches of the causal generator: padded in random order, padded in groups of a length, packed."""
    common = {"steps": arguments.steps, "device": arguments.device}

    def run(*, pads: bool, is_grouped: bool, is_bf16: bool = False) -> TrainingRun:
        setup = Setup(data, "causal", size)
        collate = CausalCollator(setup.prompts.vocabulary.pad_id, packs=False) if pads else setup.collate
        return TrainingRun(setup, collate=collate, is_grouped=is_grouped, is_bf16=is_bf16, **common)

    runs = {
        "padded, random order": run(pads=True, is_grouped=False),
        "padded, grouped by length": run(pads=True, is_grouped=True),
        "packed": run(pads=False, is_grouped=False),
        "packed, bf16 autocast": run(pads=False, is_grouped=False, is_bf16=True),
    }
    return _rows(f"batches of causal {size}", data, runs, arguments.rounds)


def every_prefix_rows(
    data: Histories, arguments: argparse.Namespace, pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Compare T5 over every prefix with the packed causal generator of about as many weights, pair by pair."""
    rows = []
    for seq2seq, causal in pairs:
        packed = Setup(data, "causal", causal)
        prefixes = len(Setup(data, "seq2seq", seq2seq).dataset) / len(packed.dataset)  # of a user
        equal = round(prefixes * packed.batch_size)
        runs = {}
        for name, setup, steps in (
            (f"T5 {seq2seq}, prefixes of as many users", Setup(data, "seq2seq", seq2seq, batch_size=equal), prefixes),
            (f"T5 {seq2seq}", Setup(data, "seq2seq", seq2seq), 1),
            (f"causal {causal}, packed", packed, 1),
        ):
            runs[name] = TrainingRun(
                setup,
                collate=setup.collate,
                is_grouped=setup.kind == "seq2seq",
                steps=max(round(arguments.steps / steps), 4),
                device=arguments.device,
                is_bf16=arguments.device == "cuda",
            )
        rows += _rows("every prefix or all positions", data, runs, arguments.rounds)
    return rows


def trainer_rows(data: Histories, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare steps of the package's trainer with a bare loop over the same batches, in turns."""
    rows = []
    for name, kind, size, batch_size, users in (
        ("causal small", "causal", "small", 64, 64 * 2 * arguments.steps),
        ("T5 letter", "seq2seq", "letter", 16, 4 * 2 * arguments.steps),
    ):
        seconds: dict[str, list[float]] = {"bare loop": [], "Trainer": []}
        for _ in range(arguments.rounds):
            for loop, measure in (("bare loop", bare_seconds), ("Trainer", trainer_seconds)):
                setup = Setup(data, kind, size, users=users, batch_size=batch_size)
                seconds[loop].append(measure(setup, arguments.device))
        ratios = [ours / bare for ours, bare in zip(seconds["Trainer"], seconds["bare loop"], strict=True)]
        for loop, times in seconds.items():
            ratio = {} if loop == "bare loop" else {"ratio": statistics.median(ratios), "against": "bare loop, time"}
            what = {"part": f"{loop}, {name}, batch {batch_size}", "data": data.name}
            rows.append(what | {"ms_per_step": 1e3 * statistics.median(times)} | ratio)
    return rows


def _rows(part: str, data: Histories, runs: dict[str, TrainingRun], rounds: int) -> list[dict[str, Any]]:
    seconds = interleaved(runs, rounds=rounds)
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        cells, tokens, targets, with_history = run.counts()
        row = {
            "part": f"{part}: {name}",
            "data": data.name,
            "weights": run.model.num_parameters(),
            "batch": run.setup.batch_size,
            "targets_per_step": targets / run.steps,
            "ms_per_step": 1e3 * seconds[name] / run.steps,
            "padding": 1 - tokens / cells,
            "tokens_per_s": tokens / seconds[name],
            "targets_per_s": targets / seconds[name],
            "with_history_per_s": with_history / seconds[name],
        }
        if run.device == "cuda":
            row["peak_mb"] = _peak_mb(run)
        if rows:
            row["ratio"] = row["targets_per_s"] / rows[0]["targets_per_s"]
            row["ratio_with_history"] = row["with_history_per_s"] / rows[0]["with_history_per_s"]
            row["against"] = next(iter(runs))
        rows.append(row)
    return rows


def _peak_mb(run: TrainingRun) -> float:
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**20


def _arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory that holds the data sets' folders")
    parser.add_argument("--names", default="amazon_industrial,amazon_games", help="data sets, the first for Trainer")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch_size", type=int, help="users or prefixes of a step; by default that of the recipe")
    parser.add_argument("--steps", type=int, default=10, help="batches of a round, fewer where they are larger")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
