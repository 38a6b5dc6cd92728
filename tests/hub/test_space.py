"""What the demo shows and does, without a browser."""

import runpy
import socket

import gradio as gr
import numpy as np
import pytest

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub.space import app, markup, visit
from cost_hf.hub.space.catalog_view import CatalogView, Listed
from cost_hf.hub.space.filters import chosen_conditions
from cost_hf.hub.space.visit import Visit
from cost_hf.semantic_ids.catalog import Catalog
from tests.hub.made_up import made_up_results
from tests.methods.acerec.acerec_toys import toy_recommender as toy_parallel
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.sasrec.test_sasrec_recommender import toy as dense_toy
from tests.recommenders.toys import TOY_IDS, TOY_TEXTS, toy_recommender, toy_text_recommender, with_columns
from tests.runs import ROOT

RESULTS = made_up_results(is_toy=True)
EVIL = "<script>alert(\"1\")</script> & 'x'"


@pytest.fixture
def toy() -> Visit:
    return Visit(toy_text_recommender(), RESULTS)


def test_search_finds_all_words_in_any_order_and_no_removed_item(toy):
    toy.recommender.remove_items(["item001"])

    assert [toy.view.label(row) for row in toy.view.search("OSLO foot")] == []
    assert [toy.view.label(row) for row in toy.view.search("lima foot")] == ["football in lima"]
    assert toy.view.search("item004") == [4] and toy.view.search("  ") == []
    assert len(toy.view.search("in", limit=3)) == 3


def test_branches_count_the_items_below_and_every_item_is_under_its_prefix(toy):
    view = toy.view

    assert sum(branch.items for branch in view.branches(())) == len(TOY_IDS)
    for row in range(len(TOY_IDS)):
        for length in range(4):
            rows, total = view.items(view.sid(row)[:length])
            assert row in rows and total == len(rows)
    assert view.branches(view.sid(0)) == []


def test_the_list_says_which_history_items_share_codes():
    toy = Visit(toy_text_recommender())

    answers = toy.recommend(["item001", "item009"], 20)
    page = markup.ranking(toy.view, answers)

    for listed in answers:
        shared = [toy.view.sid(listed.row)[:2] == toy.view.sid(row)[:2] for row in (1, 9)]
        assert (listed.shared_levels == 2) == any(shared)
        assert ("shares no first code" in listed.explanation) == (listed.shared_levels == 0)
        assert "semantic ID" not in listed.explanation  # the page shows it
    assert page.count(" shared") == sum(listed.shared_levels for listed in answers) > 0
    assert "shares 1 of 2 codes with &quot;football in oslo&quot;" in page


def test_neighbours_share_a_prefix_and_are_not_the_item_itself(toy):
    near = toy.view.neighbours(toy.view.sid(0), without=0)

    assert near and 0 not in [row for row, _ in near]
    assert [shared for _, shared in near] == sorted((shared for _, shared in near), reverse=True)
    assert all(toy.view.sid(row)[:shared] == toy.view.sid(0)[:shared] for row, shared in near)


def test_recommendations_are_those_of_the_recommender(toy):
    answers = toy.recommend(["item001", "item002"], 5)

    expected = toy.recommender.recommend(["item001", "item002"], top_k=5)
    assert [TOY_IDS[listed.row] for listed in answers] == [answer.item_id for answer in expected]


def test_visitors_filter_by_columns_of_few_values_and_see_them():
    toy = Visit(with_columns(toy_text_recommender()))
    toy.recommender.add_columns(TOY_IDS, {"code": [f"{row:03d}" for row in range(len(TOY_IDS))], "one": [1] * 20})

    filters = toy.view.filters

    assert [(own.column, own.kind) for own in filters] == [
        ("price", "range"),
        ("brand", "choice"),
        ("in_stock", "truth"),
        ("tags", "choice"),
    ]
    assert (filters[0].low, filters[0].high, filters[1].choices) == (0.0, 45.0, ("Alba", "Brisa", "Corva"))
    assert chosen_conditions(filters, [None, None, [], False, []]) is None
    assert chosen_conditions(filters, [0.0, 45.0, [], False, []]) is None  # the whole range
    assert chosen_conditions(filters, [5.0, 45.0, [], False, []]) == {"price": (5.0, None)}
    where = chosen_conditions(filters, [None, 30.0, ["Alba"], True, ["oslo", "lima"]])
    assert where == {"price": (None, 30.0), "brand": ["Alba"], "in_stock": True, "tags": ["oslo", "lima"]}
    answers = toy.recommend(["item003"], where=where)
    expected = toy.recommender.recommend(["item003"], where=where)
    assert [TOY_IDS[listed.row] for listed in answers] == [answer.item_id for answer in expected]
    page = markup.ranking(toy.view, answers)
    assert page.count("brand Alba · in_stock · tags") == len(answers) > 0
    assert toy.view.limited_columns == ["brand"]
    diverse = toy.recommend(["item003"], top_k=6, diversify={"brand": 1})
    expected = toy.recommender.recommend(["item003"], top_k=6, diversify={"brand": 1})
    assert [TOY_IDS[listed.row] for listed in diverse] == [answer.item_id for answer in expected]
    assert toy.view.facts(19) == "" and "not in_stock" in toy.view.facts(3)
    with pytest.raises(ValueError, match="no item of 20 items fulfils"):
        toy.recommend(["item003"], where={"price": (80, None)})


def test_an_added_item_is_recommended_at_once_and_is_the_same_the_second_time(toy):
    row = toy.add("football in lisbon and oslo")

    history, answers, place = toy.seen_recommended(row)
    assert answers[place - 1].row == row and answers[place - 1].is_added
    assert all(item in TOY_IDS for item in history)
    assert toy.add("football in lisbon and oslo") == row and len(toy.added) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "write a few words"), (None, "write a few words"), ("x" * 3000, "at most 2000 characters, got 3000")],
)
def test_an_empty_or_too_long_text_is_refused(toy, text, message):
    with pytest.raises(ValueError, match=message):
        toy.add(text)


def test_the_number_of_added_items_is_bounded(toy, monkeypatch):
    monkeypatch.setattr(visit, "MAX_ADDED", 1)
    toy.add("football in oslo today")

    with pytest.raises(ValueError, match="holds 1 added items already"):
        toy.add("weather in lima today")


def test_the_error_of_a_copy_without_encoder_names_the_reason():
    with pytest.raises(ValueError, match="its codes came from elsewhere"):
        Visit(toy_recommender()).add("a text")


def test_words_of_items_and_visitors_are_escaped(toy):
    row = toy.add(f"football {EVIL}")
    history, answers, place = toy.seen_recommended(row)

    pages = [
        markup.ranking(toy.view, answers),
        markup.branches(toy.view, toy.view.sid(row)),
        markup.added(toy.view, row, history=history, answers=answers, place=place),
        markup.items(toy.view, [(row, 1)]),
        markup.notice(EVIL, is_error=True),
    ]
    assert all("<script" not in page and "&lt;script" in page for page in pages)


def test_the_ranking_marks_shared_codes_and_added_items(toy):
    row = toy.add("football in lisbon and oslo")

    page = markup.ranking(toy.view, [Listed(row, -1.5, is_added=True, shared_levels=1)])

    assert "added in this demo" in page and "-1.50" in page
    assert page.count(" shared") == 1


def test_the_evaluation_page_holds_the_figures_of_the_results(toy):
    page = markup.evaluation_page(toy.view, RESULTS)

    cell = RESULTS["rows"][MAIN_ROW]["item"]["seen_allowed"]["recall@10"]["value"]
    assert f"{cell:.4f}".lstrip("0") in page and "Toy data" in page and "codes in use" in page


def test_without_results_the_page_makes_no_claim_of_quality(toy):
    assert "has no results.json" in markup.evaluation_page(toy.view, None)


def test_the_example_is_made_of_items_of_the_catalog(toy):
    assert set(toy.example()) <= set(TOY_IDS) and toy.example()


def test_texts_of_the_toy_are_different():
    assert len(set(TOY_TEXTS)) == len(TOY_IDS)


def test_texts_with_the_same_beginning_are_items_of_their_own(toy):
    first = toy.add("football in oslo " * 5 + "first")

    assert toy.add("football in oslo " * 5 + "second") != first


def test_the_page_of_an_added_item_shows_its_place(toy):
    row = toy.add("football in lisbon and oslo")
    history, answers, place = toy.seen_recommended(row)

    def page(place):
        return markup.added(toy.view, row, history=history, answers=answers, place=place)

    assert f"is at place {place}." in page(place)
    assert "is at place 23: others are ranked higher" in page(23)
    assert "not in the longest list" in page(None)


def test_reserved_places_are_marked_where_scores_do_not_fall(toy):
    assert "places are reserved" in markup.ranking(toy.view, [Listed(0, -2.0), Listed(1, -1.0)])
    assert "places are reserved" not in markup.ranking(toy.view, [Listed(0, -1.0), Listed(1, -2.0)])


def test_the_tree_shows_every_code_that_follows():
    size = 300
    codes = np.array([[code, 0] for code in range(size)])
    ids = [str(code) for code in range(size)]
    catalog = Catalog.from_codes(ids, codes, level_sizes=(size, 2), collisions="none", quantizer_digest="toy")

    page = markup.branches(CatalogView(catalog), ())

    assert page.count("<li>") == size and f"{size} codes follow" in page


def test_the_head_counts_what_can_be_recommended(toy):
    before = toy.view.num_items
    toy.add("football in lisbon and oslo")
    toy.recommender.remove_items(["item001", "item002"])

    assert toy.view.num_items == before - 1
    assert f"{before - 1} items in the catalog" in markup.header(toy.view)


def test_a_search_reads_the_beginning_of_a_long_text(toy):
    assert toy.view.search("oslo " * 1_000_000) == toy.view.search("oslo")


def test_a_history_and_a_list_are_bounded(toy, monkeypatch):
    asked = {}

    def recommend(histories, **options):
        asked.update(histories=histories, **options)
        return [[]]

    monkeypatch.setattr(toy.recommender, "recommend", recommend)

    toy.recommend(["item001"] * 100_000 + [7, None], 10**9)

    (history,) = asked["histories"]
    assert len(history) <= visit.MAX_HISTORY and asked["top_k"] == visit.MAX_SHOWN
    assert set(history) == {"item001"}


def test_results_of_another_form_show_no_figures(toy):
    for results in ({"rows": []}, {"recipe": {"name": EVIL}}, {"rows": {"recommender": 3}}):
        page = markup.evaluation_page(toy.view, results)
        assert "does not support the format of results.json" in page and "<script" not in page


def test_pages_that_mean_nothing_for_a_model_are_not_there():
    def tabs(system):
        return [block.label for block in app.build_demo(system).blocks.values() if isinstance(block, gr.Tab)]

    assert tabs(toy_text_recommender()) == ["Recommend", "ID tree", "New item", "Results"]
    assert tabs(toy_recommender()) == ["Recommend", "ID tree", "Results"]
    assert tabs(dense_toy("ids")) == ["Recommend"]
    assert tabs(dense_toy("text")) == ["Recommend", "New item"]


def test_a_dense_model_on_texts_takes_a_new_item():
    dense = Visit(dense_toy("text"))

    row = dense.add("football in lisbon and oslo")
    history, answers, place = dense.seen_recommended(row)

    assert place is not None and dense.view.num_items == len(dense.recommender.catalog)
    assert "football in lisbon" in markup.added(dense.view, row, history=history, answers=answers, place=place)


def test_a_hybrid_shows_why_an_item_is_listed():
    hybrid = Visit(toy_fusion())

    answers = hybrid.recommend(["item003"], 5)
    page = markup.ranking(hybrid.view, answers)

    assert all(listed.explanation.startswith("listed by ") for listed in answers)
    assert page.count('<span class="why"><span>listed by ') == 5 and "<br>raised by " in page
    assert page.count("<br>semantic ID &lt;s_a_") == 5 and "<br>text most like " in page
    assert hybrid.add("football in lisbon and oslo") == len(TOY_IDS)
    names = [block.label for block in app.build_demo(toy_fusion()).blocks.values() if isinstance(block, gr.Tab)]
    assert names == ["Recommend", "New item"]


def test_an_explanation_can_not_write_the_page(toy):
    page = markup.ranking(Visit(toy_fusion()).view, [Listed(0, 1.0, explanation=EVIL)])

    assert "<script>" not in page and "&lt;script&gt;" in page


def test_the_error_for_a_used_port_names_the_flag(tmp_path):
    toy_text_recommender().save_pretrained(tmp_path)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} at 127.0.0.1 can't be used .*give another --port"):
            app.launch_demo(tmp_path, port=port, block=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["item001"], 20_000), "from 1 to 200, got 20000"),
        ((["item001"], 0), "from 1 to 200, got 0"),
        ((["item001"] * 1001, 3), "at most 1000 item ids"),
        (([["item001"]], 3), "one history"),
        ((["x" * 1_000_000], 3), "got 1000000 characters"),
        (("item001", 3), "expected a list of item ids"),
    ],
)
def test_the_function_of_the_demo_is_bounded_before_anything_is_computed(toy, monkeypatch, arguments, message):
    monkeypatch.setattr(toy.recommender, "recommend", None)

    with pytest.raises(gr.Error, match=message):
        app._api_recommend(toy)(*arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "holds a JSON list, expected an object"),
        ("{}", "demo.json names no recommender: .* got None"),
        ('{"recommender": ["x"]}', "demo.json names no recommender"),
        ('{"recommender": 1}', "demo.json names no recommender"),
        ("[" * 100_000, "demo.json holds no JSON"),
        ('{"recommender": "../../etc"}', "is not there"),
    ],
)
def test_the_app_of_a_space_takes_the_name_of_a_recommender_alone(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.json").write_text(content)

    with pytest.raises((ValueError, OSError), match=message):
        runpy.run_path(str(ROOT / "cost_hf" / "hub" / "space" / "space_app.py"))


def test_codes_of_parallel_levels_have_neighbours_and_no_tree():
    codes = [[0, 1, 2], [1, 1, 2], [0, 0, 0], [1, 0, 1]]
    catalog = Catalog.from_codes(
        list("abcd"), codes, level_sizes=(2, 2, 3), collisions="none", has_parallel_levels=True
    )
    view = CatalogView(catalog)

    assert view.has_sids and not view.has_tree
    assert view.neighbours(view.sid(0), without=0) == [(1, 2), (2, 1)]


def test_a_recommender_of_parallel_codes_has_a_demo_without_the_tree():
    demo = app.build_demo(toy_parallel())

    tabs = [block.label for block in demo.blocks.values() if isinstance(block, gr.Tab)]
    assert "Recommend" in tabs and "New item" in tabs and "ID tree" not in tabs
