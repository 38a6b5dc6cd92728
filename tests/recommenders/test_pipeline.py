"""`pipeline("generative-recommendation")`: a thin door to `GenerativeRecommender.recommend`."""

import subprocess
import sys

import pytest
from transformers import pipeline

from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS, toy_catalog, toy_causal, toy_recommender, toy_t5
from tests.runs import child_environment


@pytest.fixture(scope="module", params=[toy_causal, toy_t5], ids=["causal", "t5"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommender")
    titles = [item.upper() for item in TOY_IDS[:-1]] + [None]
    system = toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3), titles=titles), request.param)
    system.save_pretrained(folder)
    return system, pipeline("generative-recommendation", model=str(folder))


def test_one_history_gives_one_list(both):
    system, recommend = both

    found = recommend(["item001", "item002"], top_k=TOY_ITEMS, exclude_seen=False)

    expected = system.recommend(["item001", "item002"], top_k=TOY_ITEMS, exclude_seen=False)
    assert_same_list([(entry["item_id"], entry["score"]) for entry in found], expected)
    titles = {entry["item_id"]: entry.get("title") for entry in found}
    assert titles["item003"] == "ITEM003" and titles[TOY_IDS[-1]] is None


def test_a_batch_gives_a_list_of_lists_and_options_reach_the_recommender(both):
    _, recommend = both

    found = recommend([["item001"], ["item002"], []], top_k=2, denied=["item019"], on_empty="popularity")

    assert [len(answers) for answers in found] == [2, 2, 2]
    assert found[2][0]["item_id"] == "item018"


def test_options_may_be_given_once_for_all_calls(both):
    _, recommend = both
    shared = pipeline("generative-recommendation", model=recommend.model.config._name_or_path, top_k=3)

    assert len(shared(["item001"])) == 3 and len(shared(["item001"], top_k=1)) == 1


def test_the_weights_are_loaded_once(both):
    _, recommend = both

    assert recommend.recommender.generator is recommend.model


def test_importing_the_package_loads_nothing_heavy():
    program = "import sys, cost_hf; print([name for name in ('sklearn', 'sentence_transformers', 'gradio', 'pyarrow', "
    program += "'cost_hf.recommenders.generative') if name in sys.modules])"

    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
