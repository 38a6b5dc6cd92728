"""Hybrids on the Hub: all parts in one repository, what they need, and nothing of a fold's training."""

import pytest

import cost_hf
from cost_hf.hub.commands import upload_main
from cost_hf.hub.staging import RunPublication
from cost_hf.recommenders.base import Recommender
from tests.hub.publishing import without_licence
from tests.near_ties import assert_same_list
from tests.runs import TINY

pytestmark = pytest.mark.trains
TOY = {name: value for name, value in TINY.items() if name.partition(".")[0] in ("data", "evaluation")}
FIELDS = {
    "fusion": {"fusion.parts": ["text_last", "text_mean"]},
    "ranker": {"ranker.parts": ["markov", "text_last"], "ranker.rounds": 5, "ranker.columns": ["topic"]},
}


@pytest.fixture(scope="module", params=list(FIELDS))
def run(request, tmp_path_factory):
    overrides = TOY | {"method": request.param} | FIELDS[request.param]
    return cost_hf.train(overrides=overrides, output_dir=tmp_path_factory.mktemp(request.param)).output_dir


def test_a_published_hybrid_answers_as_the_run_does(run, tmp_path):
    publication = RunPublication(run, tmp_path, {"recommender": "org/toy-recommender", "space": "org/toy-demo"})

    staged = {part: publication.stage(part) for part in publication.parts}

    assert set(staged) == {"recommender", "space"}
    names = set(staged["recommender"].files)
    assert not names & {"folds.json", "training.json", "weights.json", "training_log.json"}
    assert not any(name.startswith("parts/") and "/encoder/" in name for name in names)
    system = Recommender.from_pretrained(run)
    needed = {path: (staged[path].folder / "requirements.txt").read_text() for path in staged}
    assert all(("lightgbm" in text) == ("ranker.txt" in names) for text in needed.values())
    copied = Recommender.from_pretrained(staged["recommender"].folder)
    history = list(system.catalog.item_ids[:3])
    assert_same_list(copied.recommend(history, top_k=10), system.recommend(history, top_k=10))
    assert copied.add_items(["new"], ["a headline about the senate"]).item_ids == ("new",)
    card = (staged["recommender"].folder / "README.md").read_text()
    assert all(f"`{name}`" in card for name in system.parts)


def test_a_dry_run_lists_what_would_be_published(run, capsys):
    assert upload_main([str(run), "--namespace", "org", "--dry-run"]) == 0

    printed = capsys.readouterr().out
    assert "parts/text_" in printed and "dry run: nothing was published" in printed


def test_vectors_of_texts_need_a_licence(run, tmp_path):
    copied = without_licence(run, tmp_path / "run")

    with pytest.raises(ValueError, match=r"holds vectors of item texts, and data\.licence is not set"):
        RunPublication(copied, tmp_path, {"recommender": "org/toy-recommender"}).stage("recommender")
