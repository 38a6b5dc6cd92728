import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.compare.recommendation import recommend

ROWS = {  # family, NDCG@10 on validation, on test
    "popularity": ("simple", 0.020, 0.020),
    "markov_text": ("simple", 0.050, 0.050),
    "sasrec_ce": ("dense", 0.055, 0.054),
    "sasrec_text": ("dense", 0.062, 0.060),
    "cost": ("generative", 0.064, 0.061),
    "rkmeans": ("generative", 0.060, 0.066),
    "ensemble": ("ensemble", 0.070, 0.069),
    "oracle": ("oracle", 0.9, 0.9),
    "published_ids": ("calibration", 0.8, 0.8),
}
DEAREST_FIRST = ("ensemble", "cost", "sasrec_text", "markov_text")  # the winners on validation
UNDECIDED = dict.fromkeys(itertools.combinations(DEAREST_FIRST, 2), "undecided")


def report_of(verdicts=UNDECIDED, *, rows=ROWS, users=5000, relative=0.08, seeds=3, **changes):
    """Return the part of compare.json that is read; `verdicts` are about (a, b)."""
    content = {
        "protocol": {"primary": {"metric": "ndcg@10", "unit": "item", "seen": "seen_allowed"}, "users": users},
        "data": {"shares": {"unseen_target": 0.06}, "is_toy": False},
        "detectable_difference": {
            "absolute": 0.005,
            "relative": relative,
            "power": 0.8,
            "alpha": 0.01,
            "text": "With 5 claims tested together, a true difference of 0.0050 would be found.",
        },
        "rows": {name: row_of(*row, seeds=seeds) for name, row in rows.items()},
        "claims": [claim_of(a, b, verdict, rows) for (a, b), verdict in verdicts.items()],
    }
    return content | changes


def row_of(family, validation, test, *, seeds):
    return {
        "family": family,
        "status": "done",
        "seeds": [] if family == "simple" else [f"{seed}.{seed}" for seed in range(seeds)],
        "validation": {"ndcg@10": validation},
        "metrics": {"seen_allowed": {"ndcg@10": {"value": test, "low": test - 0.004, "high": test + 0.004}}},
        "cost": {"training_minutes": 3.26, "request_ms": 1.41, "peak_mb": 312.0, "parameters": 10},
    }


def claim_of(a, b, verdict, rows):
    value = rows[a][2] - rows[b][2]
    difference = {"value": value, "low": value - 0.003, "high": value + 0.003}
    names = {"a": a, "b": b, "metric": "ndcg@10", "seen": "seen_allowed", "purpose": "decision"}
    return names | {"difference": difference, "relative": None, "p": 0.004, "p_holm": 0.024, "verdict": verdict}


def beaten(*pairs):
    """Return undecided claims but for the (better, worse) pairs."""
    verdicts = dict(UNDECIDED)
    for a, b in pairs:
        if (a, b) in verdicts:
            verdicts[a, b] = "better"
        else:
            verdicts[b, a] = "worse"
    return verdicts


def words(report):
    advice = recommend(report)
    return " ".join([advice["headline"], *advice["paragraphs"]])


def test_an_untrained_baseline_that_nothing_beats_is_enough():
    advice = recommend(report_of())

    assert advice["choice"] == "simple"
    assert advice["headline"] == (
        "Use the untrained sum of Markov counts and text neighbour (`markov_text`): no trained system is shown to be "
        "better."
    )


def test_a_dense_model_is_enough_where_only_the_baseline_is_beaten():
    advice = recommend(report_of(beaten(("sasrec_text", "markov_text"))))

    assert advice["choice"] == "dense"
    assert advice["headline"].startswith("Use SASRec (`sasrec_text`): the cheapest system that no other is shown to")


def test_a_generative_system_must_beat_what_is_cheaper():
    verdicts = beaten(("cost", "markov_text"), ("cost", "sasrec_text"))

    assert recommend(report_of(verdicts))["choice"] == "generative"


def test_the_ensemble_must_beat_its_parts():
    verdicts = beaten(*(("ensemble", part) for part in DEAREST_FIRST[1:]))

    advice = recommend(report_of(verdicts))

    assert advice["choice"] == "both"
    assert advice["headline"].endswith("together (`ensemble`): better than the best of each kind.")


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({"cost": 0.2, "sasrec_text": 0.8}, "both, SASRec and generative,"),
        ({"cost": 0.0, "sasrec_text": 0.6, "markov_text": 0.4}, "`sasrec_text` and `markov_text`"),
    ],
)
def test_a_part_without_weight_is_no_part_of_the_advice(weights, named):
    report = report_of(beaten(*(("ensemble", part) for part in DEAREST_FIRST[1:])))
    report["rows"]["ensemble"]["weights"] = weights

    assert recommend(report)["headline"].startswith(f"Use {named} together (`ensemble`)")


def test_claims_count_both_ways_round():
    verdicts = {pair[::-1]: verdict for pair, verdict in UNDECIDED.items()} | {("markov_text", "sasrec_text"): "worse"}

    assert recommend(report_of(verdicts))["choice"] == "dense"


def test_a_dearer_system_that_is_worse_changes_nothing():
    assert recommend(report_of(beaten(("markov_text", "cost"))))["choice"] == "simple"


@given(st.data())
def test_nothing_that_is_recommended_is_shown_to_be_worse(data):
    values = [data.draw(st.integers(0, 5)) for _ in DEAREST_FIRST]
    verdicts = {
        (DEAREST_FIRST[a], DEAREST_FIRST[b]): data.draw(st.sampled_from(["undecided", "equivalent", "better"]))
        if values[a] > values[b]
        else "undecided"
        for a, b in itertools.combinations(range(4), 2)
    }
    by_choice = dict(zip(("both", "generative", "dense", "simple"), DEAREST_FIRST, strict=True))

    chosen = by_choice[recommend(report_of(verdicts))["choice"]]

    assert "better" not in [verdict for (_, loser), verdict in verdicts.items() if loser == chosen]
    for cheaper in DEAREST_FIRST[DEAREST_FIRST.index(chosen) + 1 :]:
        assert "better" in [verdict for (_, loser), verdict in verdicts.items() if loser == cheaper]


def test_rows_are_picked_on_validation_not_on_test():
    text = words(report_of())

    assert "the generative system `cost`" in text
    assert "rkmeans" not in text


def test_calibration_and_oracle_rows_take_no_part():
    text = words(report_of())

    assert "oracle" not in text
    assert "published_ids" not in text


def test_few_users_decide_nothing():
    advice = recommend(report_of(beaten(("cost", "sasrec_text")), users=299))

    assert advice["choice"] == "too_little_data"
    assert advice["headline"] == "Too little data to choose a system: 299 test users, at least 300 are needed."


def test_a_coarse_test_that_found_nothing_decides_nothing():
    advice = recommend(report_of(relative=0.26))

    assert advice["choice"] == "too_little_data"
    assert "5000 test users show only differences above 26 %, and none was found" in advice["headline"]


def test_a_coarse_test_that_found_something_decides():
    assert recommend(report_of(beaten(("sasrec_text", "markov_text")), relative=0.26))["choice"] == "dense"


def test_one_kind_of_systems_leaves_nothing_to_choose():
    only = {name: row for name, row in ROWS.items() if row[0] == "simple"}

    advice = recommend(report_of({}, rows=only, detectable_difference=None))

    assert advice["choice"] == "too_little_data"
    assert advice["headline"].startswith("Nothing to choose between yet")
    assert "No dense and no generative system has a finished run." in advice["paragraphs"][-1]


def test_untrained_systems_ahead_of_all_trained_ones_are_named():
    rows = ROWS | {"markov_text": ("simple", 0.05, 0.09), "text_last": ("simple", 0.04, 0.08)}

    text = words(report_of(rows=rows))

    assert (
        "On the test part the untrained sum of Markov counts and text neighbour (`markov_text`, .0900) and the "
        "untrained text neighbour of the last item (`text_last`, .0800) are ahead of the best trained one, the "
        "generative system `rkmeans` (.0660)."
    ) in text


def test_an_untrained_system_behind_is_not_called_ahead():
    assert "ahead" not in words(report_of())


def test_the_test_paragraph_gives_interval_and_verdict_of_the_choice():
    verdicts = beaten(("sasrec_text", "markov_text"))

    text = words(report_of(verdicts))

    assert (
        "Test part: `sasrec_text` against `markov_text`: +.0100 [+.0070, +.0130] (+20.0 %), p = 0.024 after "
        "correction, better. `sasrec_text` against `cost`: -.0010 [-.0040, +.0020] (-1.6 %), p = 0.024 after "
        "correction, undecided."
    ) in text
    assert "Undecided is not equal: with 5 claims tested together" in text


def test_what_beats_a_cheaper_row_is_named_where_the_choice_does_not():
    verdicts = beaten(("ensemble", "markov_text"))

    advice = recommend(report_of(verdicts))

    assert advice["choice"] == "dense"
    assert "`ensemble` against `markov_text`: +.0190" in " ".join(advice["paragraphs"])


def test_costs_of_the_choice_and_of_the_generative_system_are_there():
    text = words(report_of(beaten(("sasrec_text", "markov_text"))))

    cost = "3.3 training minutes, 1.4 ms a request, 312 MB at peak"
    assert f"Cost: `sasrec_text` {cost}; `cost` {cost}." in text


def test_unknown_costs_are_left_out():
    report = report_of()
    report["rows"]["markov_text"]["cost"] = {"training_minutes": 0.0, "request_ms": None, "peak_mb": None}
    report["rows"]["cost"]["cost"] = {}

    text = words(report)

    assert "Cost: `markov_text` 0.0 training minutes; `cost` not measured." in text


def test_the_last_paragraph_says_what_would_change_the_advice():
    text = recommend(report_of(relative=0.10, seeds=1))["paragraphs"][-1]

    assert "6.0 % of the test targets were never clicked in training" in text
    assert "To see a difference of 5 % takes about 20,000 test users." in text
    assert "`sasrec_ce`, `sasrec_text`, `cost`, `rkmeans` and `ensemble` are trained once" in text


def test_rows_that_are_not_finished_are_named():
    report = report_of()
    report["rows"]["t5_cost"] = {
        "family": "generative",
        "status": "unfinished",
        "seeds": [],
        "validation": {"ndcg@10": None},
        "metrics": {},
        "cost": {},
    }

    assert "`t5_cost` is not finished, which can change the advice." in words(report)


def test_toy_data_are_called_toy_data():
    advice = recommend(report_of(data={"shares": {}, "is_toy": True}))

    assert advice["paragraphs"][0].startswith("These are toy data")


@pytest.mark.parametrize("metric", ["recall@10", "ndcg@5"])
def test_claims_about_other_metrics_do_not_decide(metric):
    report = report_of(beaten(("sasrec_text", "markov_text")))
    for claim in report["claims"]:
        claim["metric"] = metric

    assert recommend(report)["choice"] == "simple"


@pytest.mark.parametrize(("scores", "is_told"), [([0.1, 0.2, 0.3], True), ([0.1, 0.3, 0.2], False), ([0.3], False)])
def test_a_system_whose_last_validation_was_its_best_may_have_gone_on(scores, is_told):
    report = report_of()
    report["curves"] = {"cost": {"generator": [{"epoch": n, "ndcg@10": score} for n, score in enumerate(scores)]}}
    text = " ".join(recommend(report)["paragraphs"])

    assert ("`cost` was still improving on validation" in text) == is_told
