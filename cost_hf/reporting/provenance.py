"""How the numbers were made: protocol, leakage, seeds, versions, digests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.page import Section
from cost_hf.reporting.standings import Standings

SPLITS = {"leave_one_out": "leave one out", "source": "as marked by the source", "time": "by time"}
DIGEST_SHOWN = 16
DIGESTS = (("data", "digest"), ("split", "split_digest"))
TOLD_ELSEWHERE = (
    "alpha",
    "bootstrap_draws",
    "cases",
    "cutoffs",
    "equivalence_margin",
    "exclude_seen",
    "num_beams",
    "primary",
    "users",
)


def protocol_sentences(standings: Standings) -> tuple[str, ...]:
    """Return how the cases were made and judged, then what a reader must know about leakage."""
    protocol, data = (standings.compare.get(key) or {} for key in ("protocol", "data"))
    parts = []
    if protocol.get("cases") is not None:
        users = f" of {words.plural(protocol['users'], 'user')}" if protocol.get("users") is not None else ""
        parts.append(words.plural(protocol["cases"], "test case") + users)
    if data.get("split"):
        parts.append(f"split: {SPLITS.get(data['split'], words.spaced(data['split']))}")
    if protocol.get("num_beams") is not None:
        parts.append(f"{protocol['num_beams']} beams")
    metric, seen = words.metric_name(standings.primary["metric"]), words.SEEN.get(standings.primary["seen"], "")
    parts += [f"primary metric: {metric} on items", seen.lower()]
    sentence = "; ".join(part for part in parts if part) + "."
    note = str(data.get("note") or "").strip().rstrip(".")
    return (sentence, f"{note[:1].upper()}{note[1:]}.") if note else (sentence,)


def making_section(standings: Standings) -> Section:
    """Return the facts needed to make the same numbers again."""
    compare = standings.compare
    protocol, data = (compare.get(key) or {} for key in ("protocol", "data"))
    facts = [*_judging(protocol), *_seeds(compare.get("seeds"))]
    facts += [(words.spaced(key), str(value)) for key, value in protocol.items() if _is_plain(key, value)]
    facts.append(("counts", _named(data.get("counts"), numbers.amount)))
    facts.append(("shares", _named(data.get("shares"), numbers.percent)))
    facts += [(f"digest of the {part}", str(data.get(key) or "")[:DIGEST_SHOWN]) for part, key in DIGESTS]
    versions = compare.get("versions") or {}
    facts.append(("versions", ", ".join(f"{name} {text}" for name, text in versions.items())))
    facts.append(("device", str(compare.get("device") or "")))
    if compare.get("seconds") is not None:
        facts.append(("time in all", numbers.duration(compare["seconds"])))
    return Section("making", "How the numbers were made", facts=tuple((name, text) for name, text in facts if text))


def _judging(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if protocol.get("bootstrap_draws") is not None:
        facts.append(("intervals", f"95 %, {numbers.amount(protocol['bootstrap_draws'])} bootstrap draws"))
    if protocol.get("alpha") is not None:
        facts.append(("better, worse", f"p after Holm's correction below {numbers.ratio(protocol['alpha'])}"))
    if protocol.get("equivalence_margin") is not None:
        margin = numbers.percent(protocol["equivalence_margin"], digits=0)
        facts.append(("equivalent", f"the difference lies within ±{margin} of the second row's value"))
    if protocol.get("cutoffs"):
        facts.append(("list lengths", ", ".join(map(str, protocol["cutoffs"]))))
    return facts


def _seeds(seeds: Mapping[str, Any] | int | None) -> list[tuple[str, str]]:
    if seeds is None:
        return []
    if not isinstance(seeds, Mapping):
        return [("seed", str(seeds))]
    facts = []
    if seeds.get("quantizer") is not None:
        facts.append(("quantizer seeds", ", ".join(map(str, seeds["quantizer"]))))
    if seeds.get("generators_per_quantizer") is not None:
        facts.append(("generators per quantizer", str(seeds["generators_per_quantizer"])))
    return facts


def _is_plain(key: str, value: object) -> bool:
    return key not in TOLD_ELSEWHERE and isinstance(value, str | int | float) and not isinstance(value, bool)


def _named(values: Mapping[str, Any] | None, write: Callable[[Any], str]) -> str:
    return ", ".join(
        f"{words.SHARES.get(name, words.spaced(name))} {write(value)}" for name, value in (values or {}).items()
    )


def data_facts(standings: Standings) -> tuple[tuple[str, str], ...]:
    """Return the few figures that stand below the headline: sizes, cases, hard targets."""
    protocol, data = (standings.compare.get(key) or {} for key in ("protocol", "data"))
    counts, shares = data.get("counts") or {}, data.get("shares") or {}
    facts: list[tuple[str, str]] = [(name, numbers.amount(counts[name])) for name in words.COUNTS if name in counts]
    if protocol.get("cases") is not None:
        facts.append(("test cases", numbers.amount(protocol["cases"])))
    targets: Sequence[str] = ("repeated_target", "unseen_target")
    facts += [(words.SHARES[key], numbers.percent(shares[key])) for key in targets if shares.get(key) is not None]
    return tuple(facts)
