"""What `cost-hf recommend --explain` prints of a learned ranker on the toy catalog, for the page on serving.

    python benchmarks/explanation.py

It trains in a folder of its own and writes the commands and the list to results/explanation.json.
"""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from cost_hf.files import write_json

RESULT = Path(__file__).parent.resolve() / "results" / "explanation.json"
COMMANDS = [
    "cost-hf train --recipe cost_quickstart --method ranker --ranker.parts '[markov, item_knn, text_last]' "
    "--data.synthetic_items 600 --output_dir runs/ranker",
    "cost-hf recommend runs/ranker N008 N003 --top-k 3 --explain",
]


def main() -> None:
    """Train, ask and write."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        for command in COMMANDS:
            arguments = [sys.executable, "-m", "cost_hf.cli", *shlex.split(command)[1:]]
            printed = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout
    write_json(RESULT, {"commands": COMMANDS, "list": printed.splitlines()})


if __name__ == "__main__":
    main()
