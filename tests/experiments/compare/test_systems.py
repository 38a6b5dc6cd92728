"""Named systems, further recipes and published identifiers on common ground."""

import pytest

from cost_hf.experiments.compare.systems import CALIBRATION, DENSE, GENERATIVE, PUBLISHED, plan_systems, system_names
from cost_hf.experiments.recipe import Recipe, RecipeError


def base(**overrides):
    return Recipe.load("cost_quickstart", {name.replace("__", "."): value for name, value in overrides.items()})


@pytest.mark.parametrize("name", system_names())
def test_every_named_system_is_a_recipe_that_validates(name):
    (system,) = plan_systems(base(), [name])

    assert system.name == name
    assert system.description


def test_a_code_kind_changes_nothing_but_the_codes():
    (system,) = plan_systems(base(), ["rkmeans"])
    changed = {name for name, value in system.recipe.to_dict()["codes"].items() if value != vars(base().codes)[name]}

    assert changed == {"kind"}
    assert system.family == GENERATIVE
    assert system.recipe.generator == base().generator


def test_a_dense_variant_is_a_sasrec_recipe():
    (system,) = plan_systems(base(), ["sasrec_text"])

    assert (system.recipe.method, system.recipe.sasrec.inputs, system.family) == ("sasrec", "text", DENSE)


def test_t5_is_the_same_codes_under_another_generator():
    cost, t5 = plan_systems(base(), ["cost", "t5_cost"])

    assert t5.recipe.codes == cost.recipe.codes
    assert t5.recipe.generator.kind == "seq2seq"


def test_another_recipe_keeps_its_sections_but_not_its_data_and_rules():
    own = base(data__synthetic_users=99, evaluation__num_beams=7, vectors__dim=64)
    other = Recipe.load("tiger_beauty")
    _, system = plan_systems(own, ["cost"], others=[other])

    assert system.name == "tiger_beauty"
    assert system.recipe.codes == other.codes
    assert system.recipe.data == own.data
    assert system.recipe.vectors == own.vectors
    assert system.recipe.evaluation.num_beams == 7


def test_a_recipe_that_a_named_system_is_already_makes_no_second_row():
    systems = plan_systems(base(), ["cost"], others=[base(), Recipe.load("cost_beauty")])

    assert [system.name for system in systems] == ["cost", "cost_beauty"]


def test_a_kind_takes_the_place_of_weights_of_the_base():
    own = base(codes__kind=None, codes__contrastive_weight=1.0, codes__collaborative_weight=0.1)
    (system,) = plan_systems(own, ["rqvae"])

    assert system.recipe.codes.weights["contrastive_weight"] == 0.0
    assert not system.recipe.codes.needs_collaborative


@pytest.mark.parametrize("name", ["random", "category", "t5_random"])
def test_codes_without_vectors_get_a_policy_that_moves_no_item(name):
    codes, learned = plan_systems(base(catalog__collisions="sinkhorn"), [name, "rqvae"])

    assert codes.recipe.catalog.collisions == "append"
    assert learned.recipe.catalog.collisions == "sinkhorn"


@pytest.mark.parametrize("name", ["markov", "ensemble", "oracle"])
def test_a_recipe_can_not_take_the_name_of_another_row(name):
    other = base(codes__level_sizes=[8, 8])
    other.name = name

    with pytest.raises(RecipeError, match=rf"\['{name}'\] are names of rows that every comparison has"):
        plan_systems(base(), ["cost"], others=[other])


def test_no_run_ranks_the_baselines_again():
    systems = plan_systems(base(), ["cost", "sasrec_ce"])

    assert [system.recipe.evaluation.baselines for system in systems] == [[], []]


def test_published_identifiers_are_calibration():
    system = plan_systems(base(), ["cost"], reference="sids.parquet")[-1]

    assert (system.name, system.family) == (PUBLISHED, CALIBRATION)
    assert system.recipe.catalog.reference == "sids.parquet"


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(RecipeError, match=r"unknown system 'sasrec_cee'; did you mean 'sasrec_ce'\?"):
        plan_systems(base(), ["sasrec_cee"])


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(RecipeError, match=r"names of their own, got \['cost', 'cost'\]"):
        plan_systems(base(), ["cost", "cost"])
