"""Explanations of recommended items in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.recommenders.base import Recommendation
from cost_hf.terminal_text import terminal_line

EFFECTS = 3  # of each direction that are named
LEAST_COSINE = 0.005  # below it, texts have nothing in common
LONGEST_TITLE = 60  # characters
SMALLEST = 0.01  # share of the largest effect from which one is worth a word


def explanation_text(recommendation: Recommendation, *, shows_id: bool = True) -> str:
    """Return why an item is recommended, in a few lines.

    For a hybrid they name the parts that list the item, with its rank there, what raised its score most, and what
    lowered it: parts of a fusion with what they add, features of a learned ranker with their SHAP values (arXiv
    1802.03888). Where items have semantic IDs, a line has that of the item, and the next one the history items that
    share leading codes with it. Where items have text vectors, the last line has the history item with the most
    similar text.

    Args:
        recommendation: from `recommend(..., explain=True)`.
        shows_id: whether the semantic ID is written out.

    Raises:
        ValueError: for one without an explanation.

    Examples:
        >>> found = {"among": "all items", "parts": {"markov": 2, "text_last": 5}, "base_value": -0.5}
        >>> effects = {"markov_score": 0.41, "lists": 0.2, "text_last_rank": -0.03}
        >>> print(explanation_text(Recommendation("n7", 0.08, {"explanation": found | {"effects": effects}})))
        listed by markov (rank 2), text_last (rank 5)
        raised by markov_score +0.41, lists +0.2
        lowered by text_last_rank -0.03
        >>> path = {"codes": [3, 1], "tokens": ["<s_a_3>", "<s_b_1>"], "model_levels": 2}
        >>> found = {"among": "all items", "semantic_id": path}
        >>> found["shared_prefixes"] = [{"item_id": "n2", "title": "Pot for tea", "shared_levels": 1}]
        >>> found["nearest_texts"] = [{"item_id": "n2", "title": "Pot for tea", "cosine": 0.91}]
        >>> print(explanation_text(Recommendation("n7", -1.3, {"explanation": found})))
        semantic ID <s_a_3><s_b_1>
        shares 1 of 2 codes with "Pot for tea"
        text most like "Pot for tea" (cosine 0.91)
    """
    fields = recommendation.fields
    if "explanation" not in fields:
        if fields.get("source") == "popularity":
            return "one of the most clicked items, because the history is empty"
        raise ValueError(
            f"the recommendation of {recommendation.item_id!r} has no explanation; call recommend(..., explain=True)"
        )
    found = fields["explanation"]
    lines = _lines_of_parts(found) if "parts" in found else []
    if not lines and found["among"] != "all items":
        lines.append(f"listed among {found['among']}")
    if "semantic_id" in found:
        lines += [f"semantic ID {''.join(found['semantic_id']['tokens'])}"] if shows_id else []
        lines.append(_shared_codes(found))
    nearest = next(iter(found.get("nearest_texts", ())), None)
    if nearest is not None and nearest["cosine"] >= LEAST_COSINE:
        lines.append(f"text most like {_name(nearest)} (cosine {nearest['cosine']:.2f})")
    return "\n".join(lines)


def _lines_of_parts(found: Mapping[str, Any]) -> list[str]:
    """Return the lists of a hybrid's parts and the largest effects of both directions."""
    ranks = ", ".join(f"{part} (rank {rank:g})" for part, rank in found["parts"].items())
    among = "" if found["among"] == "all items" else f" among {found['among']}"
    effects = found["effects"]
    lines = [f"listed{among} by {ranks}"]
    for verb, sign in (("raised", 1), ("lowered", -1)):
        named = _largest(effects, sign)
        lines += [f"{verb} by {', '.join(f'{name} {effects[name]:+.2g}' for name in named)}"] if named else []
    return lines


def _shared_codes(found: Mapping[str, Any]) -> str:
    """Return the history items that share codes, those with equally many together."""
    names: dict[int, list[str]] = {}
    is_parallel = "shared_codes" in found
    for item in found["shared_codes" if is_parallel else "shared_prefixes"]:
        names.setdefault(item["shared_levels"], []).append(_name(item))
    if not names:
        return f"shares no {'' if is_parallel else 'first '}code with the history"
    first, *others = names
    shared = [f"{first} of {found['semantic_id']['model_levels']} codes with {', '.join(names[first])}"]
    shared += [f"{count} with {', '.join(names[count])}" for count in others]
    return f"shares {'; '.join(shared)}"


def _name(item: Mapping[str, Any]) -> str:
    """Return the title of an item in quotes, on one line and not too long; its id where it has none."""
    title = " ".join(terminal_line(item.get("title") or "").split())
    if not title:
        return terminal_line(item["item_id"])
    if len(title) > LONGEST_TITLE:
        title = title[: LONGEST_TITLE - 2].rsplit(" ", 1)[0] + " …"
    return f'"{title}"'


def _largest(effects: Mapping[str, float], sign: int) -> Sequence[str]:
    """Return the names of the largest effects of one direction, largest first."""
    least = SMALLEST * max(map(abs, effects.values()), default=0.0)
    chosen = [name for name, value in effects.items() if value * sign > 0 and abs(value) >= least]
    return sorted(chosen, key=lambda name: -abs(effects[name]))[:EFFECTS]
