"""Resuming a Trainer run after it was killed at any moment.

`Trainer` writes `trainer_state.json` last, so a checkpoint without a readable one was being written when the run died;
one without its other parts was being deleted. The sha256 of every file is recorded right after: a checkpoint that was
changed or damaged since is not resumed from. One without the record was written just before the run died.
"""

import logging
import re
import shutil
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from cost_hf.files import (
    DamagedFileError,
    check_file_digests,
    file_digests,
    read_object,
    read_tensor_metadata,
    write_json,
)

logger = logging.getLogger(__name__)
# of a model, an adapter, or of a model whose weights are spread over processes: a file, or a folder of shards
PARTS = ("*model*.safetensors", "optimizer*", "scheduler.pt", "rng_state*.pth")
SHARDS = "pytorch_model_fsdp*"
DIGESTS = "files.json"


class CheckpointDigests(TrainerCallback):
    """Records the sha256 of every file of a checkpoint as soon as it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the record; every process has written its part of the checkpoint by then."""
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / DIGESTS, file_digests(folder, excluded=[DIGESTS]))


def last_complete_checkpoint(directory: str | Path) -> str | None:
    """Return the newest whole `checkpoint-<step>` below `directory`, or None.

    Half-written and damaged ones are left out, and so is one whose best predecessor, which training returns to in the
    end, is not whole.
    """
    for path in sorted(Path(directory).glob("checkpoint-*"), key=_step, reverse=True):
        state = _whole_state(path)
        if state is None:
            continue
        best = state.best_model_checkpoint and path.with_name(Path(state.best_model_checkpoint).name)
        if best and best != path and _whole_state(best) is None:
            continue
        return str(path)
    return None


def _whole_state(path: Path) -> TrainerState | None:
    """Return the state of a whole checkpoint; None, with a warning, for any other."""
    try:
        parts = PARTS[1:] if any(path.glob(SHARDS)) else PARTS
        for part in parts:
            next(path.glob(part))
        state = TrainerState.load_from_json(str(path / "trainer_state.json"))
        if (path / DIGESTS).is_file():
            check_file_digests(path, read_object(path / DIGESTS))
        else:
            _check_archives(path)
        return state
    except DamagedFileError as error:
        logger.warning("%s is damaged and is not used: %s", path.name, error)
    except (OSError, ValueError, StopIteration, KeyError, TypeError, AttributeError, RecursionError):
        logger.warning("%s is incomplete (the run was stopped at writing or deleting it); not used", path.name)
    return None


def _check_archives(path: Path) -> None:
    """Raise `DamagedFileError` for files of a checkpoint that were cut short."""
    for tensors in path.glob("*.safetensors"):
        read_tensor_metadata(tensors)
    for archive in (*path.glob("*.pt"), *path.glob("*.pth")):
        if not is_zipfile(archive):  # what torch saves is one; its table stands at its end
            raise DamagedFileError(f"{archive} is no whole file of torch")


def drop_incomplete_checkpoints(directory: str | Path) -> None:
    """Delete the checkpoints after the newest whole one, so that training may write them again."""
    newest = last_complete_checkpoint(directory)
    newest_step = _step(Path(newest)) if newest else -1
    for path in Path(directory).glob("checkpoint-*"):
        if _step(path) > newest_step:
            shutil.rmtree(path)


def _step(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match.group(1)) if match else -1


def forget_generation_settings(model: Any) -> None:
    """Delete what `Trainer` leaves in the configuration of any model, so that it is not saved with the weights."""
    if hasattr(model.config, "use_cache"):
        del model.config.use_cache
