"""TTDSR through the seam of a method: options, rows, and a run that answers, grows and forgets its users."""

import dataclasses

import numpy as np
import pytest

import cost_hf
from cost_hf.experiments.recipe import Recipe, row_recipe
from cost_hf.hub.redaction import Licence
from cost_hf.hub.staging import publishable
from cost_hf.methods.base import methods, variants
from cost_hf.methods.ttdsr import Ttdsr
from cost_hf.methods.ttdsr.method import ROWS, describe_index, index_curves
from cost_hf.methods.ttdsr.options import USER_TASKS, AlignmentOptions, IndexOptions
from cost_hf.recommenders.base import Recommender
from tests.generators.backbone_toys import causal_backbone
from tests.methods.ttdsr.ttdsr_toys import toy_fields

REFRESHES = [
    {"epoch": 0.5, "step": 2, "items_changed": 0.4, "items_perplexity_1": 3.0, "refresh_seconds": 1.0},
    {"epoch": 1.0, "step": 4, "loss": 2.0, "tokens_per_step": 10.0, "seconds_per_step": 0.5, "items_mse": 1.0},
    {"epoch": 1.0, "step": 4, "items_changed": 0.2, "items_perplexity_1": 2.0, "refresh_seconds": 1.0},
    {"items_drift": 0.1},
]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (IndexOptions, {"refresh_steps": 0}, r"index.refresh_steps must be at least 1, got 0; null never"),
        (IndexOptions, {"freeze_share": 1.5}, "index.freeze_share must be a share from 0 to 1, got 1.5"),
        (IndexOptions, {"tower_epochs": -1}, "index.tower_epochs must be at least 0"),
        (AlignmentOptions, {"mse_weight": -1.0}, "alignment.mse_weight must be 0 or more"),
        (AlignmentOptions, {"temperature": 0.0}, "alignment.temperature must be above 0"),
        (AlignmentOptions, {"entities": 1}, "alignment.entities must be at least 2"),
    ],
)
def test_values_that_no_run_can_have_are_named(section, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(section(), **changes).validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.backbone": None, "adapter.r": None, "generator.prompt": "bare"}, "texts|words"),
        ({"generator.num_user_tokens": 8, "generator.prompt": "bare"}, "have semantic IDs and no hashed tokens"),
        ({"codes.kind": "rkmeans"}, "take rqvae, cost or cost_rqvae"),
        ({"codes.kind": "cost", "codes.positives": "coclick"}, "with codes.positives self"),
        ({"catalog.reference": "some.parquet"}, "ttdsr makes the codes itself"),
        ({"training.substitute_share": 0.1}, "read the codes of the beginning"),
        ({"tasks.weights": {"next_item": 1.0, "user_to_item": 1.0}}, "takes the tasks .*users_of_item.*'user_to_item'"),
        ({"users.level_sizes": [8, 1]}, "at least 2 codes"),
    ],
)
def test_sections_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"method": "ttdsr"} | overrides).validate()


def test_tasks_of_users_are_those_of_this_method_alone():
    with pytest.raises(ValueError, match="takes the tasks"):
        Recipe.load("cost_llm", {"tasks.weights": {"next_item": 1.0, "text_to_user": 1.0}}).validate()


def test_it_is_a_method_with_a_row_for_every_ablation():
    assert methods()["ttdsr"] is Ttdsr and Ttdsr.family == "generative"
    for name, (changes, _) in ROWS.items():
        assert variants()[name].method == "ttdsr"
        assert changes.items() <= variants()[name].overrides.items()


@pytest.mark.parametrize("recipe", ["ttdsr_industrial", "cost_llm"])
def test_rows_differ_in_the_tasks_of_users_alone(recipe):
    base = Recipe.load(recipe)
    options = {name: row_recipe(name, base).options.tasks for name in ROWS}
    weights = options["ttdsr"].weights

    assert recipe == "cost_llm" or weights == base.options.tasks.weights
    assert options["ttdsr_static"].weights == options["ttdsr_no_alignment"].weights == weights
    for name in ("ttdsr_no_users", "ttdsr_off"):
        assert options[name].weights == weights | dict.fromkeys(USER_TASKS, 0.0)
        assert options[name].user_tasks == []


def test_the_index_is_described_by_its_refreshes():
    found = describe_index(REFRESHES)

    assert [entry["items_changed"] for entry in found["refreshes"]] == [0.4, 0.2]
    assert (found["items_drift"], found["tokens_per_step"], found["seconds_per_step"]) == (0.1, 10.0, 0.5)
    assert found["alignment"] == [{"epoch": 1.0, "step": 4, "items_mse": 1.0}]
    assert index_curves(REFRESHES) == {
        "changed_share": [{"epoch": 0.5, "items_changed": 0.4}, {"epoch": 1.0, "items_changed": 0.2}],
        "index_perplexity": [{"epoch": 0.5, "items_perplexity_1": 3.0}, {"epoch": 1.0, "items_perplexity_1": 2.0}],
    }
    assert index_curves([{"epoch": 1.0, "loss": 2.0}]) == {}


@pytest.mark.trains
def test_a_run_comes_back_grows_and_is_published_without_users(tmp_path):
    base = causal_backbone(tmp_path / "base")
    fields = toy_fields(base, evaluation__bootstrap_draws=20, evaluation__baselines=["popularity"])

    run = cost_hf.train(recipe="cost_quickstart", overrides=fields, output_dir=tmp_path / "run")
    users, histories = zip(*run.examples, strict=True)
    loaded = Recommender.from_pretrained(tmp_path / "run")

    asked = {"top_k": 5, "user_ids": list(users)}
    answers = run.recommender.recommend(list(histories), **asked)
    assert loaded.recommend(list(histories), **asked) == answers
    strangers = loaded.recommend(list(histories), top_k=5, user_ids=["nobody"] * len(users))
    assert strangers != answers
    # existing semantic IDs stay, whatever the model would say of their texts now
    before = loaded.catalog.codes.copy()
    loaded.add_items(["new"], ["A red lamp for the desk"])
    assert np.array_equal(loaded.catalog.codes[: len(before)], before) and "new" in loaded.catalog
    assert (
        loaded.encode(["A red lamp for the desk"])[0] == loaded.catalog.codes[-1, : loaded.catalog.model_levels]
    ).all()
    index = run.results["index"]
    assert index["refreshes"] and {"items_drift", "users_drift", "tokens_per_step", "seconds_per_step"} <= set(index)
    # a repeated call trains nothing and finds the frozen codes
    again = cost_hf.train(recipe="cost_quickstart", overrides=fields, output_dir=tmp_path / "run")
    assert again.recommender.catalog.digest == run.recommender.catalog.digest

    public = publishable(run.recommender, Licence(None))
    public.save_pretrained(tmp_path / "public")
    assert [path.name for path in (tmp_path / "public" / "users").iterdir()] == ["vocabulary.json"]
    lists = Recommender.from_pretrained(tmp_path / "public").recommend(list(histories), top_k=5)
    assert [[item[:2] for item in items] for items in lists] == [[item[:2] for item in items] for items in strangers]
