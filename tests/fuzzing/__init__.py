"""Any input ends in a result or in an error of ours: quick forms for every run, long ones that are marked slow."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # every example writes its own file
quick = settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
long = settings(max_examples=5_000, deadline=None, suppress_health_check=QUIET)


def ends_in_an_error_of_ours(action: Callable[[], Any]) -> None:
    """Run an action, which may raise what a user is shown in one line, and nothing else."""
    try:
        action()
    except (ValueError, OSError) as error:
        kind = type(error)
        assert kind.__module__.startswith("cost_hf.") or kind.__module__ == "builtins", repr(error)
        assert not isinstance(error, UnicodeError), repr(error)  # says where in the bytes, not in which file
        assert str(error)


slow = pytest.mark.slow  # minutes of examples
