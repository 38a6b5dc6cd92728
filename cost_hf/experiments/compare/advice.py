"""The paragraphs of a recommendation: validation, test, cost, and what would change the advice."""

from collections.abc import Mapping, Sequence

from cost_hf.evaluation.results import format_interval
from cost_hf.experiments.compare.evidence import Evidence

WORTH_SEEING = 0.05  # relative difference that the wanted number of users is given for
COSTS = (("training_minutes", 1, "training minutes"), ("request_ms", 1, "ms a request"), ("peak_mb", 0, "MB at peak"))


def paragraphs(evidence: Evidence, chosen: str | None) -> list[str]:
    """Return what speaks for the chosen row, or what is known where none is chosen; empty paragraphs are left out."""
    texts = [
        _toy_note(evidence),
        _validation(evidence),
        _test(evidence, chosen),
        _cost(evidence, chosen),
        _what_would_change(evidence),
    ]
    return [text for text in texts if text]


def _toy_note(evidence: Evidence) -> str:
    is_toy = evidence.report["data"].get("is_toy", False)
    return "These are toy data: they show how the comparison works, not which system is better." if is_toy else ""


def _validation(evidence: Evidence) -> str:
    """Say who was picked on validation, and whether something untrained leads on the test part."""
    winners = evidence.winners.values()
    if not winners:
        return ""
    best = max(winners, key=lambda name: evidence.validation[name])
    listed = ", ".join(evidence.called(name, evidence.validation[name]) for name in winners)
    sentences = [f"Validation ({evidence.metric.upper()}): `{best}` is first. Best of each kind: {listed}."]
    trained = [name for name, row in evidence.rows.items() if row["family"] in ("dense", "generative")]
    if trained:
        leader = max(trained, key=lambda name: evidence.values[name])
        ahead = [
            evidence.called(name, evidence.values[name])
            for name, row in evidence.rows.items()
            if row["family"] == "simple" and evidence.values[name] > evidence.values[leader]
        ]
        if ahead:
            against = f"the best trained one, {evidence.called(leader, evidence.values[leader])}"
            sentences.append(f"On the test part {_joined(ahead)} {_are(ahead)} ahead of {against}.")
    return " ".join(sentences)


def _test(evidence: Evidence, chosen: str | None) -> str:
    """Say what the test part decides about the chosen row, or about all winners where none is chosen."""
    winners = list(evidence.winners.values())
    if chosen is None:
        pairs = [(a, b) for place, b in enumerate(winners) for a in winners[place + 1 :]]
    else:
        pairs = [(chosen, other) for other in winners if other != chosen]
        cheaper = [other for other in winners[: winners.index(chosen)] if not evidence.beats(chosen, other)]
        pairs += [(rival, other) for other in cheaper for rival in winners if evidence.beats(rival, other)]
    pairs = [pair for pair in pairs if pair in evidence.outcomes]
    sentences = [_outcome(evidence, a, b) for a, b in pairs]
    detectable = evidence.report["detectable_difference"]
    if detectable and any(evidence.outcomes[pair].verdict == "undecided" for pair in pairs):
        sentences.append(f"Undecided is not equal: {detectable['text'][0].lower()}{detectable['text'][1:]}")
    return " ".join(["Test part:", *sentences]) if sentences else ""


def _outcome(evidence: Evidence, a: str, b: str) -> str:
    outcome, base = evidence.outcomes[a, b], evidence.values[b]
    change = format_interval(outcome.difference, signed=True)
    relative = f" ({100 * outcome.difference['value'] / base:+.1f} %)" if base else ""
    return f"`{a}` against `{b}`: {change}{relative}, p = {outcome.p_holm:.3f} after correction, {outcome.verdict}."


def _cost(evidence: Evidence, chosen: str | None) -> str:
    """Say what the chosen row and the generative one cost; dense and generative where none is chosen."""
    wanted = (chosen or evidence.winners.get("dense"), evidence.winners.get("generative"))
    listed = []
    for name in dict.fromkeys(name for name in wanted if name is not None):
        cost = evidence.rows[name]["cost"]
        known = [f"{cost[key]:.{digits}f} {unit}" for key, digits, unit in COSTS if cost.get(key) is not None]
        listed.append(f"`{name}` {', '.join(known) or 'not measured'}")
    return f"Cost: {'; '.join(listed)}." if listed else ""


def _what_would_change(evidence: Evidence) -> str:
    sentences = []
    unseen = evidence.report["data"].get("shares", {}).get("unseen_target")
    if unseen:
        sentences.append(
            f"{100 * unseen:.1f} % of the test targets were never clicked in training: only systems that read "
            "texts find those, so more new items speak for text."
        )
    limit = evidence.detectable
    if limit is not None and limit > WORTH_SEEING:
        users = evidence.users * (limit / WORTH_SEEING) ** 2
        sentences.append(f"To see a difference of {100 * WORTH_SEEING:.0f} % takes about {_rounded(users)} test users.")
    sentences += _gaps(evidence)
    return f"What would change this: {' '.join(sentences)}" if sentences else ""


def _gaps(evidence: Evidence) -> list[str]:
    """Return what has not been measured: further seeds, rows that are not finished, kinds without a row."""
    sentences = []
    trained = [name for name, row in evidence.rows.items() if row["family"] != "simple"]
    once = [f"`{name}`" for name in trained if len(evidence.rows[name]["seeds"]) == 1]
    if once:
        sentences.append(f"{_joined(once)} {_are(once)} trained once: intervals and verdicts leave out the seed.")
    rising = [f"`{name}`" for name in trained if _is_rising(evidence.report.get("curves", {}).get(name, {}))]
    if rising:
        verb = "was" if len(rising) == 1 else "were"
        sentences.append(
            f"{_joined(rising)} {verb} still improving on validation when the epochs ended: more of them may change "
            "the order."
        )
    pending = [f"`{name}`" for name, row in evidence.report["rows"].items() if row["status"] != "done"]
    if pending:
        sentences.append(f"{_joined(pending)} {_are(pending)} not finished, which can change the advice.")
    missing = [kind for kind in ("dense", "generative") if kind not in evidence.winners]
    if missing:
        sentences.append(f"No {' and no '.join(missing)} system has a finished run.")
    return sentences


def _is_rising(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> bool:
    """Say whether the last validation of a training was its best: it might have gone on."""
    return any(
        len(scores) > 1 and scores[-1] > max(scores[:-1])
        for part, curve in curves.items()
        if part != "quantizer" and (scores := [point["ndcg@10"] for point in curve if "ndcg@10" in point])
    )


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _rounded(number: float) -> str:
    """Return a number of users with two digits that count: `41,000`."""
    return f"{int(float(f'{number:.1e}')):,}"
