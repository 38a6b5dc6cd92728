"""Where a recommender may come from, told apart without a look at the network."""

import re
from pathlib import Path

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
RUNS = "runs"  # where runs lie by default


def check_source(source: str | Path) -> None:
    """Raise FileNotFoundError for a source that is not there and can't be a Hub id, or looks like a path all the same.

    `runs/mine` could be a Hub id by its form; where `runs` is a directory here, or the default one, a path was meant.
    """
    path = Path(source)
    if path.exists():
        return
    parent = path.parent
    name = str(source)
    is_path = path.is_absolute() or name.startswith((".", "~", f"{RUNS}/")) or name.endswith("/") or name.count("/") > 1
    if is_path or (parent != Path() and parent.is_dir()):
        raise FileNotFoundError(f"{str(source)!r} is not there; check the path of the run or recommender directory")
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"{str(source)!r} is neither a directory nor a Hub id (org/name); check the path")
