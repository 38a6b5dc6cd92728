"""Named systems, further recipes and published identifiers on common ground."""

import pytest

from cost_hf.experiments.compare.systems import (
    CALIBRATION,
    COUNTING,
    DENSE,
    GENERATIVE,
    HYBRID,
    PUBLISHED,
    combining_systems,
    default_systems,
    plan_systems,
)
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import FAMILIES, methods, variants
from cost_hf.methods.ranker.options import is_installed
from cost_hf.recipe_fields import RecipeError

COUNTS = ["item_knn", "markov", "markov_text", "popularity", "text_last", "text_mean"]  # of a recipe without baselines


def base(**overrides):
    return Recipe.load("cost_quickstart", {name.replace("__", "."): value for name, value in overrides.items()})


def single(base, names, **options):
    """Systems that combine no others, which every comparison has besides."""
    plan = plan_systems(base, names, **options)
    return [system for system in plan.systems if not system.recipe.system.combines_methods]


@pytest.mark.parametrize("name", variants())
def test_every_method_and_variant_is_a_row_that_validates(name):
    plan = plan_systems(base(evaluation__baselines=["markov", "text_last"]), [name])
    systems = {system.name: system for system in plan.systems}
    family = methods()[variants()[name].method].family

    if family == COUNTING:
        assert plan.untrained[name].method == variants()[name].method
    else:
        assert systems[name].family == family
        assert systems[name].description


def test_without_names_the_methods_propose_the_rows_cheapest_family_first():
    systems = plan_systems(base(), None).systems
    families = [FAMILIES.index(system.family) for system in systems]

    assert [system.name for system in systems if system.without_generative is None] == default_systems()
    assert families == sorted(families)


def test_every_comparison_has_a_fusion_and_where_lightgbm_is_installed_a_ranker():
    assert combining_systems() == ["fusion", *(["ranker"] if is_installed() else [])]
    for names in (None, ["markov"], ["cost"], ["fusion", "cost"]):
        found = [system.name for system in plan_systems(base(), names).systems]
        assert set(combining_systems()) <= set(found)
        assert len(set(found)) == len(found)


def test_hybrids_that_are_not_named_can_be_left_out():
    plan = plan_systems(base(), ["fusion", "cost", "sasrec_ce"], hybrids=False)

    families = {system.name: system.family for system in plan.systems}
    assert [name for name, family in families.items() if family == "hybrid"] == ["fusion", "fusion_generative"]


def test_hybrids_combine_all_rows_but_controls_and_stand_there_with_and_without_generative_ones():
    systems = {system.name: system for system in plan_systems(base(), ["cost", "sasrec_text", "random"]).systems}

    assert list(systems["fusion"].parts) == [*COUNTS, "sasrec_text"]
    assert list(systems["fusion_generative"].parts) == [*COUNTS, "cost", "sasrec_text"]
    assert (systems["fusion"].without_generative, systems["fusion_generative"].without_generative) == (None, "fusion")
    parts = systems["fusion_generative"].recipe.options.fusion.methods()
    assert list(parts) == [*COUNTS, "cost", "sasrec_text"]
    for name in ("cost", "sasrec_text"):  # fields of the base recipe, too
        assert parts[name].options == systems[name].recipe.options


def test_hybrids_follow_the_rows_that_they_combine():
    names = [system.name for system in plan_systems(base(), ["fusion", "cost", "score_sum"]).systems]

    assert names[0] == "cost"
    assert set(names[1:]) >= {"fusion", "fusion_generative", "score_sum", "score_sum_generative"}


def test_without_a_generator_there_is_one_row_a_hybrid():
    found = [system.name for system in plan_systems(base(), ["sasrec_ce"]).systems]

    assert found == ["sasrec_ce", *combining_systems()]


def test_a_generator_alone_with_counts_of_one_method_makes_the_second_row_only():
    systems = plan_systems(base(evaluation__baselines=["markov"]), ["cost"]).systems

    assert [(system.name, system.without_generative) for system in systems][:2] == [
        ("cost", None),
        ("fusion_generative", None),
    ]


def test_liger_is_a_part_with_a_generator():
    systems = {system.name: system for system in plan_systems(base(), ["liger"]).systems}

    assert "liger" in systems["fusion_generative"].parts
    assert "liger" not in systems["fusion"].parts


def test_a_hybrid_of_nothing_is_an_error_where_it_is_named_and_no_row_elsewhere():
    own = base(evaluation__baselines=[])

    assert [system.name for system in plan_systems(own, ["cost"]).systems] == ["cost"]
    with pytest.raises(RecipeError, match=r"row fusion can't be made of the other rows: .*two or more parts"):
        plan_systems(own, ["cost", "fusion"])


def test_a_hybrid_that_needs_a_missing_package_names_it_and_no_other_remedy(monkeypatch):
    monkeypatch.setattr("cost_hf.methods.ranker.options.find_spec", lambda name: None)

    with pytest.raises(RecipeError, match=r"row ranker can't be made .* pip install cost-hf\[rank\]$"):
        plan_systems(base(), ["ranker"])


def test_a_recipe_keeps_the_parts_that_it_names(tmp_path):
    own = base(method="fusion", fusion__parts=["markov", "text_last", "sasrec_ce"])
    own.save(tmp_path / "mine.yaml")

    (mine,) = [one for one in plan_systems(base(), [str(tmp_path / "mine.yaml")]).systems if one.name == "mine"]
    assert mine.recipe.options.fusion.parts == ["markov", "text_last", "sasrec_ce"]
    assert (mine.family, mine.parts) == (HYBRID, {})


@pytest.mark.parametrize("is_source", [True, False])
def test_a_recipe_keeps_its_parts_also_where_they_are_the_default(tmp_path, is_source):
    own = base(method="fusion", name="mine")
    own.save(tmp_path / "mine.yaml")
    names, others = (["cost"], [own]) if is_source else (["cost", str(tmp_path / "mine.yaml")], [])

    mine = [one for one in plan_systems(base(), names, others=others).systems if one.name.startswith("mine")]

    assert [list(one.recipe.system.parts) for one in mine] == [own.options.fusion.parts]


@pytest.mark.parametrize("name", ["markov_text", "popularity"])
def test_a_row_that_counts_may_be_named_though_it_stands_there_anyway(name):
    plan = plan_systems(base(), [name])

    assert list(plan.untrained) == COUNTS
    assert [system.name for system in plan.systems] == combining_systems()
    assert list(plan_systems(base(evaluation__baselines=["markov"]), [name]).untrained) == ["markov", name]


def test_the_order_of_names_of_counting_rows_makes_no_other_hybrid():
    named, unnamed = (plan_systems(base(), names).systems for names in (["text_last", "cost"], ["cost"]))

    assert [system.recipe for system in named] == [system.recipe for system in unnamed]


def test_baselines_that_train_are_systems_and_the_others_are_ranked_once_for_all(tmp_path):
    Recipe.load("sasrec_beauty").save(tmp_path / "mine.yaml")
    own = base(evaluation__baselines=["popularity", "sasrec_ce", str(tmp_path / "mine.yaml"), "tiger_beauty"])

    plan = plan_systems(own, ["cost"])

    assert [(system.name, system.family) for system in single(own, ["cost"])] == [
        ("cost", GENERATIVE),
        ("sasrec_ce", DENSE),
        ("mine", DENSE),
        ("tiger_beauty", GENERATIVE),
    ]
    assert {name: recipe.system.family for name, recipe in plan.untrained.items()} == {"popularity": COUNTING}


def test_a_code_kind_changes_nothing_but_the_codes():
    (system,) = single(base(), ["rkmeans"])

    assert system.recipe.options.codes.kind == "rkmeans"
    assert system.recipe.level_sizes == base().level_sizes
    assert system.family == GENERATIVE
    left = [recipe.to_dict() for recipe in (system.recipe, base())]
    for section in ("catalog", "generator", "adapter", "tasks", "search", "training", "data", "vectors"):
        assert left[0][section] == left[1][section]


def test_a_dense_variant_is_a_sasrec_recipe():
    (system,) = single(base(), ["sasrec_text"])

    assert (system.recipe.method, system.recipe.options.model.inputs, system.family) == ("sasrec", "text", DENSE)


def test_t5_is_the_same_codes_under_another_generator():
    cost, t5 = single(base(), ["cost", "t5_cost"])

    assert t5.recipe.options.codes == cost.recipe.options.codes
    assert t5.recipe.options.generator.kind == "seq2seq"


def test_another_recipe_keeps_its_sections_but_not_its_data_and_rules():
    own = base(data__synthetic_users=99, evaluation__num_beams=7, vectors__dim=64)
    other = Recipe.load("tiger_beauty")
    _, system = single(own, ["cost"], others=[other])

    assert system.name == "tiger_beauty"
    assert system.recipe.options == other.options
    assert system.recipe.data == own.data
    assert system.recipe.vectors == own.vectors
    assert system.recipe.evaluation.num_beams == 7


def test_a_recipe_that_a_named_system_is_already_makes_no_second_row():
    systems = single(base(), ["cost"], others=[base(), Recipe.load("cost_beauty")])

    assert [system.name for system in systems] == ["cost", "cost_beauty"]


def test_a_kind_takes_the_place_of_weights_of_the_base():
    own = base(codes__kind="letter", codes__reconstruction_weight=0.5, codes__collaborative_weight=0.1)
    (system,) = single(own, ["rqvae"])

    assert system.recipe.options.codes.reconstruction_weight == 1.0
    assert not system.recipe.options.codes.needs_collaborative_vectors


@pytest.mark.parametrize("name", ["random", "category", "t5_random"])
def test_codes_without_vectors_get_a_policy_that_moves_no_item(name):
    codes, learned = single(base(catalog__collisions="sinkhorn"), [name, "rqvae"])

    assert codes.recipe.options.catalog.collisions == "append"
    assert learned.recipe.options.catalog.collisions == "sinkhorn"


@pytest.mark.parametrize("name", ["markov", "cost", "oracle"])
def test_a_recipe_can_not_take_the_name_of_another_row(name):
    other = base(codes__level_sizes=[8, 8])
    other.name = name

    with pytest.raises(RecipeError, match=rf"needs a name of its own, got \['{name}'\]"):
        plan_systems(base(), ["cost"], others=[other])


def test_no_run_ranks_the_baselines_again():
    systems = plan_systems(base(), ["cost", "sasrec_ce"]).systems

    assert [system.recipe.evaluation.baselines for system in systems] == [[]] * len(systems)


def test_published_identifiers_are_calibration():
    system = plan_systems(base(), ["cost"], reference="sids.parquet").systems[-1]

    assert (system.name, system.family) == (PUBLISHED, CALIBRATION)
    assert system.recipe.options.catalog.reference == "sids.parquet"


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(RecipeError, match=r"'sasrec_cee' is neither a method nor a recipe; did you mean 'sasrec_ce'\?"):
        plan_systems(base(), ["sasrec_cee"])


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(RecipeError, match=r"needs a name of its own, got \['cost'\]"):
        plan_systems(base(), ["cost", "cost"])


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(RecipeError, match="needs one or more systems, got none"):
        plan_systems(base(), [])
