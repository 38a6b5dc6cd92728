"""The page of a comparison: everything of the dict stands on it once, in the right table, and nothing is loaded."""

import copy
import itertools

import pytest

from cost_hf.reporting import numbers, write_compare_report
from cost_hf.reporting.html import names, to_html
from cost_hf.reporting.pages import comparison_page
from tests.reporting.made_up import SLICES, made_up_compare
from tests.reporting.reading import PageReader

ALLOWED = "Seen items allowed, hits on items, best NDCG@10 first"
EXCLUDED = "Seen items excluded, hits on items, best NDCG@10 first"


def read(compare):
    return PageReader(to_html(comparison_page(compare)))


@pytest.fixture(scope="module")
def compare():
    return made_up_compare()


@pytest.fixture(scope="module")
def page(compare):
    return read(compare)


def test_the_files_appear_whole_and_small(compare, tmp_path):
    write_compare_report(compare, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
    assert (tmp_path / "report.html").stat().st_size < 500_000


def test_tags_are_balanced_and_ids_are_unique(page):
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_nothing_is_loaded(compare, page):
    html = to_html(comparison_page(compare))

    assert page.loads == []
    assert "http://" not in html and "https://" not in html
    assert "url(" not in html and "@import" not in html


def test_headings_descend_one_step_at_a_time(page):
    levels = [level for level, _ in page.headings]

    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_recommendation_is_the_headline(compare, page):
    assert page.headings[0] == (1, compare["recommendation"]["headline"])


def test_commands_stand_on_the_page_escaped(compare):
    trained = {"command": "cost-hf train 'a <b>'", "directory": "runs/a <b>", "latency_ms": 3.0, "peak_mb": 900.0}
    html = to_html(comparison_page(compare | {"recommendation": compare["recommendation"] | trained}))

    assert "<code>cost-hf train &#39;a &lt;b&gt;&#39;</code>" in html
    assert "<code>cost_hf.Recommender.from_pretrained(&#34;runs/a &lt;b&gt;&#34;)</code>" in html
    assert "This comparison has trained it (3 ms per request, 900 MiB peak memory). Load it:" in html


def test_the_detectable_difference_stands_above_the_table(compare):
    html = to_html(comparison_page(compare))

    assert html.index(compare["detectable_difference"]["text"]) < html.index("<table")


def test_every_row_is_in_the_main_table_with_its_numbers(compare, page):
    for name, row in compare["rows"].items():
        cells = page.row(ALLOWED, name)
        scored = row.get("metrics", {}).get("seen_allowed", {})
        for place, metric in ((1, "ndcg@10"), (2, "recall@10")):
            if scored:
                assert cells[place] == numbers.interval(scored[metric])


@pytest.mark.parametrize(
    ("seen", "caption", "end"), [("seen_allowed", ALLOWED, "Without"), ("seen_excluded", EXCLUDED, "For")]
)
def test_ranked_rows_are_sorted_by_the_primary_metric_of_their_table(compare, seen, caption, end):
    changed = copy.deepcopy(compare)
    changed["rows"]["popularity"]["metrics"]["seen_excluded"]["ndcg@10"]["value"] = 0.07  # another order than allowed

    names = [row[0].split(" ")[0] for row in read(changed).tables[caption][1:]]
    done = names[: names.index(end)]
    values = [changed["rows"][name]["metrics"][seen]["ndcg@10"]["value"] for name in done]

    assert len(done) == 12
    assert values == sorted(values, reverse=True)


def test_rows_without_a_full_result_say_why_below_the_ranking(compare, page):
    names = [row[0].split(" ")[0] for row in page.tables[ALLOWED]]

    for name in ("letter_causal", "cost_t5", "sasrec_bce"):
        text = " ".join(page.row(ALLOWED, name))
        assert compare["rows"][name]["message"] in text
        assert compare["rows"][name]["status"].replace("_", " ") in text
        assert names.index("Without") < names.index(name)


def test_published_identifiers_stand_apart_although_they_score_best(page):
    names = [row[0].split(" ")[0] for row in page.tables[ALLOWED]]

    assert names.index("published_codes") > names.index("For") > names.index("sasrec_bce")
    assert "may have been fitted to the test clicks" in page.tables[ALLOWED][names.index("For")][0]


def test_the_two_settings_of_seen_items_never_share_a_table(compare, page):
    for name, row in compare["rows"].items():
        for seen, other in (("seen_allowed", EXCLUDED), ("seen_excluded", ALLOWED)):
            value = row.get("metrics", {}).get(seen, {}).get("ndcg@10")
            if value and "seen_excluded" in row["metrics"]:
                assert numbers.interval(value) not in page.row(other, name)


def test_a_verdict_on_the_main_row_is_negated(page):
    assert page.row(ALLOWED, "markov_text")[-1] == "▲ better +.0090 [+.0022, +.0161]"  # the claim: main is worse
    assert page.row(ALLOWED, "fusion")[-1].startswith("▲ better")  # the claim already starts from the row
    assert page.row(ALLOWED, "cost_causal")[-1] == "main row"
    assert page.row(ALLOWED, "item_knn")[-1] == numbers.DASH


def test_costs_stand_in_the_main_table(compare, page):
    cost = compare["rows"]["sasrec_ce"]["cost"]

    assert page.row(ALLOWED, "sasrec_ce")[3:7] == [
        "3",
        numbers.amount(cost["training_minutes"]),
        numbers.amount(cost["request_ms"]),
        numbers.memory(cost["peak_mb"]),
    ]


def test_every_claim_is_shown_with_its_p_values_and_verdict(compare, page):
    for seen, caption in (("seen_allowed", "Seen items allowed"), ("seen_excluded", "Seen items excluded")):
        rows = page.tables[f"{caption}: first row minus second row"][1:]
        claims = [claim for claim in compare["claims"] if claim["seen"] == seen]
        assert len(rows) == len(claims)
        for row, claim in zip(rows, claims, strict=True):
            assert row[0].startswith(f"{claim['a']} vs {claim['b']}")
            assert row[1] == numbers.interval(claim["difference"], signed=True)
            assert row[3:5] == [numbers.probability(claim["p"]), numbers.probability(claim["p_holm"])]
            assert claim["verdict"] in row[5]


def test_the_page_names_what_the_intervals_cover(compare):
    same = copy.deepcopy(compare)
    same["rows"]["published_codes"]["covers"] = "users and seeds"

    assert "trained rows cover users and seeds." in "".join(read(same).text)
    assert "; users (published_codes)." in "".join(read(compare).text)


def test_slices_show_values_and_case_counts(compare, page):
    heads = {caption: rows for caption, rows in page.tables.items() if rows[0][1:] and "case" in rows[0][1]}
    counts = [f"{cases:,} case" for labels in SLICES.values() for cases in labels.values()]
    shown = " ".join(text for rows in heads.values() for text in rows[0])

    assert len(heads) == len(SLICES)
    assert all(count in shown for count in counts)
    cell = compare["rows"]["markov"]["slices"]["popularity"]["head"]["ndcg@10"]
    assert numbers.interval(cell) in page.row("Popularity of the target", "markov")


def test_codebook_utilization_and_inflation_are_those_of_the_dict(compare, page):
    facts = compare["codes"]["cost_causal"]
    caption = next(caption for caption in page.tables if caption.startswith("cost_causal"))
    item, sid = (
        compare["rows"]["cost_causal"][unit]["seen_allowed"]["recall@10"]["value"] for unit in ("metrics", "sid")
    )

    assert numbers.percent(facts["collided_share"]) in caption.replace(" %", "\u00a0%")
    assert page.row(caption, "2")[2] == f"{facts['levels'][1]['perplexity']:.1f} of 64"
    row = page.row("Recall@10, seen items allowed", "cost_causal")
    assert row[1:3] == [numbers.score(item), numbers.score(sid)]
    assert row[3] == numbers.percent(sid / item - 1, signed=True).replace("\u00a0", " ")


def test_drawings_say_what_they_show(compare, page):
    cell = compare["rows"]["markov"]["metrics"]["seen_allowed"]["ndcg@10"]

    assert f"markov, NDCG@10 {numbers.interval(cell)}" in page.images
    assert "cost_causal, validation NDCG@10 by epoch" in page.images
    assert all(page.images)


def test_texts_from_data_are_escaped(compare):
    hostile = '<script>alert("x")</script> & \' "'
    attacked = copy.deepcopy(compare)
    attacked["name"] = attacked["device"] = attacked["recommendation"]["headline"] = hostile
    attacked["examples"][0] |= {"item": hostile, "sid": hostile, "nearest_text": [hostile]}
    attacked["rows"]["letter_causal"]["message"] = hostile
    attacked["rows"][hostile] = attacked["rows"]["markov"] | {"family": "generative"}
    attacked["codes"][hostile] = attacked["codes"]["cost_causal"]
    attacked["curves"][hostile] = attacked["curves"]["cost_causal"]
    attacked["claims"][0]["a"] = hostile

    page = read(attacked)

    assert page.problems == [] and page.loads == []
    assert "".join(page.text).count(hostile) >= 7


@pytest.mark.parametrize("part", sorted(made_up_compare().keys() - {"rows"}))
def test_a_missing_part_is_left_out_without_a_hole(compare, part):
    page = read({key: value for key, value in compare.items() if key != part})

    assert page.problems == []
    assert "None" not in "".join(page.text)
    assert set(page.references) <= set(page.ids)
    assert page.row(ALLOWED, "markov")


def test_nothing_but_rows_is_enough(compare):
    page = read({"rows": {"markov": {"family": "counting", "metrics": compare["rows"]["markov"]["metrics"]}}})

    assert [text for _, text in page.headings[1:]] == ["Comparison", "The same rows, seen items excluded"]
    assert page.headings[0][1] == "No recommendation yet"


def test_an_empty_comparison_is_a_page():
    page = read({})

    assert page.problems == [] and page.tables == {}


@pytest.mark.parametrize(("is_toy", "times"), [(True, 1), (False, 0)])
def test_toy_data_is_called_toy(compare, is_toy, times):
    page = read(compare | {"data": compare["data"] | {"is_toy": is_toy}})

    assert "".join(page.text).count("This is toy data made by this package") == times


def test_an_unfinished_comparison_says_so(compare):
    assert "12 of 15 rows have full results" in "".join(read(compare).text)
    assert "Not finished" not in "".join(read(compare | {"complete": True}).text)


def test_equal_dicts_give_equal_pages():
    assert to_html(comparison_page(made_up_compare(3))) == to_html(comparison_page(made_up_compare(3)))


def test_names_between_backticks_stand_in_code_type_and_lone_backticks_stay():
    assert names("use `text_last` <now>") == "use <code>text_<wbr>last</code> &lt;now&gt;"
    assert names("a ` b") == "a ` b"
