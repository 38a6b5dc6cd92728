"""The paragraphs of a recommendation: validation, test, cost, and what could change it."""

from collections.abc import Mapping, Sequence

from cost_hf.experiments.compare.evidence import Evidence, enumerated, quoted
from cost_hf.reporting import numbers, words

WORTH_DETECTING = 0.05  # relative difference for which the necessary number of users is given
VERDICTS = {
    "better": "significantly better",
    "worse": "significantly worse",
    "equivalent": "equivalent",
    "inconclusive": "not significantly different",
}


def paragraphs(evidence: Evidence, chosen: str | None) -> list[str]:
    """Return the evidence for the chosen row, or what is known where none is chosen; empty paragraphs are left out."""
    texts = [
        _toy_note(evidence),
        _parts(evidence, chosen),
        _validation(evidence),
        _test(evidence, chosen),
        _generator(evidence),
        _cost(evidence, chosen),
        _what_could_change(evidence),
    ]
    return [text for text in texts if text]


def _toy_note(evidence: Evidence) -> str:
    is_toy = evidence.report["data"].get("is_toy", False)
    return "These are toy data: they show how the comparison works, not which system is better." if is_toy else ""


def _parts(evidence: Evidence, chosen: str | None) -> str:
    """Return what a recommended hybrid combines."""
    parts = [] if chosen is None else evidence.parts(chosen)
    return f"`{chosen}` combines {enumerated(quoted(parts))}." if parts else ""


def _validation(evidence: Evidence) -> str:
    """Return which rows are best on validation, and which counts are ahead of all dense and generative ones on test."""
    winners = evidence.winners.values()
    if not winners:
        return ""
    best = max(winners, key=lambda name: evidence.validation[name])
    listed = ", ".join(evidence.label(name, evidence.validation[name]) for name in winners)
    metric = words.metric_name(evidence.metric)
    sentences = [f"Validation ({metric}): `{best}` is best. Best of each family: {listed}."]
    trained = [name for name, row in evidence.rows.items() if row["family"] in ("dense", "generative")]
    if trained:
        leader = max(trained, key=lambda name: evidence.values[name])
        ahead = [
            evidence.label(name, evidence.values[name])
            for name, row in evidence.rows.items()
            if row["family"] == "counting" and evidence.values[name] > evidence.values[leader]
        ]
        if ahead:
            against = evidence.label(leader, evidence.values[leader])
            verb = "is" if len(ahead) == 1 else "are"
            sentences.append(
                f"On the test part {enumerated(ahead)} {verb} ahead of the best dense or generative system, {against}."
            )
    return " ".join(sentences)


def _test(evidence: Evidence, chosen: str | None) -> str:
    """Return the test results of the chosen row, or of all selected ones where none is chosen."""
    names = evidence.selected
    if chosen is None:
        pairs = [(a, b) for number, b in enumerate(names) for a in names[number + 1 :]]
    else:
        pairs = [(chosen, other) for other in names if other != chosen]
        cheaper = [other for other in names[: names.index(chosen)] if not evidence.beats(chosen, other)]
        pairs += [(better, other) for other in cheaper for better in names if evidence.beats(better, other)]
    shown_apart = [frozenset(pair) for pair in evidence.generator_tests]
    pairs = [pair for pair in pairs if pair in evidence.outcomes and frozenset(pair) not in shown_apart]
    sentences = [_outcome(evidence, a, b) for a, b in pairs]
    detectable = evidence.report["detectable_difference"]
    if detectable and any(evidence.outcomes[pair].verdict == "inconclusive" for pair in pairs):
        text = detectable["text"]
        sentences.append(f"Not significantly different does not mean equal: {text[:1].lower()}{text[1:]}")
    return " ".join(["Test part:", *sentences]) if sentences else ""


def _generator(evidence: Evidence) -> str:
    """Return what the rows with a generator add to the hybrids, and whether that is significant."""
    pairs = evidence.generator_tests
    if not pairs:
        return ""
    added = dict.fromkeys(part for a, b in pairs for part in evidence.parts(a) if part not in evidence.parts(b))
    gains = [b for a, b in pairs if evidence.beats(a, b)]
    losses = [b for a, b in pairs if evidence.beats(b, a)]
    others = [b for _, b in pairs if b not in gains and b not in losses]
    effects = [
        f"improves {enumerated(quoted(gains))}" if gains else "",
        f"makes {enumerated(quoted(losses))} worse" if losses else "",
        f"makes no significant difference to {enumerated(quoted(others))}" if others else "",
    ]
    answer = f"Adding {enumerated(quoted(list(added)))} {enumerated([text for text in effects if text])}."
    sentences = [_outcome(evidence, a, b) for a, b in pairs]
    return " ".join(["Is a generator worth its cost in a hybrid?", answer, *sentences])


def _outcome(evidence: Evidence, a: str, b: str) -> str:
    outcome = evidence.outcomes[a, b]
    base = evidence.values[b]
    change = numbers.interval(outcome.difference, signed=True)
    relative = f" ({numbers.percent(outcome.difference['value'] / base, signed=True)})" if base else ""
    verdict = VERDICTS.get(outcome.verdict, outcome.verdict)
    return f"`{a}` vs `{b}`: {change}{relative}, corrected p {numbers.probability(outcome.p_holm)}, {verdict}."


def _cost(evidence: Evidence, chosen: str | None) -> str:
    """Return the costs of the chosen row and of the best generative one; dense and generative where none is chosen."""
    wanted = (chosen or evidence.winners.get("dense"), evidence.winners.get("generative"))
    listed = []
    for name in dict.fromkeys(name for name in wanted if name is not None):
        cost = evidence.rows[name]["cost"]
        formats = {
            "training_minutes": lambda value: f"{numbers.amount(value)} min of training",
            "request_ms": lambda value: f"{numbers.amount(value)} ms per request",
            "peak_mb": lambda value: f"{numbers.memory(value)} peak memory",
        }
        known = [write(cost[key]) for key, write in formats.items() if cost.get(key) is not None]
        listed.append(f"`{name}` {', '.join(known) or 'not measured'}")
    return f"Cost: {'; '.join(listed)}." if listed else ""


def _what_could_change(evidence: Evidence) -> str:
    sentences = []
    unseen = evidence.report["data"].get("shares", {}).get("unseen_target")
    if unseen:
        sentences.append(
            f"{numbers.percent(unseen)} of the test targets have no training clicks: only systems that read item texts "
            "can recommend them, so a larger share of new items favours these."
        )
    limit = evidence.detectable
    if limit is not None and limit > WORTH_DETECTING:
        users = evidence.users * (limit / WORTH_DETECTING) ** 2
        difference = numbers.percent(WORTH_DETECTING, digits=0)
        sentences.append(f"About {_rounded(users)} test users are needed to detect a difference of {difference}.")
    sentences += _gaps(evidence)
    return f"What could change this: {' '.join(sentences)}" if sentences else ""


def _gaps(evidence: Evidence) -> list[str]:
    """Return what was not measured: further seeds, unfinished rows, families without a row."""
    sentences = []
    trained = [name for name, row in evidence.rows.items() if row["family"] != "counting"]
    once = [name for name in trained if len(evidence.rows[name]["seeds"]) == 1]
    if once:
        verb = "was" if len(once) == 1 else "were"
        sentences.append(
            f"{enumerated(quoted(once))} {verb} trained once: intervals and tests do not include the variance between "
            "seeds."
        )
    rising = [name for name in trained if _is_rising(evidence.report.get("curves", {}).get(name, {}))]
    if rising:
        verb = "was" if len(rising) == 1 else "were"
        sentences.append(
            f"{enumerated(quoted(rising))} {verb} still improving on validation at the last epoch: longer training may "
            "change the order."
        )
    pending = [name for name, row in evidence.report["rows"].items() if row["status"] != "done"]
    if pending:
        verb = "is" if len(pending) == 1 else "are"
        sentences.append(f"{enumerated(quoted(pending))} {verb} not finished.")
    missing = [family for family in ("dense", "generative") if family not in evidence.winners]
    if missing:
        sentences.append(f"No {' and no '.join(missing)} system has a finished run.")
    return sentences


def _is_rising(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> bool:
    """Return whether the last validation score of a training is its best."""
    return any(
        len(scores) > 1 and scores[-1] > max(scores[:-1])
        for part, curve in curves.items()
        if part != "quantizer" and (scores := [point["ndcg@10"] for point in curve if "ndcg@10" in point])
    )


def _rounded(number: float) -> str:
    """Return a number of users with two significant digits: `41,000`."""
    return f"{int(float(f'{number:.1e}')):,}"
