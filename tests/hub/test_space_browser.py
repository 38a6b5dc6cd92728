"""The demo as a visitor uses it: in a browser, by keyboard, at the width of a desk and of a phone."""

import shutil

import pytest

from cost_hf.hub.space import app
from tests.recommenders.toys import toy_text_recommender, with_columns

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 812}}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with_columns(toy_text_recommender()).save_pretrained(folder)
    demo = app.launch_demo(folder, block=False)
    yield demo.local_url
    demo.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(params=list(SIZES))
def page(request, browser, url):
    """A page that must log no error, ask no other host and never scroll sideways."""
    page = browser.new_page(viewport=SIZES[request.param])
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(url)
    page.wait_for_selector("text=Search the catalog")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[request.param]["width"]
    assert errors == [] and hosts == {url.split("/")[2]}
    page.close()


def test_a_history_is_put_together_by_keyboard_and_answers_have_reasons(page):
    page.get_by_label("Search the catalog").focus()
    page.keyboard.type("football oslo")
    page.wait_for_function("document.querySelectorAll('.found input:not([disabled])').length === 1")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")

    page.wait_for_selector("ol.ranking li")
    assert page.locator("ol.ranking li").count() == 10
    assert page.locator("ol.ranking .chip").count() > 10
    assert "football in oslo" not in page.locator("ol.ranking .title").all_inner_texts()
    assert page.get_by_text("shares", exact=False).count() > 0


def test_the_example_and_an_empty_history_have_their_states(page):
    assert page.get_by_text("Put a history together").is_visible()

    page.get_by_role("button", name="Example", exact=True).click()
    page.wait_for_selector("ol.ranking li")
    page.locator("button", has_text="Clear").click()
    page.wait_for_selector("text=Put a history together")


def test_filters_and_a_limit_of_equal_values_change_the_list(page):
    facts = "[...document.querySelectorAll('ol.ranking .facts')].map(line => line.textContent)"
    page.get_by_role("button", name="Example", exact=True).click()
    page.wait_for_selector("ol.ranking li")

    page.get_by_role("button", name="Filters").click()
    page.get_by_label("in_stock").check()
    page.wait_for_function(f"{facts}.length && {facts}.every(line => line.includes('· in_stock'))")
    assert page.evaluate(f"{facts}.filter(line => line.includes('brand Alba')).length") > 2
    page.get_by_label("At most 2 items of the same").click()
    page.get_by_role("option", name="brand").click()
    page.wait_for_function(f"{facts}.filter(line => line.includes('brand Alba')).length === 2")

    page.get_by_label("price from").fill("1000")
    page.wait_for_selector("text=fulfils where price of at least 1000")


def test_the_tree_goes_down_and_up_again(page):
    page.get_by_role("tab", name="ID tree").click()
    page.get_by_label("Go down by a code").click()
    page.get_by_role("option").first.click()

    page.wait_for_selector("ul.items li")
    page.get_by_role("button", name="To the root").click()
    page.wait_for_selector("text=Choose a code")


def test_a_new_text_gets_an_id_and_is_recommended_once_it_is_added(page):
    page.get_by_role("tab", name="New item").click()
    page.get_by_role("button", name="Show its ID").click()
    page.wait_for_selector("[role=alert]")

    text = f"theatre in dakar, wide {page.viewport_size['width']}"
    page.get_by_label("Text of a new item").fill(text)
    page.get_by_role("button", name="Show its ID").click()
    page.wait_for_selector("text=Items next to it")
    page.get_by_role("button", name="Add it").click()

    page.wait_for_selector("text=Recommendations after")
    assert page.locator(f"ol.ranking li:has-text('{text}') .added").count() == 1


def test_the_evaluation_page_has_a_note_without_results(page):
    page.get_by_role("tab", name="Results").click()

    page.wait_for_selector("text=has no results.json")
    page.locator("table.codes:visible tr").nth(2).wait_for()
    assert page.locator("table.codes:visible tr").count() == 3


def test_two_functions_have_stable_names(url):
    client = pytest.importorskip("gradio_client").Client(url, verbose=False)

    answers = client.predict(["item001"], 3, True, api_name="/recommend")
    codes = client.predict("football in oslo", api_name="/encode")

    assert len(answers) == 3 and set(answers[0]) >= {"item_id", "score", "title"}
    assert len(codes) == 2
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/recommend", "/encode"}
