"""Counting baselines as methods of a run: rows in memory, a system on disk, and what they cost."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cost_hf
from cost_hf.data.row_lists import RowLists
from cost_hf.methods.base import DataFacts, methods
from cost_hf.methods.counting import counting, method
from cost_hf.methods.counting.recommender import CountingRecommender
from tests.runs import TINY, child_environment, stages_of

TOY = {name: value for name, value in TINY.items() if name.partition(".")[0] in ("data", "evaluation")}


def counting_methods():
    return {name: own for name, own in methods().items() if own.family == "counting"}


def test_every_scorer_is_a_method():
    assert set(counting_methods()) == set(counting.BASELINES)
    needs_texts = {name for name, own in counting_methods().items() if own.needs_text_vectors}
    assert needs_texts == set(counting.TEXTUAL)


def test_the_bounds_of_estimates_are_those_of_the_scorers():
    assert (method.MAX_PAIRS, method.MARKOV_GAP) == (counting.MAX_PAIRS, counting.MARKOV_GAP)


def test_a_method_is_known_without_its_libraries():
    program = (
        "import sys; from cost_hf.methods.base import methods; methods(); "
        "print(sorted({'torch', 'scipy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", counting.BASELINES)
def test_costs_grow_with_the_data(name):
    def facts(users: int) -> DataFacts:
        split = SimpleNamespace(train=RowLists.of([np.zeros(5, dtype=np.int64)] * users))
        return DataFacts(SimpleNamespace(num_items=100 * users), split, 64, None, cases=users)

    own = methods()[name]
    system = own(own.options_class())
    small, large = (system.estimate(facts(users)) for users in (100, 10_000))

    assert 0 <= sum(small.seconds.values()) < sum(large.seconds.values())
    assert set(large.seconds) == {"counting", "evaluation"} and large.memory_mb > small.memory_mb


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    overrides = TOY | {"method": "markov_text", "evaluation.baselines": ["markov_text", "popularity"]}
    return cost_hf.train(overrides=overrides, output_dir=tmp_path_factory.mktemp("counting"))


def test_a_system_that_counts_is_a_whole_run(run, caplog):
    loaded = cost_hf.Recommender.from_pretrained(run.output_dir)
    history = run.examples[0][1]

    assert type(loaded) is CountingRecommender
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    assert loaded.add_items(["new"], ["a headline"]).item_ids == ("new",)
    assert run.results["methods"]["recommender"]["family"] == "counting"
    assert run.results["recipe"].keys() == {"name", "description", "method", "data", "vectors", "evaluation"}
    caplog.set_level("INFO", logger="cost_hf")
    cost_hf.train(
        overrides=TOY | {"method": "markov_text", "evaluation.baselines": ["markov_text", "popularity"]},
        output_dir=run.output_dir,
    )
    assert stages_of(caplog.messages) == []


def test_a_row_is_the_same_as_the_system_and_writes_nothing(run):
    rows = run.results["rows"]

    assert rows["recommender"] == rows["markov_text"]
    assert not (run.output_dir / "baselines").exists()
    assert set(run.results["stages"]) == {"vectors", "counting", "evaluation"}


def test_results_are_of_the_catalog_that_was_counted(run, tmp_path, caplog):
    directory = shutil.copytree(run.output_dir, tmp_path / "run")
    changed = cost_hf.Recommender.from_pretrained(directory)
    changed.add_items(["new"], ["a headline"])
    changed.save_catalog(directory / "recommender")

    again = cost_hf.train(
        overrides=TOY
        | {"method": "markov_text", "evaluation.baselines": ["markov_text"], "evaluation.bootstrap_draws": 60},
        output_dir=directory,
    )

    assert "results are those of the catalog that was trained on" in caplog.text
    assert "new" not in again.recommender.catalog
    assert again.results["rows"]["recommender"] == again.results["rows"]["markov_text"]
