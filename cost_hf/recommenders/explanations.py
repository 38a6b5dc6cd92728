"""Explanations of recommended items in words."""

from collections.abc import Mapping, Sequence

from cost_hf.recommenders.base import Recommendation

EFFECTS = 3  # of each direction that are named
SMALLEST = 0.01  # share of the largest effect from which one is worth a word


def explanation_text(recommendation: Recommendation) -> str:
    """Return why an item is recommended, in up to three lines.

    They name the parts that list the item, with its rank there, what raised its score most, and what lowered it: parts
    of a fusion with what they add, features of a learned ranker with their SHAP values (arXiv 1802.03888).

    Args:
        recommendation: from `recommend(..., explain=True)`.

    Raises:
        ValueError: for one without an explanation.

    Examples:
        >>> found = {"among": "all items", "parts": {"markov": 2, "text_last": 5}, "base_value": -0.5}
        >>> effects = {"markov_score": 0.41, "lists": 0.2, "text_last_rank": -0.03}
        >>> print(explanation_text(Recommendation("n7", 0.08, {"explanation": found | {"effects": effects}})))
        listed by markov (rank 2), text_last (rank 5)
        raised by markov_score +0.41, lists +0.2
        lowered by text_last_rank -0.03
    """
    fields = recommendation.fields
    if "explanation" not in fields:
        if fields.get("source") == "popularity":
            return "one of the most clicked items, because the history is empty"
        raise ValueError(
            f"the recommendation of {recommendation.item_id!r} has no explanation; call recommend(..., explain=True)"
        )
    found = fields["explanation"]
    ranks = ", ".join(f"{part} (rank {rank:g})" for part, rank in found["parts"].items())
    among = "" if found["among"] == "all items" else f" among {found['among']}"
    effects = found["effects"]
    lines = [f"listed{among} by {ranks}"]
    for verb, sign in (("raised", 1), ("lowered", -1)):
        named = _largest(effects, sign)
        lines += [f"{verb} by {', '.join(f'{name} {effects[name]:+.2g}' for name in named)}"] if named else []
    return "\n".join(lines)


def _largest(effects: Mapping[str, float], sign: int) -> Sequence[str]:
    """Return the names of the largest effects of one direction, largest first."""
    least = SMALLEST * max(map(abs, effects.values()), default=0.0)
    chosen = [name for name, value in effects.items() if value * sign > 0 and abs(value) >= least]
    return sorted(chosen, key=lambda name: -abs(effects[name]))[:EFFECTS]
