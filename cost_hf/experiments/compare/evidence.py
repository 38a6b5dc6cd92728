"""The evidence of a comparison: the best row of every family on validation, and the tests between them.

Families are ordered by cost. A hybrid with generative parts costs more than the same one without them. Calibration and
oracle rows are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cost_hf.methods.base import FAMILIES
from cost_hf.reporting import numbers
from cost_hf.reporting.words import OPPOSITE


class Outcome(NamedTuple):
    """A claim of the test part: the difference with its interval, the corrected p value, the verdict."""

    difference: Mapping[str, float]
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Evidence:
    """The part of compare.json that a recommendation is made from.

    Attributes:
        report: content of compare.json.
        metric: the primary one.
        rows: rows with results, of all families, by name.
        values: their primary metric on the test part.
        validation: their primary metric on the validation part.
        winners: best row on validation by family, cheapest family first.
        selected: the winners, and the row without generative parts of a hybrid winner that has some; cheapest first.
        outcomes: claims on the primary metric by (row, other row), in both directions.
    """

    report: Mapping[str, Any]
    metric: str
    rows: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, float]
    validation: Mapping[str, float]
    winners: Mapping[str, str]
    selected: list[str]
    outcomes: Mapping[tuple[str, str], Outcome]

    @property
    def is_conclusive(self) -> bool:
        """Whether the test between any two selected rows has a result."""
        names = set(self.selected)
        return any(one.verdict != "inconclusive" and names.issuperset(pair) for pair, one in self.outcomes.items())

    @property
    def users(self) -> int:
        """Number of test users."""
        return int(self.report["protocol"]["users"])

    @property
    def detectable(self) -> float | None:
        """Smallest relative difference that would have been detected; None where it is not known."""
        return (self.report["detectable_difference"] or {}).get("relative")

    def beats(self, name: str, other: str) -> bool:
        """Return whether `name` is significantly better than `other`."""
        return (name, other) in self.outcomes and self.outcomes[name, other].verdict == "better"

    def parts(self, name: str) -> list[str]:
        """Return what a hybrid row combines; none for other rows."""
        return list(self.rows[name].get("parts") or [])

    @property
    def generator_tests(self) -> list[tuple[str, str]]:
        """Pairs of hybrid rows that differ by their generative parts alone, the one that has them first."""
        pairs = [(name, row.get("without_generative")) for name, row in self.rows.items()]
        return [(name, other) for name, other in pairs if other is not None and (name, other) in self.outcomes]

    def label(self, name: str, value: float | None = None) -> str:
        """Return what a row is, with its name and a figure where one is given: `most clicked items (popularity)`."""
        summary = self.rows[name].get("summary") or ""
        known = ", ".join([f"`{name}`", *([] if value is None else [numbers.score(value)])])
        return f"{summary} ({known})" if summary else known


def read_evidence(report: Mapping[str, Any]) -> Evidence:
    """Read compare.json; rows without a finished run are left out."""
    primary = report["protocol"]["primary"]
    metric = primary["metric"]
    seen = primary["seen"]
    rows = {
        name: row
        for name, row in report["rows"].items()
        if row["family"] in FAMILIES
        and row["validation"].get(metric) is not None
        and metric in row["metrics"].get(seen, {})
    }
    validation = {name: float(row["validation"][metric]) for name, row in rows.items()}
    winners = family_winners({name: row["family"] for name, row in rows.items()}, validation)
    return Evidence(
        report,
        metric,
        rows,
        values={name: float(row["metrics"][seen][metric]["value"]) for name, row in rows.items()},
        validation=validation,
        winners=winners,
        selected=selected_rows(winners, {name: row.get("without_generative") for name, row in rows.items()}),
        outcomes=_outcomes(report, metric, seen),
    )


def family_winners(families: Mapping[str, str], validation: Mapping[str, float]) -> dict[str, str]:
    """Return the row of every family that is best on validation, cheapest family first; the first one of equals.

    Args:
        families: by row name; rows of others than `FAMILIES` are left out.
        validation: the primary metric on validation by row name; rows without it are left out.
    """
    winners = {}
    for family in FAMILIES:
        own = [name for name, found in families.items() if found == family and name in validation]
        if own:
            winners[family] = max(own, key=lambda name: validation[name])
    return winners


def selected_rows(winners: Mapping[str, str], without_generative: Mapping[str, str | None]) -> list[str]:
    """Return the rows between which the test part decides, cheapest first.

    Args:
        winners: as `family_winners` returns them.
        without_generative: for every row with results, the one that differs by the generative parts alone.
    """
    selected = []
    for name in winners.values():
        other = without_generative.get(name)
        selected += [other, name] if other is not None and other in without_generative else [name]
    return selected


def quoted(names: list[str]) -> list[str]:
    """Return row names between backticks."""
    return [f"`{name}`" for name in names]


def enumerated(texts: list[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return " and ".join([*([", ".join(texts[:-1])] if texts[:-1] else []), *texts[-1:]])


def _outcomes(report: Mapping[str, Any], metric: str, seen: str) -> dict[tuple[str, str], Outcome]:
    outcomes = {}
    for claim in report["claims"]:
        if (claim["metric"], claim["seen"]) != (metric, seen):
            continue
        value, low, high = (claim["difference"][part] for part in ("value", "low", "high"))
        a = claim["a"]
        b = claim["b"]
        verdict = claim["verdict"]
        outcomes[a, b] = Outcome({"value": value, "low": low, "high": high}, claim["p_holm"], verdict)
        negated = {"value": -value, "low": -high, "high": -low}
        outcomes[b, a] = Outcome(negated, claim["p_holm"], OPPOSITE.get(verdict, verdict))
    return outcomes
