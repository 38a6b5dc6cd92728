"""The record of a run's updates, and which of them the run serves.

`updates.json` in the run directory names every update with the model files of its recommender. The manifest of
`recommender/` holds the number of the update that trained it last, 0 for the training itself: replacing the recommender
is the one step that makes an update take effect, and everything else is found by that number.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cost_hf.files import DamagedFileError, check_fields, read_object, write_json

RECORD = "updates.json"
FOLDER = "updates"  # recommenders of other days, by the number of their update, and the clicks of every update
RECOMMENDER = "recommender"
NUMBER = "update"  # entry of a recommender's manifest
CLICKS_DIGEST = "clicks_sha256"  # entry of an update: of the file of its clicks
FORMAT = 1
ENTRY = {"number": int, "parent": int, "time": str, "is_accepted": bool, "reason": str, "files": dict[str, str]}
# of a recommender directory: what changes of the catalog write, and the clicks of new items
NO_MODEL_FILE = re.compile(
    r"(.*/)?(catalog-\w+\.\w+|columns-\w+\.parquet|popularity\.safetensors|journal(-\d+)?\.jsonl)"
)


def read_updates(run: str | Path) -> list[dict[str, Any]]:
    """Return the updates of a run in their order, those that were refused and taken back among them.

    Raises:
        DamagedFileError: for a record that is none.
    """
    path = Path(run) / RECORD
    if not path.is_file():
        return []
    content = read_object(path)
    check_fields(content, {"format": int, "updates": list[dict]}, source=path)
    if content["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {content['format']!r}, this version reads {FORMAT}; use the release of cost_hf that "
            "wrote it"
        )
    for entry in content["updates"]:
        check_fields(entry, ENTRY, source=path)
    return content["updates"]


def write_updates(run: str | Path, updates: Sequence[Mapping[str, Any]]) -> None:
    """Write the record of a run's updates."""
    write_json(Path(run) / RECORD, {"format": FORMAT, "updates": list(updates)}, durable=True)


def served_update(run: str | Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the update that a run serves; None for the recommender that its training wrote.

    Args:
        run: the run directory.
        manifest: of its recommender.

    Raises:
        DamagedFileError: where the record does not name the update of the manifest.
    """
    number = manifest.get(NUMBER, 0)
    if number == 0:
        return None
    found = [entry for entry in read_updates(run) if entry["number"] == number and entry["is_accepted"]]
    if not found:
        raise DamagedFileError(
            f"{Path(run) / RECOMMENDER} was written by update {number} of a run, which {Path(run) / RECORD} does not "
            f"name; copy the whole run directory again, or load {Path(run) / RECOMMENDER} itself for these weights"
        )
    return found[-1]


def is_updated(run: str | Path) -> bool:
    """Return whether a run serves another model than the one that it trained and evaluated."""
    path = Path(run) / RECOMMENDER / "recommender.json"
    return path.is_file() and read_object(path).get(NUMBER, 0) != 0


def model_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a recommender that a change of its catalog leaves as they are, with their digests."""
    return {name: digest for name, digest in files.items() if not NO_MODEL_FILE.fullmatch(name)}


def require_own_update(run: str | Path, update: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Raise `DamagedFileError` where the recommender of a run is not the one that its update wrote.

    Args:
        run: the run directory.
        update: record of the update that it serves.
        files: path -> sha256 of the recommender's files, as its manifest has them.
    """
    own = model_files(files)
    for name in sorted({*own, *update["files"]}):
        if own.get(name) != update["files"].get(name):
            raise DamagedFileError(
                f"{Path(run) / RECOMMENDER} is not what update {update['number']} wrote there: {name} has sha256 "
                f"{own.get(name)}, {RECORD} says {update['files'].get(name)}; copy the whole directory of one run"
            )


def require_no_updates(run: str | Path) -> None:
    """Raise ValueError for a run with updates, which training again would lose."""
    folder = Path(run) / FOLDER
    kept = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    if (Path(run) / RECORD).exists() or kept or is_updated(run):
        raise ValueError(
            f"{run} was updated after its training ({RECORD}), which training again would lose; give another "
            "--output_dir, or --overwrite (overwrite=True)"
        )


def remove_updates(run: str | Path) -> None:
    """Delete the updates of a run that is trained again, and what failed ones left."""
    if (Path(run) / FOLDER).is_dir():
        shutil.rmtree(Path(run) / FOLDER)
    (Path(run) / RECORD).unlink(missing_ok=True)


def now() -> str:
    """Return the present moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
