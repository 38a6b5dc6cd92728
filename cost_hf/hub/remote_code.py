"""Models with their source files, so that they load where this package is not installed.

`register_for_auto_class` of transformers copies sources with every later save of a class in the process, checkpoints of
a training included. Here the files and the entries of `config.json` are written for one model.
"""

import re
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.pipelines import PIPELINE_REGISTRY

from cost_hf.files import read_json, read_object, write_json

# an import of a file of another folder of models of this package, as `from cost_hf.quantizers.cost.layers_cost import`
OTHER_FOLDER = re.compile(r"^from (cost_hf(?:\.\w+)*)\.(\w+) import", re.MULTILINE)


def save_with_code(model: PreTrainedModel, directory: str | Path, *, auto_class: str = "AutoModel") -> None:
    """Write a model, its source files and the entries by which `trust_remote_code=True` finds them.

    Args:
        model: of a class whose module imports files of its folder (`from .layers import ...`), such files of other
            folders of this package, by their full names, torch, transformers and huggingface_hub alone. All are
            published side by side. Pipelines that are registered from the same folder are published with it.
        directory: gets `config.json`, `model.safetensors` and the sources.
        auto_class: name of the Auto class that loads the model.
    """
    target = Path(directory)
    model.save_pretrained(target)
    pipelines = pipelines_of(type(model))
    classes = (type(model), type(model.config), *pipelines.values())
    for path in {path for entry in classes for path in source_files(entry)}:
        source = path.read_text(encoding="utf-8")
        (target / path.name).write_text(OTHER_FOLDER.sub(r"from .\2 import", source), encoding="utf-8")
    entries: dict[str, Any] = {
        "auto_map": {"AutoConfig": _reference(type(model.config)), auto_class: _reference(type(model))}
    }
    if pipelines:
        entries["custom_pipelines"] = {task: _pipeline_entry(task, entry) for task, entry in pipelines.items()}
    config = read_json(target / "config.json")
    write_json(target / "config.json", config | entries)


def source_files(entry: type) -> list[Path]:
    """Return the file that defines a class, and all files of models of this package that it imports."""
    found: set[Path] = set()
    waiting = {Path(sys.modules[entry.__module__].__file__ or "")}
    while waiting:
        own = waiting.pop()
        found.add(own)
        near = {*map(Path, get_relative_import_files(own))}
        far = {
            Path(sys.modules[f"{package}.{name}"].__file__ or "")
            for package, name in OTHER_FOLDER.findall(own.read_text(encoding="utf-8"))
        }
        waiting |= (near | far) - found
    return sorted(found)


def published_sources(folder: Path) -> set[str]:
    """Return the names of the source files that the configuration of a saved model refers to."""
    config = read_object(folder / "config.json")
    references = [*config.get("auto_map", {}).values()]
    references += [entry["impl"] for entry in config.get("custom_pipelines", {}).values()]
    modules = {folder / f"{reference.partition('.')[0]}.py" for reference in references}
    files = {module for module in modules if module.is_file()}
    return {path.name for path in files | {Path(name) for file in files for name in get_relative_import_files(file)}}


def pipelines_of(model: type) -> dict[str, type]:
    """Return the registered pipelines by task whose class is defined in the folder of a model's."""
    registered = {task: entry["impl"] for task, entry in PIPELINE_REGISTRY.supported_tasks.items()}
    return {
        task: entry
        for task, entry in registered.items()
        if isinstance(entry, type) and _package_of(entry) == _package_of(model)
    }


def _pipeline_entry(task: str, pipeline: type) -> dict[str, Any]:
    registered = PIPELINE_REGISTRY.supported_tasks[task]
    models = [auto.__name__ for auto in registered["pt"]]
    return {"impl": _reference(pipeline), "pt": models, "type": registered["type"]}


def _package_of(entry: type) -> str:
    return entry.__module__.rpartition(".")[0]


def _reference(entry: type) -> str:
    return f"{entry.__module__.rpartition('.')[2]}.{entry.__name__}"
