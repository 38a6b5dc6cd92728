"""train.py that prints its log and stops in front of a chosen line of it, until it is killed from outside.

`python -m tests.paused_run [--kill-process-1] PATTERN [arguments of train.py]`. Training steps are made log lines as
well. With the option the second process of a launch kills itself there, and the first one goes on.
"""

import logging
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from transformers.trainer_callback import DefaultFlowCallback

from cost_hf.experiments.commands import train_main

logger = logging.getLogger("cost_hf.steps")


class PausingHandler(logging.Handler):
    """Prints every message; says `paused` and sleeps at the first one that matches."""

    def __init__(self, pattern: str, *, kills_process_1: bool) -> None:
        super().__init__()
        self.pattern = re.compile(pattern)
        self.kills_process_1 = kills_process_1

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        is_the_point = self.pattern.search(message)
        if self.kills_process_1 and is_the_point:
            if os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            is_the_point = None
        print(f"paused: {message}" if is_the_point else message, flush=True)
        if is_the_point:
            time.sleep(3600)


def log_steps() -> None:
    """Add a log line to the end of every training step, in the callback that each `Trainer` has."""
    stock = DefaultFlowCallback.on_step_end

    def on_step_end(self: DefaultFlowCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        logger.debug("step %d of %s", state.global_step, Path(args.output_dir).parent.name)
        return stock(self, args, state, control, **kwargs)

    DefaultFlowCallback.on_step_end = on_step_end


def main() -> int:
    kills_process_1 = sys.argv[1] == "--kill-process-1"
    pattern, *arguments = sys.argv[2 if kills_process_1 else 1 :]
    handler = PausingHandler(pattern, kills_process_1=kills_process_1)
    # Trainer tells when it writes a checkpoint, transformers when a model is written
    for name, level in (("cost_hf", logging.DEBUG), ("transformers", logging.WARNING)):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    for name in ("trainer", "modeling_utils", "configuration_utils"):
        logging.getLogger(f"transformers.{name}").setLevel(logging.INFO)
    log_steps()
    return train_main(arguments)


if __name__ == "__main__":
    sys.exit(main())
