"""The page of one run: the same parts, without verdicts that a single seed cannot carry."""

import pytest

from cost_hf.reporting import numbers, write_run_report
from cost_hf.reporting.html import to_html
from cost_hf.reporting.pages import as_comparison, run_page
from tests.reporting.made_up import examples, made_up_results
from tests.reporting.reading import PageReader

ALLOWED = "Seen items allowed, hits on items, best NDCG@10 first"


@pytest.fixture(scope="module")
def results():
    return made_up_results()


@pytest.fixture(scope="module")
def page(results):
    return PageReader(to_html(run_page(results, examples())))


def test_the_page_is_sound_and_loads_nothing(results, tmp_path):
    write_run_report(results, examples(), tmp_path / "report.html")
    page = PageReader((tmp_path / "report.html").read_text(encoding="utf-8"))

    assert page.problems == [] and page.loads == []
    assert set(page.references) <= set(page.ids)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_every_row_shows_its_item_metrics(results, page):
    for name, units in results["rows"].items():
        cells = page.row(ALLOWED, name)
        assert cells[1] == numbers.interval(units["item"]["seen_allowed"]["ndcg@10"])


def test_differences_are_those_of_the_row_minus_the_recommender(page):
    assert page.row(ALLOWED, "markov")[-1] == "−.0040 [−.0150, +.0060]"
    assert "verdict" not in " ".join(page.tables[ALLOWED][0])


def test_the_oracle_is_never_ranked(page):
    names = [row[0].split(" ")[0] for row in page.tables[ALLOWED]]

    assert names[1] == "recommender"
    assert names[-1] == "oracle"


def test_stages_requests_and_weights_are_shown(page):
    assert page.row("Stages of this run", "generator")[1:] == ["8.5 min", "1.2 GiB"]
    assert page.row("Costs per row", "recommender")[1:] == ["3.50", "0.40", "812,544"]


def test_the_share_of_proved_lists_is_shown(results):
    (section,) = [part for part in run_page(results, examples()).sections if part.anchor == "making"]

    shown = dict(section.facts)["lists proved to hold the best items of the catalog"]
    assert shown == f"first 5: {numbers.percent(0.981)}, first 10: {numbers.percent(0.937)}"


def test_families_are_those_of_the_results(results):
    compare = as_comparison(results, [])

    assert {name: row["family"] for name, row in compare["rows"].items()} == {
        "recommender": "generative",
        "popularity": "counting",
        "markov": "counting",
        "sasrec_ce": "dense",
        "oracle": "oracle",
    }
    assert "sid" not in compare["rows"]["markov"]  # a SID-level figure says nothing about a row without SIDs


def test_a_run_of_a_dense_method_is_compared_with_that_system(results):
    methods = {**results["methods"], "recommender": {"method": "any", "family": "dense", "summary": "any"}}
    logs = {"training": results["curves"]["generator"], "sasrec_ce": results["curves"]["generator"]}
    changed = {key: value for key, value in results.items() if key != "semantic_ids"} | {"methods": methods}

    page = PageReader(to_html(run_page(changed | {"curves": logs}, [])))

    assert page.row(ALLOWED, "recommender")[-1] == "main row"
    assert page.row(ALLOWED, "markov")[-1].startswith("−.0040")
    for name in ("recommender", "sasrec_ce"):
        assert f"{name}, validation NDCG@10 by epoch" in page.images
        assert f"{name}, training loss by epoch" in page.images


@pytest.mark.parametrize("part", sorted(made_up_results()))
def test_a_missing_part_is_left_out(results, part):
    page = PageReader(to_html(run_page({key: value for key, value in results.items() if key != part}, [])))

    assert page.problems == []
    assert "None" not in "".join(page.text)


def test_names_and_titles_are_escaped(results):
    hostile = "<b>bold</b>"
    recipe = {"name": hostile, "data": {"reader": "files"}}

    page = PageReader(to_html(run_page(results | {"recipe": recipe}, [{"item": hostile, "sid": "1-2"}])))

    assert page.headings[0] == (1, f"800 items, 600 users: {hostile}, seed 3")
    assert "This is toy data" not in "".join(page.text)


def test_the_method_is_named_since_the_name_of_the_recipe_need_not_tell_it(results):
    methods = results["methods"] | {"recommender": {"method": "sasrec", "family": "dense", "summary": "SASRec"}}

    assert "Method sasrec (SASRec)." in run_page(results | {"methods": methods}, examples()).paragraphs


def test_beams_are_those_of_a_search(results):
    protocol = {name: value for name, value in results["protocol"].items() if name != "constraint"} | {"num_beams": 7}

    def sentence(own):
        return run_page(results | {"protocol": own}, examples()).protocol[0]

    assert "7 beams" in sentence(protocol | {"constraint": "trie"})
    assert "beams" not in sentence(protocol)
