"""From a finished comparison to a recommendation: which system to use, on what evidence, at what cost.

1. Validation selects the best row of every family; the test part decides between these rows only. Where the best
   hybrid has generative parts, the same hybrid without them is selected too.
2. Recommended is the cheapest selected row that no other selected row significantly outperforms. An inconclusive
   test therefore favours the cheaper side, and the text gives the size of a difference that could have been missed.
   A generator is thus recommended, alone or in a hybrid, only where it adds something to what costs less.
3. Nothing is recommended with fewer than 300 users, with a detectable difference above 25 % while no test is
   conclusive, or with rows of one family only.
"""

from collections.abc import Mapping
from typing import Any

from cost_hf.experiments.compare.advice import paragraphs
from cost_hf.experiments.compare.evidence import Evidence, read_evidence
from cost_hf.reporting import numbers

TOO_LITTLE = "too_little_data"
MIN_USERS = 300
MAX_DETECTABLE = 0.25


def recommend(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return `choice` (a family, or `too_little_data`), `row` (None where there is none), `headline`, `paragraphs`.

    Args:
        report: compare.json, of which `rows`, `claims`, `detectable_difference`, `data` and `protocol` are read. All
            claims on the primary metric between selected rows count, whatever their purpose.
    """
    evidence = read_evidence(report)
    unsupported_reason = _unsupported_reason(evidence)
    if unsupported_reason is not None:
        texts = paragraphs(evidence, None)
        return {"choice": TOO_LITTLE, "row": None, "headline": unsupported_reason, "paragraphs": texts}
    name = _cheapest_unbeaten(evidence)
    return {
        "choice": evidence.rows[name]["family"],
        "row": name,
        "headline": _headline(evidence, name),
        "paragraphs": paragraphs(evidence, name),
    }


def _unsupported_reason(evidence: Evidence) -> str | None:
    """Return why nothing can be recommended; None where something can."""
    if len(evidence.winners) < 2:
        return "No recommendation yet: fewer than two families of systems have a finished run."
    users = numbers.amount(evidence.users)
    if evidence.users < MIN_USERS:
        return f"Too little data for a recommendation: {users} test users, at least {MIN_USERS} are needed."
    limit = evidence.detectable
    if not evidence.is_conclusive and (limit is None or limit > MAX_DETECTABLE):
        shown = "no difference" if limit is None else f"only differences above {numbers.percent(limit, digits=0)}"
        return f"Too little data for a recommendation: {users} test users show {shown}, and no test is conclusive."
    return None


def _cheapest_unbeaten(evidence: Evidence) -> str:
    # a better row has the higher value, so the one with the highest is unbeaten and there is always an answer
    names = evidence.selected
    return next(own for own in names if not any(evidence.beats(name, own) for name in names))


def _headline(evidence: Evidence, name: str) -> str:
    family = evidence.rows[name]["family"]
    if family == "counting":
        return f"Use {evidence.label(name)}: no trained system is significantly better."
    others = [other for other in evidence.selected if evidence.rows[other]["family"] != family]
    if others and all(evidence.beats(name, other) for other in others):
        return f"Use {evidence.label(name)}: significantly better than the best of each other family."
    return f"Use {evidence.label(name)}: the cheapest system that no other significantly outperforms."
