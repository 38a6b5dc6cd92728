"""Resuming a Trainer run after it was killed at any moment.

`Trainer` writes `trainer_state.json` last, so a checkpoint without a readable one was being written when the run died.
"""

import json
import logging
import re
import shutil
from pathlib import Path

from transformers.trainer_callback import TrainerState

from cost_hf.files import read_json, write_json

logger = logging.getLogger(__name__)


def last_complete_checkpoint(directory: str | Path) -> str | None:
    """Return the newest whole `checkpoint-<step>` below `directory`, or None; half-written ones are left out."""
    for path in sorted(Path(directory).glob("checkpoint-*"), key=_step, reverse=True):
        try:
            TrainerState.load_from_json(str(path / "trainer_state.json"))
        except (OSError, json.JSONDecodeError, TypeError):
            logger.warning("%s is incomplete (the run was stopped while writing it); it is not used", path.name)
            continue
        return str(path)
    return None


def drop_incomplete_checkpoints(directory: str | Path) -> None:
    """Delete the checkpoints behind the newest whole one, so that training may write them again."""
    newest = last_complete_checkpoint(directory)
    newest_step = _step(Path(newest)) if newest else -1
    for path in Path(directory).glob("checkpoint-*"):
        if _step(path) > newest_step:
            shutil.rmtree(path)


def relocate_best_checkpoint(directory: str | Path) -> None:
    """Let the newest checkpoint find the best one beside it, where the run directory was moved or is named otherwise.

    `Trainer` notes the path as it was given, and forgets the best checkpoint that does not lie there.
    """
    newest = last_complete_checkpoint(directory)
    if newest is None:
        return
    path = Path(newest) / "trainer_state.json"
    state = read_json(path)
    noted = state["best_model_checkpoint"]
    if noted is not None and noted != str(best := Path(directory) / Path(noted).name):
        write_json(path, state | {"best_model_checkpoint": str(best)})


def _step(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match.group(1)) if match else -1
