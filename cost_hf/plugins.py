"""Discovery of methods and quantizers: those of this package, and those that other packages register.

A plugin registers classes when it is imported. Ours are the packages inside a package of plugins (one folder a method);
another distribution names its module by an entry point of the group with the package's name, for example

    [project.entry-points."cost_hf.methods"]
    my_method = "my_package.my_method"
"""

import logging
import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

logger = logging.getLogger(__name__)
_RECOMMENDERS: dict[str, str] = {}  # kind -> module that defines it


@cache
def load_plugins(package: str, skipped: tuple[str, ...] = ()) -> None:
    """Import all packages inside `package`, then what entry points of the group `package` name.

    A plugin of another distribution that can't be imported is reported and left out, so that it breaks no other method.

    Args:
        package: dotted name of a package of plugins, such as `cost_hf.methods`.
        skipped: names of its modules that register nothing and are costly to import.
    """
    home = import_module(package)
    for module in pkgutil.iter_modules(home.__path__):
        if module.ispkg and module.name not in skipped:
            import_module(f"{package}.{module.name}")
    for entry in sorted(entry_points(group=package), key=lambda entry: entry.name):
        _load(entry)


def declare_recommender(kind: str, module: str) -> None:
    """Name the module that defines a kind of recommender, so that a plugin needs not import it to be found.

    Args:
        kind: as in the manifest of such a recommender.
        module: dotted name.
    """
    _RECOMMENDERS[kind] = module


def declared_recommenders() -> list[str]:
    """Return the kinds of recommenders that were declared."""
    return sorted(_RECOMMENDERS)


def import_recommender(kind: str) -> bool:
    """Import the module of a kind of recommender; return False where the kind was not declared.

    Raises:
        ValueError: where it needs a package that is not installed.
    """
    if kind not in _RECOMMENDERS:
        return False
    try:
        import_module(_RECOMMENDERS[kind])
    except ModuleNotFoundError as error:
        raise ValueError(
            f"recommenders of kind {kind!r} need the package {error.name}, which is not installed; pip install it"
        ) from error
    return True


def _load(entry: EntryPoint) -> None:
    try:
        entry.load()
    except Exception as error:  # whatever a foreign module raises
        distribution = "an unknown distribution" if entry.dist is None else entry.dist.name
        logger.warning("plugin %s of %s (%s) can't be loaded: %s", entry.name, distribution, entry.value, error)
