"""What all commands have in common: quiet logs, and errors that the user can mend in one line."""

import logging
import sys
from collections.abc import Callable

from transformers.utils.logging import disable_progress_bar

from cost_hf.quantizer_training.health import CodebookCollapse

# of a user: data, recipe, path, item or network; anything else is a bug and shows its trace
USER_ERRORS = (CodebookCollapse, FloatingPointError, ValueError, OSError)


def set_up_logging() -> None:
    """Print messages as they are, without what libraries tell of every request and every weight that they load."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    disable_progress_bar()


def report_errors(action: Callable[[], object]) -> int:
    """Run and return the exit status: 0, 2 for an error that the user can mend, 130 where they stopped it."""
    try:
        action()
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
