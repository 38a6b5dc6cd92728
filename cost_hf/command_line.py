"""What all commands have in common: arguments, quiet logs, and errors that the user can fix, in one line.

Nothing here imports torch or transformers before a command runs: a misspelt argument is reported at once.
"""

import argparse
import errno
import glob
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

from cost_hf.quantizers.base import CodebookCollapse
from cost_hf.recommenders.sources import check_source
from cost_hf.terminal_text import terminal_text
from cost_hf.version import __version__
from cost_hf.yaml_text import read_yaml

# of a user: data, recipe, path, item or network; anything else is a bug and shows its trace
USER_ERRORS = (CodebookCollapse, FloatingPointError, ValueError, OSError)


class ArgumentsError(ValueError):
    """The arguments of a command are incomplete, unknown or of a wrong form."""


class CommandParser(argparse.ArgumentParser):
    """Parses the arguments of one command, in full names alone; `--version` is there for every command."""

    def __init__(self, program: str, description: str, *, epilog: str | Callable[[], str] | None = None):
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._epilog = epilog
        self.add_argument("--version", action="version", version=f"cost-hf {__version__}")

    def add_reading_arguments(self, example: str, *, default: str = " [as in the run]") -> None:
        """Add `--columns` and `--data`, by which files are read otherwise than those of the training.

        Args:
            example: field and value of `--data`, for its help.
            default: what is taken without them, for the help.
        """
        self.add_argument(
            "--columns",
            type=columns_argument,
            default=None,
            help=f"our column -> name in the files, as YAML: {{item_id: asin}}{default}",
        )
        self.add_argument(
            "--data",
            type=mapping_argument,
            default={},
            help=f"other fields of the data section by which the files are read, as YAML: {{{example}}}{default}",
        )

    def format_help(self) -> str:
        """Return the help; an epilog that is a function is called now, since it may take time to write."""
        self.epilog = self._epilog() if callable(self._epilog) else self._epilog
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise `ArgumentsError`; `report_errors` makes one line of it."""
        raise ArgumentsError(f"{message} (`{self.prog} --help` lists all arguments)")

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        super()._print_message(terminal_text(message), file)


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return terminal_text(super().format(record))


def set_up_logging() -> None:
    """Print messages as they are, without what libraries log about every request and every weight."""
    from transformers.utils.logging import disable_progress_bar

    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    disable_progress_bar()


def check_target(path: str | None, *, is_directory: bool) -> None:
    """Raise OSError where a file or directory that a command is to write can't be, before any work is done."""
    if path is None:
        return
    target = Path(path)
    if target.exists() and target.is_dir() != is_directory:
        found, wanted = ("file", "directory") if is_directory else ("directory", "file")
        raise OSError(f"{path!r} is a {found}, expected a {wanted}; move it away or give another path")
    place = target
    while not place.exists() and place != place.parent:
        place = place.parent
    if place != target and not place.is_dir():
        raise OSError(f"{str(place)!r} is a file, expected a directory; move it away or give another path")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{str(place)!r} can't be written to; give another path or change its permissions")


def source_argument(text: str) -> str:
    """Return a run or recommender directory, or a Hub id, for argparse: a path has to exist."""
    try:
        check_source(text)
    except FileNotFoundError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def file_argument(text: str) -> str:
    """Return a file that is there, or a pattern that matches some, for argparse."""
    if not Path(text).is_file() and not (glob.has_magic(text) and glob.glob(text)):  # noqa: PTH207  may be absolute
        state = "is a directory, expected a file" if Path(text).is_dir() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {state}; check the path")
    return text


def columns_argument(text: str) -> dict[str, str]:
    """Return a map of our columns to their names in a file, for argparse."""
    try:
        columns = read_yaml(text)
    except ValueError:
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(part, str) for pair in columns.items() for part in pair):
        raise argparse.ArgumentTypeError(
            f"expected a map of names as YAML, such as '{{item_id: asin}}', got {text!r:.80}"
        )
    return columns


def mapping_argument(text: str) -> dict[str, Any]:
    """Return a map of names to values, for argparse."""
    try:
        found = read_yaml(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise argparse.ArgumentTypeError(
            f"expected names with values as YAML, such as '{{brand: 2}}', got {text!r:.80}"
        )
    return found


def port_error(host: str, port: int, error: OSError) -> OSError:
    """Return the error of a port that a server can't listen at, with its reason."""
    reasons = {
        errno.EADDRINUSE: "another program uses it",
        errno.EACCES: "this user may not use it",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }
    reason = reasons.get(error.errno or 0, str(error))
    return OSError(f"port {port} at {host} can't be used ({reason}); give another --port or --host")


def print_text(text: object) -> None:
    """Print text that may hold words of a catalog or a file."""
    print(terminal_text(text))


def report_errors(action: Callable[[], object]) -> int:
    """Run and return the exit status: 0, 2 for an error that the user can fix, 130 where they stopped it."""
    from cost_hf.files import first_line, is_out_of_memory, readable_os_errors

    try:
        with readable_os_errors():
            action()
    except USER_ERRORS as error:
        return _report(error)
    except KeyError as error:
        if not _is_sentence(error):
            raise
        return _report(error.args[0])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _report(
            f"no memory is left ({first_line(error)}); lower the batch sizes, or free some memory, and run again"
        )
    except KeyboardInterrupt:
        print("stopped; the same command resumes from here", file=sys.stderr)
        return 130
    return 0


def _report(error: object) -> int:
    print(terminal_text(f"error: {error}"), file=sys.stderr)
    return 2


def _is_sentence(error: KeyError) -> bool:
    """Return whether a KeyError explains itself, as those of unknown items do; a missing key is a bug."""
    return len(error.args) == 1 and isinstance(error.args[0], str) and " " in error.args[0]
