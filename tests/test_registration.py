"""Importing the package is quick, and what it registers is there whichever of the two is imported first."""

import gc
import subprocess
import sys

import pytest

from cost_hf import Recommender
from cost_hf.recommenders.example import example_recommender

KNOWN = """
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
tasks = PIPELINE_REGISTRY.get_supported_tasks()
assert {"cost", "sasrec", "liger", "cobra", "prism_isr"} <= set(CONFIG_MAPPING)
assert {"semantic-id", "generative-recommendation"} <= set(tasks)
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "program",
    [
        "import cost_hf; from transformers import AutoModel",
        "import transformers; import cost_hf",
        "import cost_hf; from importlib.util import find_spec; find_spec('transformers'); import transformers",
        "import cost_hf.recommenders.pipeline",
        "from cost_hf.quantizers.cost import CostModel",
        "from cost_hf.quantizers.cost.modeling_cost import CostModel",
        "from cost_hf.methods.sasrec.layers_sasrec import SasRecLayer",
        "from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig",
        "from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel",
        "from cost_hf.methods.sasrec.recommender import SasRecRecommender",
        "from cost_hf.methods.liger.modeling_liger import LigerForCausalLM",
        "from cost_hf.methods.cobra.modeling_cobra import CobraForCausalLM",
        "from cost_hf.methods.prism.modeling_prism_isr import PrismForConditionalGeneration",
    ],
)
def test_models_and_pipelines_are_registered(program):
    run(program + "\n" + KNOWN)


def test_the_arguments_of_a_command_need_neither_torch_nor_pandas():
    program = """
import sys
import cost_hf.experiments.commands, cost_hf.hub.commands
from cost_hf.cli import main
assert main(["train", "--training.epoch", "3"]) == 2
assert main(["train", "--recipe", "cost_quikstart"]) == 2
assert main(["train", "--codes.kind", "cots"]) == 2
assert main(["compare", "cost_quickstart", "--systems", "cots"]) == 2
print([name for name in ("torch", "transformers", "pandas", "scipy", "gradio") if name in sys.modules])
"""
    assert run(program).strip() == "[]"


def test_loading_and_answering_import_only_what_they_need(tmp_path):
    example_recommender().save_pretrained(tmp_path)
    program = f"""
import sys
from cost_hf import Recommender
recommender = Recommender.from_pretrained({str(tmp_path)!r})
assert recommender.recommend(["kettle", "teapot"], top_k=2)
heavy = ("peft", "datasets", "evaluate", "sklearn", "sentence_transformers", "gradio", "lightgbm", "matplotlib")
print([name for name in (*heavy, "transformers.trainer") if name in sys.modules])
"""
    assert run(program).strip() == "[]"


def test_garbage_is_collected_again_after_a_load(tmp_path):
    example_recommender().save_pretrained(tmp_path)
    (tmp_path / "broken").mkdir()

    Recommender.from_pretrained(tmp_path)
    assert gc.isenabled()
    with pytest.raises(OSError):
        Recommender.from_pretrained(tmp_path / "broken")
    assert gc.isenabled()

    gc.disable()
    try:
        Recommender.from_pretrained(tmp_path)
        assert not gc.isenabled()
    finally:
        gc.enable()
