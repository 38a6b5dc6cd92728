"""What the index over a catalog costs: build rate, bytes an item, memory of a process that builds it and searches.

    OMP_NUM_THREADS=1 python benchmarks/trie.py [--items 1e5 1e6 1e7]

SIDs are distinct, unsorted, four levels of 256 codes, and come as uint8 from a file, each size in a process of its own.
`import MB` is what a process has taken before it reads them, `peak MB` its largest size after the build and a
beam search (20 beams, one request, a T5 of `letter` size) over the index; the difference is what the items cost.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import clock, interleaved, new_parser, peak_mb, save, zipf_codes
from transformers import T5Config, T5ForConditionalGeneration

from cost_hf import SidTrie, SidVocabulary, beam_search

SIZES = (256,) * 4
ROUNDS = 5


def main() -> None:
    """Measure every size in a process of its own ; or, inside one, a single size."""
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--write", type=Path, help="only write the SIDs of the first size to this file")
    parser.add_argument("--read", type=Path, help="only measure the SIDs in this file and print JSON")
    arguments = parser.parse_args()
    if arguments.write:
        np.save(arguments.write, zipf_codes(int(arguments.items[0])).astype(np.uint8))
    elif arguments.read:
        print(json.dumps(measure(arguments.read)))
    else:
        rows = [in_processes(int(items)) for items in arguments.items]
        save("trie", rows, publish=arguments.publish, levels=len(SIZES), codes_per_level=SIZES[0])


def in_processes(items: int) -> dict[str, Any]:
    """Return the row of one size: one process makes the SIDs, whose memory must not count, another measures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.npy"
        subprocess.run([sys.executable, __file__, "--items", str(items), "--write", str(path)], check=True)
        found = subprocess.run([sys.executable, __file__, "--read", str(path)], check=True, capture_output=True)
    return dict(json.loads(found.stdout))


def measure(path: Path) -> dict[str, Any]:
    """Build the index once for its memory, search it, then build it again for its seconds."""
    model = letter_model()
    vocabulary = SidVocabulary(SIZES)
    before = peak_mb()
    codes = np.load(path)
    trie = SidTrie(codes, SIZES)
    built = peak_mb()
    prompt = vocabulary.encode(torch.from_numpy(codes[:20].astype(np.int64))).flatten()[None]
    start = clock()
    found = beam_search(model, prompt, trie=trie, vocabulary=vocabulary, num_beams=20)
    seconds_of_search = clock() - start
    if bool((found.items < 0).any()):
        raise SystemExit("the search found fewer items than beams")
    peak = peak_mb()
    seconds = interleaved({"build": lambda: SidTrie(codes, SIZES)}, rounds=ROUNDS)["build"]
    return {
        "items": len(codes),
        "build seconds": seconds,
        "million items/s": len(codes) / seconds / 1e6,
        "rebuild seconds per million": 1e6 * seconds / len(codes),
        "bytes/item": trie.nbytes / len(codes),
        "first search ms": 1e3 * seconds_of_search,
        "import MB": before,
        "peak after build MB": built,
        "peak MB": peak,
        "cost of items MB": peak - before,
    }


def letter_model() -> T5ForConditionalGeneration:
    """Return a T5 of LETTER's size with random weights."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=SidVocabulary(SIZES).size,
        d_model=128,
        d_kv=64,
        d_ff=1024,
        num_layers=4,
        num_heads=6,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


if __name__ == "__main__":
    main()
