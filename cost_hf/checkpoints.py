"""Resuming a Trainer run after it was killed at any moment.

`Trainer` writes `trainer_state.json` last, so a checkpoint without a readable one was being written when the run died;
one without its other parts was being deleted.
"""

import logging
import re
import shutil
from pathlib import Path
from zipfile import is_zipfile

from transformers.trainer_callback import TrainerState

from cost_hf.files import DamagedFileError, read_tensor_metadata

logger = logging.getLogger(__name__)
PARTS = ("*model*.safetensors", "optimizer*", "scheduler.pt", "rng_state*.pth")  # of a model, or of an adapter


def last_complete_checkpoint(directory: str | Path) -> str | None:
    """Return the newest whole `checkpoint-<step>` below `directory`, or None; half-written ones are left out."""
    for path in sorted(Path(directory).glob("checkpoint-*"), key=_step, reverse=True):
        try:
            for part in PARTS:
                next(path.glob(part))
            for tensors in path.glob("*.safetensors"):
                read_tensor_metadata(tensors)
            for archive in (*path.glob("*.pt"), *path.glob("*.pth")):
                if not is_zipfile(archive):  # what torch saves is one; its table stands at its end
                    raise DamagedFileError(f"{archive} is no whole file of torch")
            TrainerState.load_from_json(str(path / "trainer_state.json"))
        except (OSError, ValueError, StopIteration, KeyError, TypeError, AttributeError, RecursionError):
            logger.warning("%s is incomplete (the run was stopped at writing or deleting it); not used", path.name)
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


def _step(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match.group(1)) if match else -1
