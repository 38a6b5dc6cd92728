"""Makes the package's models and pipelines known to transformers, without importing transformers for it.

Transformers and torch take seconds to import. A command that only reports a misspelt argument, and a program that
reads a catalog, need neither, so registration waits until something imports transformers.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

LIBRARY = "transformers"
HOMES = ("cost_hf.quantizers.cost", "cost_hf.recommenders.pipeline")  # each registers what it holds when it is imported


def register_with_transformers() -> None:
    """Register now where transformers is imported already, else right after it will have been."""
    if LIBRARY in sys.modules:
        _register()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(MetaPathFinder):
    """Finds transformers by the other finders, and has it followed by our registration.

    Where a file of a model is what imports transformers, registration waits for the end of that file too, since the
    classes that it registers are not defined before.
    """

    def __init__(self) -> None:
        self._running = 0  # imports that registration waits for, one inside the other

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LIBRARY and not _is_model_file(fullname):
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        loader = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                self._running += 1
                try:
                    execute(module)
                finally:
                    self._running -= 1
                if not self._running and LIBRARY in sys.modules and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    _register()

            loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _is_model_file(fullname: str) -> bool:
    """Tell whether a module is named as files of models and layers are, and is none of transformers."""
    package, _, name = fullname.rpartition(".")
    return name.startswith(("configuration_", "layers_", "modeling_")) and package.partition(".")[0] != LIBRARY


def _register() -> None:
    for name in HOMES:
        import_module(name)
    from cost_hf.data.options import ItemVectorOptions
    from cost_hf.methods.base import methods
    from cost_hf.quantizers.base import CodesOptions

    CodesOptions.load_kinds()
    ItemVectorOptions.load_kinds()
    owners = (*CodesOptions.kinds.values(), *ItemVectorOptions.kinds.values(), *methods().values())
    for owner in owners:
        if owner.auto_models is not None:
            import_module(owner.auto_models)
