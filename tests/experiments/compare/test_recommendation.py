import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.compare.recommendation import recommend

ROWS = {  # family, NDCG@10 on validation, on test
    "popularity": ("counting", 0.020, 0.020),
    "markov_text": ("counting", 0.050, 0.050),
    "sasrec_ce": ("dense", 0.055, 0.054),
    "sasrec_text": ("dense", 0.062, 0.060),
    "cost": ("generative", 0.064, 0.061),
    "rkmeans": ("generative", 0.060, 0.066),
    "ranker": ("hybrid", 0.069, 0.0685),
    "fusion_generative": ("hybrid", 0.070, 0.069),
    "oracle": ("oracle", 0.9, 0.9),
    "published_ids": ("calibration", 0.8, 0.8),
}
SUMMARIES = {"markov_text": "Markov counts and text neighbours", "text_last": "text neighbours of the last item"}
DEAREST_FIRST = ("fusion_generative", "cost", "sasrec_text", "markov_text")  # the winners on validation
INCONCLUSIVE = dict.fromkeys(itertools.combinations(DEAREST_FIRST, 2), "inconclusive")


def report_of(verdicts=INCONCLUSIVE, *, rows=ROWS, users=5000, relative=0.08, seeds=3, **changes):
    """Return the part of compare.json that is read; `verdicts` are about (a, b)."""
    content = {
        "protocol": {"primary": {"metric": "ndcg@10", "unit": "item", "seen": "seen_allowed"}, "users": users},
        "data": {"shares": {"unseen_target": 0.06}, "is_toy": False},
        "detectable_difference": {
            "absolute": 0.005,
            "relative": relative,
            "power": 0.8,
            "alpha": 0.01,
            "text": "With 5 claims tested, a true difference of .0050 is detected.",
        },
        "rows": {name: row_of(name, *row, seeds=seeds) for name, row in rows.items()},
        "claims": [claim_of(a, b, verdict, rows) for (a, b), verdict in verdicts.items()],
    }
    return content | changes


def row_of(name, family, validation, test, *, seeds):
    return {
        "family": family,
        "summary": SUMMARIES.get(name, f"{family} system"),
        "status": "done",
        "seeds": [] if family == "counting" else [f"{seed}.{seed}" for seed in range(seeds)],
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
    """Return inconclusive claims, except for the (better, worse) pairs."""
    verdicts = dict(INCONCLUSIVE)
    for a, b in pairs:
        if (a, b) in verdicts:
            verdicts[a, b] = "better"
        else:
            verdicts[b, a] = "worse"
    return verdicts


def words(report):
    advice = recommend(report)
    return " ".join([advice["headline"], *advice["paragraphs"]])


def test_a_counting_method_that_nothing_beats_is_enough():
    advice = recommend(report_of())

    assert (advice["choice"], advice["row"]) == ("counting", "markov_text")
    assert advice["headline"] == (
        "Use Markov counts and text neighbours (`markov_text`): no trained system is significantly better."
    )


def test_a_dense_model_is_enough_where_only_the_baseline_is_beaten():
    advice = recommend(report_of(beaten(("sasrec_text", "markov_text"))))

    assert advice["choice"] == "dense"
    assert advice["headline"] == (
        "Use dense system (`sasrec_text`): the cheapest system that no other significantly outperforms."
    )


def test_a_generative_system_must_beat_what_is_cheaper():
    verdicts = beaten(("cost", "markov_text"), ("cost", "sasrec_text"))

    assert recommend(report_of(verdicts))["choice"] == "generative"


def test_a_fusion_must_beat_its_parts_and_is_recommended_as_these():
    report = report_of(beaten(*(("fusion_generative", part) for part in DEAREST_FIRST[1:])))
    report["rows"]["fusion_generative"]["parts"] = ["cost", "sasrec_text", "markov_text"]

    advice = recommend(report)

    assert (advice["choice"], advice["row"]) == ("hybrid", "fusion_generative")
    assert advice["headline"] == (
        "Use hybrid system (`fusion_generative`): significantly better than the best of each other family."
    )
    assert advice["paragraphs"][0] == "`fusion_generative` combines `cost`, `sasrec_text` and `markov_text`."


def with_and_without(verdict):
    """A comparison whose best hybrid has generative parts; `verdict` is on it against the same one without them."""
    rows = ROWS | {"fusion": ("hybrid", 0.069, 0.068)}
    verdicts = beaten(*((name, part) for name in ("fusion_generative", "fusion") for part in DEAREST_FIRST[1:]))
    report = report_of(verdicts | {("fusion_generative", "fusion"): verdict}, rows=rows)
    report["rows"]["fusion_generative"] |= {"without_generative": "fusion", "parts": ["markov", "text_last", "cost"]}
    report["rows"]["fusion"]["parts"] = ["markov", "text_last"]
    return report


def test_a_hybrid_whose_generator_adds_nothing_is_recommended_without_it():
    advice = recommend(with_and_without("inconclusive"))

    assert (advice["choice"], advice["row"]) == ("hybrid", "fusion")
    text = " ".join(advice["paragraphs"])
    assert (
        "Is a generator worth its cost in a hybrid? Adding `cost` makes no significant difference to `fusion`. "
        "`fusion_generative` vs `fusion`: +.0010 [−.0020, +.0040] (+1.5\u00a0%), corrected p .024, not significantly "
        "different."
    ) in text
    assert text.count("`fusion_generative` vs `fusion`") == 1


def test_a_hybrid_whose_generator_adds_something_is_recommended_with_it():
    advice = recommend(with_and_without("better"))

    assert advice["row"] == "fusion_generative"
    text = " ".join(advice["paragraphs"])
    assert "Is a generator worth its cost in a hybrid? Adding `cost` improves `fusion`." in text


def test_a_generator_that_does_harm_is_said_to():
    text = words(with_and_without("worse"))

    assert "Adding `cost` makes `fusion` worse." in text


def test_what_a_generator_does_to_each_hybrid_is_one_sentence():
    report = with_and_without("better")
    report["rows"]["ranker"]["parts"] = ["markov", "text_last"]
    report["rows"]["ranker_generative"] = row_of("ranker_generative", "hybrid", 0.05, 0.05, seeds=3) | {
        "without_generative": "ranker",
        "parts": ["markov", "text_last", "cost"],
    }
    rows = ROWS | {"ranker_generative": ("hybrid", 0.05, 0.05)}
    report["claims"].append(claim_of("ranker_generative", "ranker", "worse", rows))

    assert "Adding `cost` improves `fusion` and makes `ranker` worse." in words(report)


def test_without_hybrids_nothing_is_said_of_generators_in_them():
    assert "in a hybrid?" not in words(report_of())


def test_claims_count_both_ways_round():
    verdicts = {pair[::-1]: verdict for pair, verdict in INCONCLUSIVE.items()} | {
        ("markov_text", "sasrec_text"): "worse"
    }

    assert recommend(report_of(verdicts))["choice"] == "dense"


def test_a_dearer_system_that_is_worse_changes_nothing():
    assert recommend(report_of(beaten(("markov_text", "cost"))))["choice"] == "counting"


@given(st.data())
def test_nothing_that_is_recommended_is_significantly_worse(data):
    values = [data.draw(st.integers(0, 5)) for _ in DEAREST_FIRST]
    verdicts = {
        (DEAREST_FIRST[a], DEAREST_FIRST[b]): data.draw(st.sampled_from(["inconclusive", "equivalent", "better"]))
        if values[a] > values[b]
        else "inconclusive"
        for a, b in itertools.combinations(range(4), 2)
    }
    by_choice = dict(zip(("hybrid", "generative", "dense", "counting"), DEAREST_FIRST, strict=True))

    chosen = by_choice[recommend(report_of(verdicts))["choice"]]

    assert "better" not in [verdict for (_, loser), verdict in verdicts.items() if loser == chosen]
    for cheaper in DEAREST_FIRST[DEAREST_FIRST.index(chosen) + 1 :]:
        assert "better" in [verdict for (_, loser), verdict in verdicts.items() if loser == cheaper]


def test_rows_are_picked_on_validation_not_on_test():
    text = words(report_of())

    assert "generative system (`cost`, .0640)" in text
    assert "rkmeans" not in text


def test_calibration_and_oracle_rows_take_no_part():
    text = words(report_of())

    assert "oracle" not in text
    assert "published_ids" not in text


def test_few_users_decide_nothing():
    advice = recommend(report_of(beaten(("cost", "sasrec_text")), users=299))

    assert (advice["choice"], advice["row"]) == ("too_little_data", None)
    assert advice["headline"] == "Too little data for a recommendation: 299 test users, at least 300 are needed."


def test_a_coarse_test_that_found_nothing_decides_nothing():
    advice = recommend(report_of(relative=0.26))

    assert advice["choice"] == "too_little_data"
    assert "5,000 test users show only differences above 26\u00a0%, and no test is conclusive" in advice["headline"]


def test_a_coarse_test_that_found_something_decides():
    assert recommend(report_of(beaten(("sasrec_text", "markov_text")), relative=0.26))["choice"] == "dense"


def test_one_kind_of_systems_leaves_nothing_to_choose():
    only = {name: row for name, row in ROWS.items() if row[0] == "counting"}

    advice = recommend(report_of({}, rows=only, detectable_difference=None))

    assert advice["choice"] == "too_little_data"
    assert advice["headline"].startswith("No recommendation yet")
    assert "No dense and no generative system has a finished run." in advice["paragraphs"][-1]


def test_counting_methods_ahead_of_all_trained_systems_are_named():
    rows = ROWS | {"markov_text": ("counting", 0.05, 0.09), "text_last": ("counting", 0.04, 0.08)}

    text = words(report_of(rows=rows))

    assert (
        "On the test part Markov counts and text neighbours (`markov_text`, .0900) and text neighbours of the last "
        "item (`text_last`, .0800) are ahead of the best dense or generative system, generative system (`rkmeans`, "
        ".0660)."
    ) in text


def test_a_counting_method_with_a_lower_score_is_not_called_ahead():
    assert "ahead" not in words(report_of())


def test_the_test_paragraph_gives_interval_and_verdict_of_the_choice():
    verdicts = beaten(("sasrec_text", "markov_text"))

    text = words(report_of(verdicts))

    assert (
        "Test part: `sasrec_text` vs `markov_text`: +.0100 [+.0070, +.0130] (+20.0\u00a0%), corrected p .024, "
        "significantly better. `sasrec_text` vs `cost`: −.0010 [−.0040, +.0020] (−1.6\u00a0%), corrected p .024, not "
        "significantly different."
    ) in text
    assert "Not significantly different does not mean equal: with 5 claims tested" in text


def test_what_beats_a_cheaper_row_is_named_where_the_choice_does_not():
    verdicts = beaten(("fusion_generative", "markov_text"))

    advice = recommend(report_of(verdicts))

    assert advice["choice"] == "dense"
    assert "`fusion_generative` vs `markov_text`: +.0190" in " ".join(advice["paragraphs"])


def test_costs_of_the_choice_and_of_the_generative_system_are_there():
    text = words(report_of(beaten(("sasrec_text", "markov_text"))))

    cost = "3.26 min of training, 1.41 ms per request, 312 MiB peak memory"
    assert f"Cost: `sasrec_text` {cost}; `cost` {cost}." in text


def test_unknown_costs_are_left_out():
    report = report_of()
    report["rows"]["markov_text"]["cost"] = {"training_minutes": 0.0, "request_ms": None, "peak_mb": None}
    report["rows"]["cost"]["cost"] = {}

    text = words(report)

    assert "Cost: `markov_text` 0 min of training; `cost` not measured." in text


def test_the_last_paragraph_says_what_could_change_the_recommendation():
    text = recommend(report_of(relative=0.10, seeds=1))["paragraphs"][-1]

    assert "6.0\u00a0% of the test targets have no training clicks" in text
    assert "About 20,000 test users are needed to detect a difference of 5\u00a0%." in text
    assert "`sasrec_ce`, `sasrec_text`, `cost`, `rkmeans`, `ranker` and `fusion_generative` were trained once" in text


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

    assert "`t5_cost` is not finished." in words(report)


def test_toy_data_are_called_toy_data():
    advice = recommend(report_of(data={"shares": {}, "is_toy": True}))

    assert advice["paragraphs"][0].startswith("These are toy data")


@pytest.mark.parametrize("metric", ["recall@10", "ndcg@5"])
def test_claims_about_other_metrics_do_not_decide(metric):
    report = report_of(beaten(("sasrec_text", "markov_text")))
    for claim in report["claims"]:
        claim["metric"] = metric

    assert recommend(report)["choice"] == "counting"


@pytest.mark.parametrize(("scores", "is_named"), [([0.1, 0.2, 0.3], True), ([0.1, 0.3, 0.2], False), ([0.3], False)])
def test_a_system_whose_last_validation_was_its_best_may_have_gone_on(scores, is_named):
    report = report_of()
    report["curves"] = {"cost": {"generator": [{"epoch": n, "ndcg@10": score} for n, score in enumerate(scores)]}}
    text = " ".join(recommend(report)["paragraphs"])

    assert ("`cost` was still improving on validation" in text) == is_named
