"""Models with their source files, so that they load where this package is not installed.

`register_for_auto_class` of transformers copies sources with every later save of a class in the process, checkpoints of
a training included. Here the files and the entries of `config.json` are written for one model.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from cost_hf.files import read_json, write_json


def save_with_code(model: PreTrainedModel, directory: str | Path, *, auto_class: str = "AutoModel") -> None:
    """Write a model, its source files and the entries by which `trust_remote_code=True` finds them.

    Args:
        model: of a class in a folder of files `*_<model_type>.py` that import nothing but each other, torch,
            transformers and huggingface_hub. Pipelines that are registered from this folder are published too.
        directory: gets `config.json`, `model.safetensors` and the sources.
        auto_class: name of the Auto class that loads the model.
    """
    target = Path(directory)
    model.save_pretrained(target)
    source = Path(sys.modules[type(model).__module__].__file__ or "").parent
    for path in sorted(source.glob(f"*_{model.config.model_type}.py")):
        shutil.copyfile(path, target / path.name)
    entries: dict[str, Any] = {
        "auto_map": {"AutoConfig": _reference(type(model.config)), auto_class: _reference(type(model))}
    }
    pipelines = _pipelines_of(type(model))
    if pipelines:
        entries["custom_pipelines"] = pipelines
    config = read_json(target / "config.json")
    write_json(target / "config.json", config | entries)


def _pipelines_of(model: type) -> dict[str, dict[str, Any]]:
    """Return `custom_pipelines` of config.json: the registered pipelines whose class is defined beside a model's."""
    return {
        task: {
            "impl": _reference(entry["impl"]),
            "pt": [auto.__name__ for auto in entry["pt"]],
            "type": entry["type"],
        }
        for task, entry in PIPELINE_REGISTRY.supported_tasks.items()
        if isinstance(entry["impl"], type) and _package_of(entry["impl"]) == _package_of(model)
    }


def _package_of(entry: type) -> str:
    return entry.__module__.rpartition(".")[0]


def _reference(entry: type) -> str:
    return f"{entry.__module__.rpartition('.')[2]}.{entry.__name__}"
