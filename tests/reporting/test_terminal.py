"""Text for the terminal: widths, order, and the numbers of the dicts."""

import pytest

from cost_hf.reporting import compare_text, numbers, results_table, run_text, words
from cost_hf.reporting.terminal import ExampleAnswer
from tests.reporting.made_up import made_up_compare, made_up_results


@pytest.fixture(scope="module")
def compare():
    return made_up_compare()


@pytest.fixture(scope="module")
def text(compare):
    return compare_text(compare)


@pytest.fixture(scope="module")
def results():
    return made_up_results()


def test_no_line_of_the_terminal_is_wider_than_110_columns(compare, text):
    long = "a_row_with_a_name_that_never_seems_to_come_to_an_end"
    renamed = compare | {"rows": {**compare["rows"], long: compare["rows"]["sasrec_ce"]}}

    assert max(map(len, text.splitlines())) <= 110
    assert max(map(len, compare_text(renamed).splitlines())) <= 110


def test_the_recommendation_comes_last(compare, text):
    flat = " ".join(text.split())
    places = [
        flat.index(part)
        for part in (
            compare["detectable_difference"]["text"],
            "fusion",
            "Claims, seen items allowed",
            compare["recommendation"]["headline"],
            compare["recommendation"]["paragraphs"][-1],
            compare["recommendation"]["command"],
        )
    ]

    assert places == sorted(places)


def test_commands_are_whole_lines_however_long_they_are(compare):
    directory = "runs/" + "a directory with a long name/" * 6
    trained = {"directory": directory, "latency_ms": 12.3, "peak_mb": 840.0, "command": f"cost-hf train '{directory}'"}
    advice = compare["recommendation"] | trained

    lines = compare_text(compare | {"recommendation": advice}).splitlines()

    assert lines[-5:] == [
        "Train markov_text:",
        f"  cost-hf train '{directory}'",
        "",
        "This comparison has trained it (12.3 ms per request, 840 MiB peak memory). Load it:",
        f'  cost_hf.Recommender.from_pretrained("{directory}")',
    ]


def test_the_cost_of_a_request_stands_beside_the_command_of_a_system_that_is_not_trained(text, compare):
    assert text.splitlines()[-2:] == [
        "Train markov_text (0.80 ms per request):",
        f"  {compare['recommendation']['command']}",
    ]


def test_a_comparison_without_a_command_ends_with_its_paragraphs(compare):
    advice = {name: compare["recommendation"][name] for name in ("choice", "headline", "paragraphs")}

    text = compare_text(compare | {"recommendation": advice})

    assert " ".join(text.split()).endswith(advice["paragraphs"][-1])


def test_the_terminal_shows_every_row_and_claim(compare, text):
    flat = " ".join(text.split())

    for name, row in compare["rows"].items():
        value = row.get("metrics", {}).get("seen_allowed", {}).get("ndcg@10")
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert numbers.interval(value) in line if value else row["status"].replace("_", " ") in line
        if not value:
            assert row["message"] in flat
    for claim in compare["claims"]:
        assert f"{claim['a']} vs {claim['b']}: NDCG@10 {numbers.interval(claim['difference'], signed=True)}" in flat


def test_an_empty_comparison_is_text():
    assert "No recommendation yet" in compare_text({})


def test_the_table_shows_best_rows_first_with_their_difference_to_the_main_row(results):
    lines = results_table(results, metrics=["ndcg@10"]).splitlines()

    values = {name: units["item"]["seen_allowed"]["ndcg@10"]["value"] for name, units in results["rows"].items()}
    assert lines[0].split() == ["row", "ndcg@10", "[95", "%]", "recommender", "-", "row,", "ndcg@10"]
    assert [line.split()[0] for line in lines[1:]] == sorted(values, key=lambda name: -values[name])
    main = next(line for line in lines if line.startswith("recommender"))
    assert main.count("[") == 1


def test_the_table_keeps_a_given_order_and_shows_missing_values_as_a_dash(results):
    lines = results_table(results, rows=["markov", "recommender"], metrics=["recall@40"]).splitlines()

    assert lines[1].split() == ["markov", numbers.DASH]
    assert lines[2].startswith("recommender")


def test_an_unknown_row_names_those_there_are(results):
    with pytest.raises(ValueError, match="no 'made_up' among 'recommender', 'popularity', 'markov'"):
        results_table(results, rows=["made_up"])


def test_the_summary_of_a_run_has_scores_costs_and_examples(results, tmp_path):
    answer = ExampleAnswer(["Red kite", "Tin\x1b[2J drum"], ["Blue robot"])

    text = run_text(results, answers=[answer], directory=tmp_path)

    assert "toy_recipe, seed 3, 611 test cases, 50 beams, hits on items" in text
    assert results_table(results) in text
    assert "data 0.6 s, generator 8.5 min; peak memory 1.2 GiB" in text
    assert text.index("user 1 read      Red kite") < text.index("recommended   Blue robot")
    assert "\x1b" not in text
    assert "cold start" not in text
    assert str(tmp_path) in text


def test_cold_start_scores_are_in_the_summary_where_there_are_some(results):
    cell = {"value": 0.05, "low": 0.04, "high": 0.06}
    slices = {"recommender": {"seen_allowed": {"cold_start": {"cold": {"cases": 7, "ndcg@10": cell}}}}}
    protocol = results["protocol"] | {"counts": {"cold_items": 40}}

    text = run_text(results | {"slices": slices, "protocol": protocol}, directory="runs/x")

    assert "cold start, 40 items hidden from training; cold: 7 cases, NDCG@10 .0500 [.0400, .0600]" in text


def test_beams_are_only_named_for_lists_made_by_beam_search(results):
    protocol = {name: value for name, value in results["protocol"].items() if name != "constraint"}

    assert "beams" not in run_text(results | {"protocol": protocol}, directory="runs/x")


def test_the_detectable_difference_is_a_sentence():
    found = {"absolute": 0.0068, "relative": 0.085, "power": 0.8}

    text = words.detectable_difference(found, value=0.08, num_claims=5, metric="ndcg@10")

    assert text == (
        "With 5 claims tested, a true difference of .0068 in NDCG@10 (8\u00a0% of .0800) is detected with a power of "
        "80\u00a0%; smaller ones mostly remain inconclusive."
    )
