"""Problems of a data set, each with the flag that fixes it."""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Problem:
    """What is wrong and what to do.

    Attributes:
        severity: `error` stops a training run, `warning` spoils its result, `note` is good to know.
        message: one sentence.
        remedy: a flag to add or an action; empty where nothing can be done.
        count: number of rows that it is about; None where it is about no rows.
        first: file and line of the first of them.
    """

    severity: str
    message: str
    remedy: str = ""
    count: int | None = None
    first: str | None = None


def by_severity(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with errors first, then warnings, then notes; the order within a kind stays."""
    return sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity))
