"""From a recipe with latents of a quantizer to a recommender that takes new items."""

import numpy as np
import pytest

import cost_hf
from cost_hf.data.synthetic import make_news
from cost_hf.experiments.check.check import check
from cost_hf.experiments.recipe import Recipe
from cost_hf.hub.staging import RunPublication
from cost_hf.recipe_fields import RecipeError
from tests.item_vectors.latents.latent_toys import DATA, DIM, toy_quantizer, write_home

LATENTS = {"vectors.kind": "latents", "vectors.dim": DIM, "vectors.template": "{title}"}
SMALL = {
    "codes.kind": "gaoq",
    "codes.level_sizes": [],
    "codes.growth": 1.0,
    "catalog.collisions": "reassign",
    "training.epochs": 1,
    "generator.size": "tiny",
    "evaluation.num_beams": 10,
    "evaluation.max_users": 10,
    "evaluation.bootstrap_draws": 20,
}
IDS = {"quantizer": "org/toy", "recommender": "org/toy-recommender"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = write_home(tmp_path_factory.mktemp("somebody") / "home")
    toy = {f"data.{name}": value for name, value in DATA.items()} | {"data.licence": "cc0-1.0"}
    return cost_hf.train(
        recipe="cost_quickstart",
        overrides={**toy, **LATENTS, **SMALL, "vectors.quantizer": str(home)},
        output_dir=tmp_path_factory.mktemp("runs") / "latents",
    )


@pytest.mark.trains
def test_a_run_on_latents_has_no_text_baselines(run):
    assert {"markov", "popularity"} <= set(run.results["rows"])
    assert not {"text_last", "text_mean", "markov_text"} & set(run.results["rows"])
    assert run.results["vectors"] == {"kind": "latents", "quantizer": "cost", "width": 6}


@pytest.mark.trains
def test_a_loaded_recommender_takes_new_items_by_their_texts(run, tmp_path):
    run.recommender.save_pretrained(tmp_path)
    recommender = cost_hf.Recommender.from_pretrained(tmp_path)
    texts = ["the latest news report on football", "the latest news report on a ferry"]

    recommender.add_items(["new", "other"], texts)

    catalog = recommender.catalog
    vectors = recommender.encoder.encode(texts)
    expected = recommender.encode_vectors(vectors)
    rows = [catalog.row_of("new"), catalog.row_of("other")]
    np.testing.assert_array_equal(catalog.codes[rows, :2], np.asarray(expected)[:, :2])
    assert catalog.titles[rows[0]] == texts[0]
    assert recommender.encoder.digest == run.recommender.encoder.digest


@pytest.mark.trains
def test_a_published_copy_has_both_models_and_no_path(run, tmp_path):
    publication = RunPublication(run.output_dir, tmp_path, IDS)

    for part in IDS:
        publication.stage(part)

    copy = cost_hf.Recommender.from_pretrained(tmp_path / "recommender")
    texts = ["a story"]
    np.testing.assert_array_equal(copy.encoder.encode(texts), run.recommender.encoder.encode(texts))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "cost_hf" not in path.parts]
    assert [path for path in files if b"somebody" in path.read_bytes()] == []
    assert "`latents (lsa)`" in (tmp_path / "quantizer" / "README.md").read_text()


def test_a_recipe_takes_over_the_text_encoder_and_needs_a_quantizer(tmp_path):
    recipe = Recipe.load("cost_industrial", {"vectors.kind": "latents"})
    text = Recipe.load("cost_industrial").vectors
    assert (recipe.vectors.model, recipe.vectors.template) == (text.model, text.template)
    with pytest.raises(ValueError, match="needs a fitted quantizer"):
        recipe.validate()
    toy_quantizer().save_pretrained(tmp_path)
    given = {**LATENTS, "vectors.quantizer": str(tmp_path), "method": "text_last"}
    with pytest.raises(RecipeError, match=r"text_last requires vectors of item texts, and vectors\.kind is latents"):
        Recipe.load("cost_industrial", given).validate()


def test_a_check_of_latents_names_a_quantizer_that_is_not_there(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("description: latents\nvectors:\n  kind: latents\n  quantizer: ./runs/cost\n")
    news = make_news(seed=1, num_users=60, num_items=60)
    (tmp_path / "data").mkdir()
    news.items.to_parquet(tmp_path / "data" / "items.parquet")
    news.interactions.to_parquet(tmp_path / "data" / "interactions.parquet")

    result = check(tmp_path / "data", recipe=str(recipe))

    errors = [problem.message for problem in result.problems if problem.severity == "error"]
    assert "vectors.quantizer './runs/cost' is no directory" in errors
