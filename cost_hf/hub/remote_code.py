"""Models with their source files, so that they load where this package is not installed.

Transformers copies sources for a class that was registered for that once and for all in a process, checkpoints of a
later training included. Here the files and the entries of `config.json` are written by one call and nothing else.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from cost_hf.files import read_json, write_json
from cost_hf.quantizers.cost import CostModel, SemanticIdPipeline


def save_with_code(model: PreTrainedModel, directory: str | Path) -> None:
    """Write a model, the flat folder of its sources and the entries by which `trust_remote_code=True` finds them.

    Args:
        model: of a class whose folder is a Hub closure (`CostModel`, `SasRecModel`).
        directory: gets `config.json`, `model.safetensors` and the sources.
    """
    target = Path(directory)
    model.save_pretrained(target)
    source = Path(sys.modules[type(model).__module__].__file__ or "").parent
    for path in sorted(source.glob(f"*_{model.config.model_type}.py")):
        shutil.copyfile(path, target / path.name)
    entries: dict[str, Any] = {
        "auto_map": {"AutoConfig": _reference(type(model.config)), "AutoModel": _reference(type(model))}
    }
    if isinstance(model, CostModel):
        impl = _reference(SemanticIdPipeline)
        entries["custom_pipelines"] = {"semantic-id": {"impl": impl, "pt": ["AutoModel"], "type": "multimodal"}}
    config = read_json(target / "config.json")
    write_json(target / "config.json", config | entries)


def _reference(entry: type) -> str:
    return f"{entry.__module__.rpartition('.')[2]}.{entry.__name__}"
