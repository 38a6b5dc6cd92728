"""From a finished comparison to advice: which system to use, on what evidence, at what cost.

1. Validation picks one row of every family; the test part decides between these rows only.
2. The advice is the cheapest picked row that no other picked row is shown to beat. An undecided comparison so favours
   the cheaper side, and the advice says how large a difference could have stayed unseen.
3. With fewer than 300 users, with a detectable difference above 25 % while no comparison is settled, or with rows of
   one family only, nothing is recommended.
"""

from collections.abc import Mapping
from typing import Any

from cost_hf.experiments.compare import advice
from cost_hf.experiments.compare.evidence import Evidence, read_evidence

CHOICES = {"simple": "simple", "dense": "dense", "generative": "generative", "ensemble": "both"}
TOO_LITTLE = "too_little_data"
MIN_USERS = 300
MAX_DETECTABLE = 0.25


def recommend(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return `choice` (`simple`, `dense`, `generative`, `both`, `too_little_data`), `headline` and `paragraphs`.

    Args:
        report: compare.json, of which `rows`, `claims`, `detectable_difference`, `data` and `protocol` are read. Claims
            on the primary metric between any two picked rows count, whatever their purpose.
    """
    evidence = read_evidence(report)
    unsupported_reason = _unsupported_reason(evidence)
    if unsupported_reason is not None:
        return {"choice": TOO_LITTLE, "headline": unsupported_reason, "paragraphs": advice.paragraphs(evidence, None)}
    family = _cheapest_unbeaten(evidence)
    return {
        "choice": CHOICES[family],
        "headline": _headline(evidence, family),
        "paragraphs": advice.paragraphs(evidence, evidence.winners[family]),
    }


def _unsupported_reason(evidence: Evidence) -> str | None:
    """Return why nothing can be recommended; None where something can."""
    if len(evidence.winners) < 2:
        return "Nothing to choose between yet: fewer than two kinds of systems have a finished run."
    if evidence.users < MIN_USERS:
        return f"Too little data to choose a system: {evidence.users} test users, at least {MIN_USERS} are needed."
    limit = evidence.detectable
    if not evidence.is_settled and (limit is None or limit > MAX_DETECTABLE):
        shown = "no difference at all" if limit is None else f"only differences above {100 * limit:.0f} %"
        return f"Too little data to choose a system: {evidence.users} test users show {shown}, and none was found."
    return None


def _cheapest_unbeaten(evidence: Evidence) -> str:
    # a better row has the higher value, so the highest one is unbeaten and there is always an answer
    rivals = evidence.winners.values()
    return next(
        family for family, own in evidence.winners.items() if not any(evidence.beats(rival, own) for rival in rivals)
    )


def _headline(evidence: Evidence, family: str) -> str:
    name = evidence.winners[family]
    if family == "simple":
        return f"Use {evidence.called(name)}: no trained system is shown to be better."
    if family == "ensemble":
        parts = [other for other in evidence.winners.values() if other != name]
        is_best = all(evidence.beats(name, part) for part in parts)
        reason = "better than the best of each kind" if is_best else "the only one that no other is shown to beat"
        return f"Use {_together(evidence, name)} together (`{name}`): {reason}."
    return f"Use {evidence.called(name)}: the cheapest system that no other is shown to beat."


def _together(evidence: Evidence, ensemble: str) -> str:
    """Return what an ensemble is made of; validation may have left parts without a weight."""
    used = [name for name, weight in evidence.rows[ensemble].get("weights", {}).items() if weight > 0]
    families = {evidence.rows[name]["family"] for name in used if name in evidence.rows}
    if not used or families.issuperset(("dense", "generative")):
        return "both, SASRec and generative,"
    return " and ".join(f"`{name}`" for name in used)
