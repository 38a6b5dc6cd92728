"""The files that travel with a published quantizer of texts."""

import sys

from transformers.dynamic_module_utils import get_imports

from cost_hf.hub.remote_code import save_with_code
from tests.quantizers.text_slots.slot_toys import slot_model

SOURCES = {
    "base_models.py",
    "configuration_base_cost.py",
    "configuration_text_slots.py",
    "layers_cost.py",
    "modeling_base_cost.py",
    "modeling_text_slots.py",
    "objectives_text_slots.py",
    "residual_cost.py",
}


def test_a_published_quantizer_brings_its_sources_which_need_peft_and_no_package_of_ours(tmp_path):
    save_with_code(slot_model(tmp_path / "base"), tmp_path / "published")

    sources = list((tmp_path / "published").glob("*.py"))
    assert {path.name for path in sources} >= SOURCES
    needed = {name for path in sources for name in get_imports(path)} - sys.stdlib_module_names
    assert needed == {"torch", "transformers", "huggingface_hub", "peft"}
