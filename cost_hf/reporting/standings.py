"""The order of the rows of a report, which of them are ranked, and the row that the others are compared with.

Only finished systems are ranked. Rows that failed or are not started follow with their message. Calibration and oracle
rows are shown apart: they use information that a system in use does not have.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cost_hf.reporting.words import OPPOSITE, REFERENCE_NOTES

DEFAULT_PRIMARY = {"metric": "ndcg@10", "unit": "item", "seen": "seen_allowed"}
SHOWN_METRICS = ("ndcg@10", "recall@10")


@dataclass(frozen=True)
class Standings:
    """The rows of a comparison in the order of the report.

    Attributes:
        compare: content of compare.json, or a results.json in this shape.
    """

    compare: Mapping[str, Any]

    @cached_property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """All rows by name."""
        return self.compare.get("rows") or {}

    @cached_property
    def primary(self) -> Mapping[str, str]:
        """The primary `metric` and `seen` setting, fixed before the runs."""
        return DEFAULT_PRIMARY | ((self.compare.get("protocol") or {}).get("primary") or {})

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the main table, the primary one first."""
        return tuple(dict.fromkeys([self.primary["metric"], *SHOWN_METRICS]))

    @cached_property
    def main(self) -> str | None:
        """The row that the others are compared with: the one with most claims, of the generative ones if there are any.

        Ties are resolved by the validation score.
        """
        claims = self.compare.get("claims") or []
        candidates = [name for name, row in self.rows.items() if row.get("family") == "generative"]
        candidates = candidates or [name for name in self.rows if any(claim["a"] == name for claim in claims)]

        def weight(name: str) -> tuple[int, float]:
            validation = (self.rows[name].get("validation") or {}).get(self.primary["metric"])
            return sum(name in (claim["a"], claim["b"]) for claim in claims), validation or 0.0

        return max(candidates, key=weight, default=None)

    @cached_property
    def ranked(self) -> list[str]:
        """Finished systems, best first by the primary metric."""
        return self.best_first(
            name for name, row in self.rows.items() if _is_done(row) and row.get("family") not in REFERENCE_NOTES
        )

    @cached_property
    def waiting(self) -> list[str]:
        """Systems that failed, are unfinished or were not started."""
        return self.best_first(
            name for name, row in self.rows.items() if not _is_done(row) and row.get("family") not in REFERENCE_NOTES
        )

    @cached_property
    def reference(self) -> list[str]:
        """Rows for reference, which are not ranked."""
        return self.best_first(name for name, row in self.rows.items() if row.get("family") in REFERENCE_NOTES)

    @property
    def in_order(self) -> list[str]:
        """All rows: ranked, waiting, reference."""
        return [*self.ranked, *self.waiting, *self.reference]

    def family(self, name: str) -> str:
        """Return the family of a row, empty where it is unknown."""
        return self.rows.get(name, {}).get("family") or ""

    def cell(self, name: str, metric: str, *, seen: str, unit: str = "metrics") -> Mapping[str, Any] | None:
        """Return `{value, low, high, …}` of a row, or None where there is no value; `unit` is `metrics` or `sid`."""
        cell = ((self.rows.get(name, {}).get(unit) or {}).get(seen) or {}).get(metric)
        return cell if cell and cell.get("value") is not None else None

    def against_main(self, name: str, *, seen: str) -> Mapping[str, Any] | None:
        """Return the claim on `name` minus the main row on the primary metric, or None without one."""
        for claim in self.compare.get("claims") or []:
            is_wanted = claim["metric"] == self.primary["metric"] and claim["seen"] == seen and name != self.main
            if is_wanted and {claim["a"], claim["b"]} == {name, self.main}:
                return claim if claim["a"] == name else _negated(claim)
        return None

    def best_first(self, names: Iterable[str], *, seen: str | None = None) -> list[str]:
        """Return names sorted by the primary metric, in the primary setting of seen items or in another."""

        def key(name: str) -> tuple[float, str]:
            cell = self.cell(name, self.primary["metric"], seen=seen or self.primary["seen"])
            return -(cell["value"] if cell else float("-inf")), name

        return sorted(names, key=key)


def known_seen(standings: Standings) -> Sequence[str]:
    """Return the settings of seen items that any row has, the primary one first."""
    found = {seen for row in standings.rows.values() for seen in row.get("metrics") or {}}
    first = standings.primary["seen"]
    return [first, *sorted(found - {first})]


def _is_done(row: Mapping[str, Any]) -> bool:
    return row.get("status", "done") == "done"


def _negated(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claim about b minus a; the relative difference refers to b and is left out."""
    difference = claim["difference"]
    bounds = {"low": difference.get("high"), "high": difference.get("low")}
    negated = {key: None if value is None else -value for key, value in bounds.items()}
    verdict = claim.get("verdict") or ""
    return {
        **claim,
        "a": claim["b"],
        "b": claim["a"],
        "difference": {"value": -difference["value"], **negated},
        "relative": None,
        "verdict": OPPOSITE.get(verdict, verdict),
    }
