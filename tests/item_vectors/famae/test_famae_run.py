"""From a recipe with FAMAE vectors to a recommender that takes new items, and rows beside other vectors."""

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.data.options import DataOptions
from cost_hf.experiments.compare.sources import resolve_sources
from cost_hf.experiments.compare.systems import plan_systems
from cost_hf.experiments.recipe import Recipe
from cost_hf.recipe_fields import RecipeError
from cost_hf.recommenders.item_changes import ItemChanges
from cost_hf.recommenders.requests import ChangeRequest
from tests.item_vectors.famae.famae_toys import NUM_ITEMS, shop_clicks, shop_items

FAMAE = {
    "vectors.kind": "famae",
    "vectors.fields": ["brand", "categories:2"],
    "vectors.dim": 8,
    "vectors.num_heads": 2,
    "vectors.epochs": 1,
    "vectors.batch_size": 64,
}
SMALL = {
    "codes.kind": "rkmeans",
    "codes.level_sizes": [4, 4],
    "training.epochs": 1,
    "generator.size": "tiny",
    "evaluation.num_beams": 10,
    "evaluation.max_users": 10,
}
NEW = {"item_id": "new", "title": "a new thing", "brand": "brand 1", "categories": "Home, Room 1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cost_hf.train(
        items=shop_items(),
        interactions=shop_clicks(),
        recipe="cost_industrial",
        overrides={**FAMAE, **SMALL},
        output_dir=tmp_path_factory.mktemp("runs") / "famae",
    )


@pytest.mark.trains
def test_results_name_the_metrics_of_the_vectors_and_no_text_baselines(run):
    assert {"target_recall@10", "item_id_recall@10", "cases"} == set(run.results["vectors"]["validation"])
    assert {"markov", "popularity"} <= set(run.results["rows"])
    assert not {"text_last", "text_mean", "markov_text"} & set(run.results["rows"])
    assert run.results["recipe"]["vectors"]["kind"] == "famae"


@pytest.mark.trains
def test_a_new_item_is_added_by_its_columns_to_a_loaded_recommender(run):
    recommender = cost_hf.Recommender.from_pretrained(run.output_dir / "recommender")

    answer = ItemChanges(recommender, DataOptions()).apply(ChangeRequest(add=(NEW,), update=(), remove=()))

    catalog = recommender.catalog
    assert answer["added"] == ["new"] and answer["ignored_columns"] == []
    encoder = recommender.encoder
    vector = encoder.encode(encoder.render(shop_items().head(1).assign(**NEW)))
    codes = recommender.encode_vectors(vector)
    np.testing.assert_array_equal(catalog.codes[catalog.row_of("new"), :2], np.asarray(codes)[0][:2])


@pytest.mark.trains
def test_an_item_with_another_brand_is_encoded_again(run):
    recommender = cost_hf.Recommender.from_pretrained(run.output_dir)
    change = {"item_id": "i1", "brand": "brand 2"}

    answer = ItemChanges(recommender, DataOptions()).apply(ChangeRequest(add=(), update=(change,), remove=()))

    assert answer["updated"] == ["i1"]
    assert recommender.catalog.columns.value("brand", 1) == "brand 2"


@pytest.mark.trains
def test_items_without_titles_show_ids_and_not_values_for_the_encoder(run):
    recommender = cost_hf.Recommender.from_pretrained(run.output_dir)
    items = shop_items().head(1).drop(columns="title")
    texts = recommender.encoder.render(pd.concat([items.assign(item_id="new"), items]))

    recommender.add_items(["new"], texts[:1])
    recommender.update_items(["i0"], texts[1:])

    titles = dict(zip(recommender.catalog.item_ids, recommender.catalog.titles, strict=True))
    assert (titles["new"], titles["i0"]) == ("new", "thing number 0")


@pytest.mark.trains
def test_a_saved_recommender_keeps_its_encoder(run, tmp_path):
    run.recommender.save_pretrained(tmp_path)

    loaded = cost_hf.Recommender.from_pretrained(tmp_path)

    assert loaded.encoder.digest == run.recommender.encoder.digest
    assert len(loaded.catalog) == NUM_ITEMS
    texts = loaded.encoder.render(shop_items())
    np.testing.assert_array_equal(loaded.encoder.encode(texts), run.recommender.encoder.encode(texts))


def test_rows_that_require_texts_are_refused_with_other_vectors():
    with pytest.raises(RecipeError, match=r"text_last requires vectors of item texts, and vectors\.kind is famae"):
        Recipe.load("cost_industrial", {**FAMAE, "method": "text_last"}).validate()
    with pytest.raises(RecipeError, match="baseline text_mean"):
        Recipe.load("cost_industrial", {**FAMAE, "evaluation.baselines": ["text_mean"]}).validate()
    with pytest.raises(RecipeError, match="method fusion requires"):
        Recipe.load("cost_industrial", {**FAMAE, "method": "fusion"}).validate()


def test_a_baseline_with_vectors_of_its_own_is_for_comparisons():
    recipe = Recipe.load("cost_industrial", {"evaluation.baselines": ["resid_industrial"]})
    with pytest.raises(RecipeError, match=r"kind famae, those of the run of kind text; make it a row of cost-hf comp"):
        recipe.validate()


def test_a_row_of_a_comparison_keeps_vectors_of_another_kind():
    given = {"vectors.model": "lsa", "data.path": "somewhere", "training.epochs": 3}
    base, others = resolve_sources(["cost_industrial", "resid_industrial"], given)

    plan = plan_systems(base, ["sasrec_ce"], others=others)

    systems = {system.name: system for system in plan.systems}
    vectors = systems["resid_industrial"].recipe.vectors
    assert vectors.kind == "famae" and vectors.fields == ["brand"]
    assert base.vectors.model == "lsa"
    assert systems["resid_industrial"].recipe.options.training.epochs == 3
    hybrids = [system for system in plan.systems if system.parts]
    assert hybrids and not any("resid_industrial" in system.parts for system in hybrids)


def test_a_comparison_of_other_vectors_leaves_out_what_requires_texts():
    base = Recipe.load("resid_industrial")

    plan = plan_systems(base, None)

    names = {*plan.untrained, *(system.name for system in plan.systems)}
    assert "sasrec_ce" in names and not {"sasrec_text", "text_last", "text_mean"} & names


def test_kinds_have_fields_of_their_own():
    assert Recipe.load("cost_industrial").vectors.kind == "text"
    with pytest.raises(RecipeError, match=r"unknown field 'vectors\.template' of vectors\.kind famae"):
        Recipe.load("cost_industrial", {"vectors.kind": "famae", "vectors.template": "{title}"})
    swapped = Recipe.load("resid_industrial", {"vectors.kind": "text"})
    assert swapped.vectors.model == "lsa" and swapped.vectors.batch_size == 64
