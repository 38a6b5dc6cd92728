"""Named systems, further recipes and published identifiers on common ground."""

import pytest

from cost_hf.experiments.compare.systems import (
    CALIBRATION,
    COUNTING,
    DENSE,
    GENERATIVE,
    PUBLISHED,
    default_systems,
    plan_systems,
    untrained_rows,
)
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import FAMILIES, methods, variants
from cost_hf.recipe_fields import RecipeError


def base(**overrides):
    return Recipe.load("cost_quickstart", {name.replace("__", "."): value for name, value in overrides.items()})


@pytest.mark.parametrize("name", variants())
def test_every_method_and_variant_is_a_row_that_validates(name):
    (system,) = plan_systems(base(evaluation__baselines=[]), [name])

    assert system.name == name
    assert system.family == methods()[variants()[name].method].family
    assert system.description


def test_without_names_the_methods_propose_the_rows_cheapest_family_first():
    families = [FAMILIES.index(system.family) for system in plan_systems(base(), None)]

    assert [system.name for system in plan_systems(base(), None)] == default_systems()
    assert families == sorted(families)


def test_baselines_that_train_are_systems_and_the_others_are_ranked_once_for_all(tmp_path):
    Recipe.load("sasrec_beauty").save(tmp_path / "mine.yaml")
    own = base(evaluation__baselines=["popularity", "sasrec_ce", str(tmp_path / "mine.yaml"), "tiger_beauty"])

    systems = plan_systems(own, ["cost"])

    assert [(system.name, system.family) for system in systems] == [
        ("cost", GENERATIVE),
        ("sasrec_ce", DENSE),
        ("mine", DENSE),
        ("tiger_beauty", GENERATIVE),
    ]
    assert {name: recipe.system.family for name, recipe in untrained_rows(own).items()} == {"popularity": COUNTING}


def test_a_code_kind_changes_nothing_but_the_codes():
    (system,) = plan_systems(base(), ["rkmeans"])

    assert system.recipe.options.codes.kind == "rkmeans"
    assert system.recipe.level_sizes == base().level_sizes
    assert system.family == GENERATIVE
    left = [recipe.to_dict() for recipe in (system.recipe, base())]
    for section in ("catalog", "generator", "adapter", "tasks", "search", "training", "data", "vectors"):
        assert left[0][section] == left[1][section]


def test_a_dense_variant_is_a_sasrec_recipe():
    (system,) = plan_systems(base(), ["sasrec_text"])

    assert (system.recipe.method, system.recipe.options.model.inputs, system.family) == ("sasrec", "text", DENSE)


def test_t5_is_the_same_codes_under_another_generator():
    cost, t5 = plan_systems(base(), ["cost", "t5_cost"])

    assert t5.recipe.options.codes == cost.recipe.options.codes
    assert t5.recipe.options.generator.kind == "seq2seq"


def test_another_recipe_keeps_its_sections_but_not_its_data_and_rules():
    own = base(data__synthetic_users=99, evaluation__num_beams=7, vectors__dim=64)
    other = Recipe.load("tiger_beauty")
    _, system = plan_systems(own, ["cost"], others=[other])

    assert system.name == "tiger_beauty"
    assert system.recipe.options == other.options
    assert system.recipe.data == own.data
    assert system.recipe.vectors == own.vectors
    assert system.recipe.evaluation.num_beams == 7


def test_a_recipe_that_a_named_system_is_already_makes_no_second_row():
    systems = plan_systems(base(), ["cost"], others=[base(), Recipe.load("cost_beauty")])

    assert [system.name for system in systems] == ["cost", "cost_beauty"]


def test_a_kind_takes_the_place_of_weights_of_the_base():
    own = base(codes__kind="letter", codes__reconstruction_weight=0.5, codes__collaborative_weight=0.1)
    (system,) = plan_systems(own, ["rqvae"])

    assert system.recipe.options.codes.reconstruction_weight == 1.0
    assert not system.recipe.options.codes.needs_collaborative_vectors


@pytest.mark.parametrize("name", ["random", "category", "t5_random"])
def test_codes_without_vectors_get_a_policy_that_moves_no_item(name):
    codes, learned = plan_systems(base(catalog__collisions="sinkhorn"), [name, "rqvae"])

    assert codes.recipe.options.catalog.collisions == "append"
    assert learned.recipe.options.catalog.collisions == "sinkhorn"


@pytest.mark.parametrize("name", ["markov", "ensemble", "oracle"])
def test_a_recipe_can_not_take_the_name_of_another_row(name):
    other = base(codes__level_sizes=[8, 8])
    other.name = name

    with pytest.raises(RecipeError, match=rf"\['{name}'\] are names of rows that this comparison has"):
        plan_systems(base(), ["cost"], others=[other])


def test_no_run_ranks_the_baselines_again():
    systems = plan_systems(base(), ["cost", "sasrec_ce"])

    assert [system.recipe.evaluation.baselines for system in systems] == [[], []]


def test_published_identifiers_are_calibration():
    system = plan_systems(base(), ["cost"], reference="sids.parquet")[-1]

    assert (system.name, system.family) == (PUBLISHED, CALIBRATION)
    assert system.recipe.options.catalog.reference == "sids.parquet"


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(RecipeError, match=r"'sasrec_cee' is neither a method nor a recipe; did you mean 'sasrec_ce'\?"):
        plan_systems(base(), ["sasrec_cee"])


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(RecipeError, match=r"names of their own, got \['cost', 'cost'\]"):
        plan_systems(base(), ["cost", "cost"])
