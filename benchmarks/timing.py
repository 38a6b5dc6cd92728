"""What the speed benchmarks share: interleaved rounds, the machine in words, a JSON file and its table.

One thread is timed by the process's CPU time, which neighbours on shared cores stretch least; several threads and a
GPU by the wall clock. Variants take turns, so each sees the same load, and the median of the rounds counts. Only ratios
within one file are safe to compare.
"""

import argparse
import json
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

RESULTS = Path(__file__).parent / "results" / "speed"
README = Path(__file__).parent / "README.md"


def clock() -> float:
    """Return seconds: CPU time on one thread, else wall time with the GPU's queue drained."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def interleaved(variants: Mapping[str, Callable[[], Any]], *, rounds: int = 5) -> dict[str, float]:
    """Return the median seconds of every variant over rounds in which each runs once, after one call to warm up."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else _cpu_name(),
        "threads": torch.get_num_threads(),
        "clock": "wall" if on_gpu or torch.get_num_threads() > 1 else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def peak_mb() -> float:
    """Return the largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_gflops(rows: int = 1024, inner: int = 1024, columns: int = 1024) -> float:
    """Measure the rate of fp32 matrix products under the settings in force: the machine's limit."""
    left = torch.randn(rows, inner)
    right = torch.randn(inner, columns)
    seconds = min(interleaved({"product": lambda: left @ right}, rounds=15).values())
    return 2e-9 * rows * inner * columns / seconds


def zipf_codes(num_items: int, *, levels: int = 4, size: int = 256, exponent: float = 0.7, seed: int = 0) -> np.ndarray:
    """Return distinct made-up SIDs `[N, levels]` in random order: each code a Zipf draw permuted by its prefix."""
    draw = np.random.default_rng(seed)
    share = (np.arange(size) + 1.0) ** -exponent
    share /= share.sum()
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < num_items:
        count = int((num_items - len(keys)) * 1.5) + 1000
        key = np.zeros(count, dtype=np.int64)
        for level in range(levels):
            odd = ((key * 2654435761 + 97 * level) >> 3) % 127 * 2 + 1  # an odd factor permutes 0 … size - 1
            code = (draw.choice(size, size=count, p=share) * odd + (key * 40503 >> 2)) % size
            key = key * size + code
        keys = np.unique(np.concatenate([keys, key]))
    keys = draw.choice(keys, num_items, replace=False)
    return np.stack([keys // size ** (levels - 1 - level) % size for level in range(levels)], axis=1)


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the command line that all speed benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also write results/speed/ and the table in README.md, over what is there",
    )
    return parser


def save(name: str, rows: Sequence[Mapping[str, Any]], *, publish: bool, **settings: Any) -> None:
    """Print rows as a table; write them to `results/speed/<name>.json` and README.md where they are to be published."""
    if not rows:
        raise SystemExit("nothing was measured; the options leave no case")
    record = {"machine": machine(), **settings, "rows": [_rounded(row) for row in rows]}
    print(table(record["rows"]))
    if publish:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        put_into_readme(name, record)


def put_into_readme(name: str, record: Mapping[str, Any]) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end -->` in README.md by the record as a table."""
    about = ", ".join(f"{key} {value}" for key, value in record["machine"].items())
    block = f"<!-- {name} -->\n{table(record['rows'])}\n\nMeasured on: {about}.\n<!-- end -->"
    text = README.read_text(encoding="utf-8")
    text, found = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)
    if not found:
        raise SystemExit(
            f"{README} has no place for this table; write <!-- {name} --> and <!-- end --> where it belongs"
        )
    README.write_text(text, encoding="utf-8")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; the columns are the keys of all rows in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(key, "")) for key in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
