"""Tells paths of recommenders from Hub ids, without network access and without importing torch."""

import re
from pathlib import Path

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
RUNS = "runs"  # default folder of runs


def check_source(source: str | Path) -> None:
    """Raise FileNotFoundError for a path that does not exist, and for what is neither a path nor a Hub id.

    `runs/mine` has the form of a Hub id; where its parent is a directory here, or the default one, it is a path.
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
