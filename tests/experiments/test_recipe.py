import pytest
import yaml

from cost_hf.data.options import ItemVectorOptions
from cost_hf.experiments.recipe import Recipe, on_common_ground, row_recipe
from cost_hf.methods.base import methods, variants
from cost_hf.methods.sasrec.options import SasRecOptions
from cost_hf.quantizers.base import CodesOptions
from cost_hf.recipe_fields import RecipeError, nearest
from cost_hf.recipe_files import shipped_recipes

SHIPPED = [
    "cost_beauty",
    "cost_default",
    "cost_games",
    "cost_industrial",
    "cost_mind",
    "cost_office",
    "cost_quickstart",
    "cost_yelp",
    "letter_beauty",
    "markov_text",
    "resid_beauty",
    "resid_industrial",
    "sasrec_beauty",
    "tiger_beauty",
]


def test_the_promised_recipes_are_shipped_with_a_description():
    recipes = shipped_recipes()

    assert set(SHIPPED) <= set(recipes)
    assert all(recipes.values())


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_checks_and_survives_a_round_trip(name, tmp_path):
    recipe = Recipe.load(name)
    recipe.validate()
    recipe.save(tmp_path / "copy.yaml")

    assert Recipe.load(str(tmp_path / "copy.yaml")).to_dict() == recipe.to_dict()


def test_overrides_win_over_the_file():
    recipe = Recipe.load("cost_quickstart", {"training.epochs": 3, "codes.level_sizes": [8, 8]})

    assert (recipe.options.training.epochs, recipe.options.codes.level_sizes) == (3, [8, 8])


def test_every_field_has_a_line_of_help():
    recipes = [Recipe.load(name) for name in shipped_recipes()]
    recipes += [Recipe.load("cost_default", {"codes.kind": kind}) for kind in CodesOptions.kinds]
    recipes += [Recipe.load("cost_default", {"vectors.kind": kind}) for kind in ItemVectorOptions.kinds]
    recipes += [Recipe.load("cost_default", {"method": name}) for name in methods()]

    assert [entry.dotted for recipe in recipes for entry in recipe.fields() if not entry.help] == []


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        ("training.epoch", 3, "unknown field 'training.epoch' of method sid_generator; did you mean 'training.epochs'"),
        ("generator.epochs", 3, "did you mean '(training|codes).epochs'"),
        ("training.epochs", "many", r"training.epochs must be int, got 'many' \(str\)"),
        ("training.epochs", True, "training.epochs must be int, got True"),
        ("codes.level_sizes", [8, "x"], r"codes.level_sizes must be list\[int\], got \[8, 'x'\]"),
        ("data.path", 3, "data.path must be str or null, got 3"),
    ],
)
def test_a_wrong_field_or_value_is_an_error_that_helps(dotted, value, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load("cost_quickstart", {dotted: value})


def test_an_entry_of_a_mapping_is_set_and_the_others_stay():
    weights = Recipe.load("cost_llm").options.tasks.weights
    recipe = Recipe.load("cost_llm", {"tasks.weights.text_to_item": "0.25"})

    assert recipe.options.tasks.weights == weights | {"text_to_item": 0.25}
    assert Recipe.load("cost_llm").options.tasks.weights == weights
    with pytest.raises(RecipeError, match=r"tasks\.weights"):
        Recipe.load("cost_llm", {"tasks.weights.text_to_item": "often"})
    with pytest.raises(RecipeError, match=r"unknown field 'tasks\.max_titles\.first'"):
        Recipe.load("cost_llm", {"tasks.max_titles.first": 1})


def test_numbers_convert_as_yaml_writes_them():
    recipe = Recipe.load("cost_quickstart", {"training.learning_rate": "1e-3", "codes.temperature": 1})

    assert recipe.options.training.learning_rate == 1e-3
    assert isinstance(recipe.options.codes.temperature, float)


def test_a_method_is_swapped_with_its_own_defaults_and_what_both_have_is_kept():
    recipe = Recipe.load("cost_quickstart", {"method": "sasrec", "data.seed": 5})

    assert recipe.data.seed == 5 and recipe.vectors.model == "lsa"
    assert recipe.options == SasRecOptions()
    assert set(recipe.sections()) == {"data", "vectors", "model", "training", "evaluation"}


def test_codes_are_those_of_the_recipe_where_methods_share_them():
    own = {"codes.kind": "rkmeans", "codes.level_sizes": [16, 8], "codes.pca_dim": 4}
    base = Recipe.load("cost_default", own)

    for name in ("glass", "prism_isr", "cobra", "liger", "token_merger"):
        assert row_recipe(name, base).options.codes == base.options.codes, name
    swapped = Recipe.load("glass_toy_long", {"method": "sid_generator"})
    assert swapped.options.codes == Recipe.load("glass_toy_long").options.codes


@pytest.mark.parametrize("name", ["acerec", "ttdsr"])
def test_a_method_with_codes_of_its_own_shares_them_with_no_other(name):
    own = methods()[name].options_class().codes

    assert row_recipe(name, Recipe.load("cost_default", {"codes.level_sizes": [16, 8]})).options.codes == own
    back = Recipe.load("acerec_industrial", {"method": "sid_generator"})
    assert back.options.codes == CodesOptions.of("cost")


def test_a_method_does_not_take_the_fields_of_a_row_of_its_name_that_is_of_another_method():
    assert variants()["prism"].method == "sid_generator"

    assert Recipe.load("cost_default", {"method": "prism"}).options.codes.kind == "cost"


def test_a_kind_is_swapped_with_its_own_weights_and_keeps_the_sizes():
    recipe = Recipe.load("cost_quickstart", {"codes.kind": "rqvae"})

    assert recipe.options.codes.kind == "rqvae" and recipe.options.codes.level_sizes == [32, 32, 32]
    assert recipe.options.codes.reconstruction_weight == CodesOptions.of("rqvae").reconstruction_weight
    assert not hasattr(Recipe.load("cost_quickstart", {"codes.kind": "random"}).options.codes, "epochs")


def test_the_order_of_overrides_does_not_matter():
    overrides = {"training.epochs": 3, "model.inputs": "text", "method": "sasrec"}

    assert Recipe.load("cost_default", overrides).to_dict() == (
        Recipe.load("cost_default", dict(reversed(overrides.items()))).to_dict()
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"method": "sasrek"}, "method must be one of .*sasrec.*got 'sasrek'; did you mean 'sasrec'"),
        ({"codes.kind": "cots"}, "codes.kind must be one of .*got 'cots'; did you mean 'cost'"),
        ({"method": "sasrec", "codes.kind": "cost"}, "unknown field 'codes.kind' of method sasrec"),
        ({"method": "sasrec", "generator.size": "tiny"}, "unknown field 'generator.size' of method sasrec"),
        ({"codes.kind": "random", "codes.latent_dim": 3}, "unknown field 'codes.latent_dim' of codes.kind random"),
        ({"codes.kind": "rqvae", "codes.growth": 1}, "'codes.growth' of codes.kind rqvae; codes.kind gaoq has it"),
    ],
)
def test_fields_are_those_of_the_method_and_kind(overrides, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load("cost_quickstart", overrides)


def test_a_row_is_a_variant_or_a_recipe_on_common_ground(tmp_path):
    base = Recipe.load("cost_quickstart", {"data.seed": 9})
    row = row_recipe("sasrec_text", base)
    assert (row.method, row.options.model.inputs, row.data.seed, row.evaluation.baselines) == ("sasrec", "text", 9, [])

    other = Recipe.load("sasrec_beauty", {"model.hidden_size": 32})
    other.save(tmp_path / "mine.yaml")
    row = row_recipe(str(tmp_path / "mine.yaml"), base)
    assert (row.options.model.hidden_size, row.data.seed, row.vectors.model) == (32, 9, "lsa")

    with pytest.raises(RecipeError, match="'sasrec_txt' is neither a method nor a recipe; did you mean 'sasrec_text'"):
        row_recipe("sasrec_txt", base)


def test_a_baseline_with_values_that_no_run_can_have_is_an_error_before_any_work(tmp_path):
    (tmp_path / "mine.yaml").write_text("method: fusion\nfusion: {parts: [markov]}\n")

    with pytest.raises(RecipeError, match=r"baseline .*mine\.yaml: a hybrid needs two or more parts"):
        Recipe.load("cost_quickstart", {"evaluation.baselines": [str(tmp_path / "mine.yaml")]}).validate()


@pytest.mark.parametrize("name", sorted({*shipped_recipes()} & {*variants()}))
def test_a_row_of_a_name_that_a_recipe_has_too_is_the_method(name):
    """What a recipe of that name says beside data and vectors is what the method is without it."""
    base = Recipe.load("cost_quickstart", {"data.seed": 9})

    row = row_recipe(name, base)

    assert (row.method, row.data.seed) == (variants()[name].method, 9)
    assert row.options == on_common_ground(Recipe.load(name), base).options


def test_counts_and_texts_are_a_recipe_for_own_tables():
    recipe = Recipe.load("markov_text", {"data.path": "somewhere"})

    assert (recipe.method, recipe.vectors.model, recipe.data.reader) == ("markov_text", "lsa", "tables")


def test_an_unknown_recipe_names_the_nearest_and_all_of_them():
    with pytest.raises(
        RecipeError, match=r"unknown recipe 'cost_industry'; did you mean 'cost_industrial'.*tiger_beauty"
    ):
        Recipe.load("cost_industry")


def test_latents_must_fit_the_model_that_codes_are_aligned_with():
    recipe = Recipe.load("cost_quickstart", {"codes.kind": "letter", "codes.latent_dim": 33})

    with pytest.raises(
        ValueError, match=r"collaborative vectors of SASRec must be as wide as a multiple of 2, .*, got 33"
    ):
        recipe.validate()


def test_a_missing_recipe_file_is_an_error():
    with pytest.raises(RecipeError, match=r"no recipe file 'mine.yaml'"):
        Recipe.load("mine.yaml")


def test_a_section_that_holds_no_fields_is_an_error(tmp_path):
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"training": 5}))

    with pytest.raises(RecipeError, match=r"section 'training' of .* must hold fields, got 5"):
        Recipe.load(str(tmp_path / "odd.yaml"))


def test_first_items_are_for_seq2seq_alone():
    Recipe.load("cost_quickstart", {"training.first_items": True, "generator.kind": "seq2seq"}).validate()

    with pytest.raises(ValueError, match=r"first_items is for .* seq2seq"):
        Recipe.load("cost_quickstart", {"training.first_items": True}).validate()


@pytest.mark.parametrize("policy", ["reassign", "min_cost", "sinkhorn"])
def test_codes_without_a_model_have_no_distances_to_move_items_by(policy):
    changes = {"codes.kind": "random", "catalog.collisions": policy}

    with pytest.raises(ValueError, match=rf"collisions='{policy}' moves items .* kind 'random' have none; set"):
        Recipe.load("cost_default", changes).validate()
    Recipe.load("cost_default", changes | {"catalog.reference": "published.parquet"}).validate()


def test_titles_are_not_learned_where_they_could_not_be_judged(monkeypatch):
    overrides = {"tasks.weights": {"next_item": 1.0, "item_to_title": 1.0}}
    recipe = Recipe.load("cost_llm", overrides)
    recipe.validate()

    monkeypatch.setattr("cost_hf.methods.generative.method.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"item_to_title, which are evaluated by ROUGE.* pip install cost-hf\[titles\]"
    ):
        recipe.validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"adapter.r": 8}, "adapter.r=8 needs a generator.backbone"),
        ({"tasks.weights": {"next_item": 1.0, "text_to_item": 1.0}}, "text_to_item, which need a generator.backbone"),
    ],
)
def test_what_needs_a_pretrained_generator_is_refused_without_one(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", overrides).validate()


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("generator.max_history", 0),
        ("generator.max_history", 10**9),
        ("generator.num_user_tokens", 10**9),
        ("evaluation.num_beams", 10**9),
        ("evaluation.bootstrap_draws", 10**9),
        ("model.num_layers", 100_000),
        ("model.max_history", 0),
        ("model.hidden_size", 2**40),
        ("codes.level_sizes", [10**12]),
        ("codes.level_sizes", [4] * 1000),
        ("codes.hidden_sizes", [64] * 100_000),
        ("codes.hidden_sizes", [0]),
        ("codes.latent_dim", 10**9),
        ("codes.temperature", float("nan")),
        ("training.learning_rate", "inf"),
        ("catalog.append_size", 10**12),
        ("data.synthetic_items", 10**12),
        ("vectors.dim", 10**9),
        ("training.batch_size", 10**9),
        ("training.validation_beams", 10**9),
        ("evaluation.cutoffs", [10**9]),
    ],
)
def test_sizes_that_no_machine_holds_are_refused_before_any_work(dotted, value):
    with pytest.raises(ValueError, match=rf"{dotted}.*(at most|at least|finite|1 to 64|must be float)"):
        method = {"method": "sasrec"} if dotted.startswith("model.") else {}
        Recipe.load("cost_quickstart", method | {dotted: value}).validate()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", r"is no recipe: expected sections with fields, got \[1, 2\] \(list\)"),
        ("just words", r"expected sections with fields, got 'just words' \(str\)"),
        ("1: {}", "expected sections with fields"),
        ("training: &x {epochs: 3}\nsearch: *x", "line 2 refers to another value by an alias"),
        ("training: {epochs: 3}\ntraining: {epochs: 4}", "give 'training' twice"),
        ("description: [a, b]", r"description of .* must be str, got \['a', 'b'\]"),
        ("name: 2024-01-01", "name of .* must be str, got datetime.date"),
        ("method: {a: b}", "method of .* must be str"),
        ("training: {epochs: 2024-01-01}", "training.epochs must be int, got datetime.date"),
        ("training: {epochs: 99999999999999999999}", "training.epochs must be int, got a number beyond 64 bits"),
        ("training: {learning_rate: .inf}", "training.learning_rate must be a finite number, got inf"),
        ("training: {learning_rate: 1e999}", "training.learning_rate must be a finite number"),
        ("data: {licence: [MIT]}", r"data.licence must be str or null, got \['MIT'\]"),
        ("data: {path: " + "9" * 300 + "}", "data.path must be str or null, got a number beyond 64 bits"),
        ("training: {1: 2}", "unknown field 'training.1'"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_in_one_short_line(content, message, tmp_path):
    (tmp_path / "own.yaml").write_text(content)

    with pytest.raises(RecipeError, match=message) as told:
        Recipe.load(str(tmp_path / "own.yaml"))
    assert len(str(told.value)) < 600


def test_bytes_that_are_no_text_and_files_without_end_are_no_recipe(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: Bl\xe5b\xe4r".encode("latin-1"))
    (tmp_path / "long.yaml").write_bytes(b"# " + b"x" * 2_000_000)
    (tmp_path / "folder.yaml").mkdir()

    for name, message in (("latin", "no UTF-8 text"), ("long", "at most 1000000"), ("folder", "is a directory")):
        with pytest.raises(RecipeError, match=message):
            Recipe.load(str(tmp_path / f"{name}.yaml"))


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "..", "", "a\\b", "a\nb", "\x1b[2J", "x" * 200])
def test_a_name_that_would_lead_out_of_its_directory_is_refused(name):
    with pytest.raises(RecipeError, match="name must be 1 to 100 characters"):
        Recipe(name=name).validate()


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("epochs", "training.epochs"),
        ("lerning_rate", "training.learning_rate"),
        ("num-beams", "evaluation.num_beams"),
        ("codes.epoch", "codes.epochs"),
        ("trainning.epochs", "training.epochs"),
        ("output-dir", "output_dir"),
        ("max_histroy", "generator.max_history"),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name, best):
    known = [*(entry.dotted for entry in Recipe().fields()), "recipe", "seed", "output_dir"]

    assert nearest(name, known).startswith(f"; did you mean '{best}'")
