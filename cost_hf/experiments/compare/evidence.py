"""What of a comparison decides: one row of every family, picked on validation, and what the test part says of them.

Families have an order of cost: untrained baselines, SASRec, generative, the ensemble of them. Calibration and oracle
rows take no part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cost_hf.evaluation.results import format_interval

FAMILIES = ("simple", "dense", "generative", "ensemble")  # cheapest first
FLIPPED = {"better": "worse", "worse": "better"}
POINT: dict[str, float | None] = {"value": None, "low": None, "high": None}
UNTRAINED = {
    "popularity": "popularity",
    "item_knn": "co-occurrence counts",
    "markov": "Markov counts",
    "text_last": "text neighbour of the last item",
    "text_mean": "text neighbour of the whole history",
    "markov_text": "sum of Markov counts and text neighbour",
}


class Outcome(NamedTuple):
    """A claim of the test part: the difference with its interval, the corrected p value, the verdict."""

    difference: Mapping[str, float]
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Evidence:
    """The part of compare.json that decides.

    Attributes:
        report: all of it.
        metric: the primary one.
        rows: judged rows of the four families by name.
        values: their primary metric on the test part.
        validation: their primary metric on the validation part.
        winners: best row on validation by family, cheapest family first.
        outcomes: claims on the primary metric by (row, other row), both ways round.
    """

    report: Mapping[str, Any]
    metric: str
    rows: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, float]
    validation: Mapping[str, float]
    winners: Mapping[str, str]
    outcomes: Mapping[tuple[str, str], Outcome]

    @property
    def is_settled(self) -> bool:
        """Whether any two winners have a verdict between them."""
        names = set(self.winners.values())
        return any(one.verdict != "undecided" and names.issuperset(pair) for pair, one in self.outcomes.items())

    @property
    def users(self) -> int:
        """Number of test users."""
        return int(self.report["protocol"]["users"])

    @property
    def detectable(self) -> float | None:
        """Smallest relative difference that would have been found; None where it is not known."""
        return (self.report["detectable_difference"] or {}).get("relative")

    def beats(self, name: str, other: str) -> bool:
        """Return whether `name` is shown to be better than `other`."""
        return (name, other) in self.outcomes and self.outcomes[name, other].verdict == "better"

    def called(self, name: str, value: float | None = None) -> str:
        """Return what a row is called in a sentence, with a figure where one is given."""
        family, figure = self.rows[name]["family"], "" if value is None else format_interval(POINT | {"value": value})
        if family in ("simple", "dense"):
            kind = "SASRec" if family == "dense" else f"the untrained {UNTRAINED.get(name, 'baseline')}"
            return f"{kind} (`{name}`{figure and ', '}{figure})"
        kind = "the generative system" if family == "generative" else "the"
        return f"{kind} `{name}`{figure and f' ({figure})'}"


def read_evidence(report: Mapping[str, Any]) -> Evidence:
    """Read compare.json; rows without a finished run are left out."""
    primary = report["protocol"]["primary"]
    metric, seen = primary["metric"], primary["seen"]
    rows = {
        name: row
        for name, row in report["rows"].items()
        if row["family"] in FAMILIES
        and row["validation"].get(metric) is not None
        and metric in row["metrics"].get(seen, {})
    }
    validation = {name: float(row["validation"][metric]) for name, row in rows.items()}
    return Evidence(
        report,
        metric,
        rows,
        values={name: float(row["metrics"][seen][metric]["value"]) for name, row in rows.items()},
        validation=validation,
        winners=family_winners({name: row["family"] for name, row in rows.items()}, validation),
        outcomes=_outcomes(report, metric, seen),
    )


def family_winners(families: Mapping[str, str], validation: Mapping[str, float]) -> dict[str, str]:
    """Return the row of every family that is best on validation, cheapest family first; the first row of equals.

    Args:
        families: by row name; others than `FAMILIES` take no part.
        validation: the primary metric on validation by row name; rows without it take no part.
    """
    winners = {}
    for family in FAMILIES:
        own = [name for name, kind in families.items() if kind == family and name in validation]
        if own:
            winners[family] = max(own, key=lambda name: validation[name])
    return winners


def _outcomes(report: Mapping[str, Any], metric: str, seen: str) -> dict[tuple[str, str], Outcome]:
    outcomes = {}
    for claim in report["claims"]:
        if (claim["metric"], claim["seen"]) != (metric, seen):
            continue
        value, low, high = (claim["difference"][part] for part in ("value", "low", "high"))
        a, b, p, verdict = claim["a"], claim["b"], claim["p_holm"], claim["verdict"]
        outcomes[a, b] = Outcome({"value": value, "low": low, "high": high}, p, verdict)
        outcomes[b, a] = Outcome({"value": -value, "low": -high, "high": -low}, p, FLIPPED.get(verdict, verdict))
    return outcomes
