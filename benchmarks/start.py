"""How long a program takes from its start to the first answer of a recommender.

    python train.py --recipe cost_quickstart --output_dir RUN
    python benchmarks/start.py --run RUN

Fresh processes take turns: one imports cost_hf, loads the run and answers a history of three items; the reference
imports torch and transformers and loads the generator of the run alone, which no program on this stack can do without.
Medians; files are in the page cache after the first round, which is not counted.
"""

import json
import os
import statistics
import subprocess
import sys

from timing import new_parser, save

PROGRAMS = {
    "cost_hf": """
from cost_hf import Recommender
moments.append(time.perf_counter())
recommender = Recommender.from_pretrained(sys.argv[1])
moments.append(time.perf_counter())
recommender.recommend(list(recommender.catalog.item_ids[:3]), top_k=10)
""",
    "torch and transformers alone": """
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
moments.append(time.perf_counter())
model = AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/recommender")
moments.append(time.perf_counter())
model(input_ids=torch.ones(1, 3, dtype=torch.int64))
""",
}
STEPS = ("import s", "load s", "first answer s")
FRAME = """
import json, sys, time
moments = [time.perf_counter()]
{program}
moments.append(time.perf_counter())
print(json.dumps([after - before for before, after in zip(moments, moments[1:])]))
"""


def seconds(program: str, run: str) -> list[float]:
    """Return what the steps of a program took in a process of its own."""
    command = [sys.executable, "-c", FRAME.format(program=program), run]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    steps: list[float] = json.loads(found.stdout)
    return steps


def main() -> None:
    """Measure both programs in turns."""
    parser = new_parser(__doc__)
    parser.add_argument("--run", required=True, help="run directory with a causal generator")
    parser.add_argument("--rounds", type=int, default=7, help="processes of each program")
    options = parser.parse_args()
    taken: dict[str, list[list[float]]] = {name: [] for name in PROGRAMS}
    for number in range(options.rounds + 1):
        for name, program in PROGRAMS.items():
            steps = seconds(program, options.run)
            if number:
                taken[name].append(steps)
    rows = []
    for name, rounds in taken.items():
        steps = [statistics.median(values) for values in zip(*rounds, strict=True)]
        total = statistics.median(map(sum, rounds))
        rows.append({"program": name, **dict(zip(STEPS, steps, strict=True)), "total s": total})
    reference = rows[-1]["total s"]
    rows = [row | {"ratio": row["total s"] / reference} for row in rows]
    save("start", rows, publish=options.publish, rounds=options.rounds)


if __name__ == "__main__":
    main()
