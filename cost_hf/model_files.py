"""Models read from a directory: with every weight, and no larger than the weight files can fill.

A configuration of a few bytes can ask for more layers than a memory holds. Models are built from it before their
weights are looked at, so their parameters and buffers are counted while they are built.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from safetensors import safe_open
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from cost_hf.files import DamagedFileError, plain_name, read_object, readable_load_errors

INDEX = "model.safetensors.index.json"
# Of what the files hold. Heads that are tied to embeddings are built twice, weights may be stored in fewer bytes than
# they have in memory, and buffers are not stored at all; the same number again for models that hold next to nothing.
TENSORS_PER_STORED = 4
ELEMENTS_PER_BYTE = 2
MORE_TENSORS = 1_000
MORE_ELEMENTS = 10_000_000


def load_all_weights(what: str, folder: str | Path, load: Callable[..., Any], **options: Any) -> Any:
    """Return a transformers model whose files give it every weight, and no weight that it does not have.

    Transformers itself initialises what is missing and continues, and builds whatever a configuration asks for.

    Args:
        what: is loaded, for the message.
        folder: that holds it.
        load: `from_pretrained` of its class.
        options: of that.

    Raises:
        OSError: where a file can't be read.
        DamagedFileError: for damaged files, weights of another model, or a configuration of one that is much larger.
    """
    with readable_load_errors(what, folder), within_weights(what, folder):
        model, found = load(folder, output_loading_info=True, **options)
    wrong = {kind: sorted(map(str, found[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    found = [f"{len(names)} {kind}, such as {names[0]}" for kind, names in wrong.items() if names]
    if found:
        raise DamagedFileError(
            f"{what} in {folder} has not the weights that its configuration asks for: {'; '.join(found)}; copy the "
            "directory again"
        )
    return model


@contextmanager
def within_weights(what: str, folder: str | Path, *, files: str = "*.safetensors") -> Iterator[None]:
    """Let this thread build models of no more parameters and buffers than a directory has weights for.

    Args:
        what: is loaded, for messages.
        folder: that holds the weights, in safetensors files.
        files: pattern of these.

    Raises:
        FileNotFoundError: for a directory without such files.
        SafetensorError: for damaged ones.
        DamagedFileError: for a larger model, or an index of weights that leads out of the directory.
    """
    stored, size = _stored(what, Path(folder), files)
    most_tensors = MORE_TENSORS + TENSORS_PER_STORED * stored
    most_elements = MORE_ELEMENTS + ELEMENTS_PER_BYTE * size
    thread = get_ident()
    built: dict[tuple[int, str], int] = {}  # loading registers the same parameters again
    elements = 0

    def count(module: Any, name: str, tensor: Any) -> None:
        nonlocal elements
        key = id(module), name
        if tensor is None or get_ident() != thread or key in built:
            return
        built[key] = tensor.numel()
        elements += built[key]
        if len(built) > most_tensors or elements > most_elements:
            raise DamagedFileError(
                f"the configuration of {what} in {folder} asks for more than its files hold ({stored} tensors, {size} "
                "bytes); it was edited or damaged: copy the directory again"
            )

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stored(what: str, folder: Path, pattern: str) -> tuple[int, int]:
    """Return the number of tensors in the weight files of a directory, and the bytes of the files."""
    if (folder / INDEX).is_file():
        index = read_object(folder / INDEX).get("weight_map")
        for name in set(index.values()) if isinstance(index, dict) else ():
            plain_name(name, source=folder / INDEX)
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"{folder} has no .safetensors file, the weights of {what}; copy the directory again")
    tensors = 0
    for path in files:
        with safe_open(path, framework="numpy") as file:
            tensors += len(file.keys())
    return tensors, sum(path.stat().st_size for path in files)
