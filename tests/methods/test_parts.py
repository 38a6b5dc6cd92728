"""Parts of hybrids: names, recipes and overrides, and the fields that make a part what a row of a comparison is."""

import dataclasses

import pytest
import yaml

from cost_hf.methods.base import Estimate, Fitted, Method, methods, variants
from cost_hf.methods.fusion.options import FusionOptions, FusionSection
from cost_hf.methods.parts import (
    PartsOptions,
    compared_parts,
    estimate_parts,
    part_name,
    part_protocol,
)
from cost_hf.recipe_fields import set_field

SINGLE = [name for name, variant in variants().items() if not methods()[variant.method].combines_methods]


def method_of(name: str, **fields):
    """Return the method of a part with some fields set; `training__epochs` stands for `training.epochs`."""
    overrides = {f"{name}.{dotted.replace('__', '.')}": value for dotted, value in fields.items()}
    return PartsOptions([name, "popularity"], overrides).methods()[name]


def test_a_part_has_the_fields_of_its_variant_and_the_overrides():
    own = {"sasrec_text.model.dropout": 0.3, "random.codes.level_sizes": [8, 8, 8]}
    parts = PartsOptions(["random", "sasrec_text", "text_last"], own).methods()

    assert list(parts) == ["random", "sasrec_text", "text_last"]
    options = parts["sasrec_text"].options
    assert (options.model.inputs, options.model.dropout) == ("text", 0.3)
    assert (parts["random"].options.codes.kind, parts["random"].options.codes.level_sizes) == ("random", [8, 8, 8])


@pytest.mark.parametrize("name", SINGLE)
def test_every_method_and_variant_is_a_part(name):
    method = method_of(name)

    assert method.name == variants()[name].method
    method.options.validate()


def test_recipes_are_parts(tmp_path):
    recipe = {
        "name": "another name",
        "description": "text of the recipe",
        "method": "sasrec",
        "data": {"path": "elsewhere", "reader": "tables"},
        "training": {"epochs": 3},
        "model": {"inputs": "text"},
    }
    (tmp_path / "mine.v2.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "plain.yml").write_text("training: {epochs: 4}\n")
    parts = PartsOptions(
        [str(tmp_path / "mine.v2.yaml"), str(tmp_path / "plain.yml"), "liger_industrial"],
        {"mine.v2.training.epochs": 7, "plain.codes.kind": "random"},
    ).methods()

    assert list(parts) == ["mine.v2", "plain", "liger_industrial"]
    assert (parts["mine.v2"].name, parts["mine.v2"].options.training.epochs) == ("sasrec", 7)
    assert parts["mine.v2"].options.model.inputs == "text"
    assert (parts["plain"].options.codes.kind, parts["plain"].options.training.epochs) == ("random", 4)
    assert parts["liger_industrial"].name == "liger"
    assert part_name("some/where/mine.v2.yaml") == "mine.v2"


def test_overrides_of_a_name_that_begins_like_another_one(tmp_path):
    for name in ("a", "a.b"):
        (tmp_path / f"{name}.yaml").write_text("method: sasrec\n")
    names = [str(tmp_path / f"{name}.yaml") for name in ("a", "a.b")]
    parts = PartsOptions(names, {"a.training.epochs": 2, "a.b.training.epochs": 3}).methods()

    assert [method.options.training.epochs for method in parts.values()] == [2, 3]


def test_the_default_parts_are_counts_texts_and_dense_models():
    parts = PartsOptions().methods()

    assert {method.family for method in parts.values()} == {"counting", "dense"} and len(parts) == 6
    FusionOptions().validate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parts": []}, r"two or more parts with different names, got \[\]"),
        ({"parts": ["markov"]}, r"two or more parts with different names, got \['markov'\]"),
        ({"parts": ["markov", "markov"]}, "two or more parts with different names"),
        ({"parts": ["markov", "text_lst"]}, r"got 'text_lst'; did you mean 'text_last'\?"),
        ({"parts": ["markov", "fusion"]}, "a part must be one of .*liger, .*markov"),
        ({"parts": ["markov", "score_sum"]}, "part 'score_sum' is of method 'fusion'"),
        ({"parts": ["markov", "nowhere.yaml"]}, "no recipe file 'nowhere.yaml'"),
        (
            {"overrides": {"nobody.x.y": 1}},
            r"name a field of a part as PART.section.field, got 'nobody.x.y'; parts are",
        ),
        ({"overrides": {"markov": 1}}, "name a field of a part as PART.section.field, got 'markov'"),
        ({"overrides": {"markov.x.y": 1}}, "unknown field 'x.y' of part markov"),
        (
            {"overrides": {"sasrec_text.training.epoch": 1}},
            r"unknown field 'training.epoch' of part sasrec_text; did you mean 'training.epochs'\?",
        ),
        (
            {"parts": ["markov", "cost"], "overrides": {"cost.codes.kind": "costs"}},
            r"codes.kind must be one of .*did you mean 'cost'\?",
        ),
        ({"overrides": {"sasrec_text.training.epochs": 0}}, "part sasrec_text: training.epochs must be at least 1"),
        ({"overrides": {"sasrec_text.training.epochs": "many"}}, "training.epochs must be int, got 'many'"),
    ],
)
def test_parts_and_fields_that_do_not_exist_are_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        FusionSection(**fields).validate()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a b", "method: markov\n", "the name of a part becomes a folder, expected letters.*got 'a b'"),
        ("list", "method: [a]\n", r"part .* is of method \"\['a'\]\", expected one of"),
        ("other", "method: fusion\n", "is of method 'fusion', a part must be one of"),
        ("flat", "training: 3\n", "section 'training' of .* must hold fields, got 3"),
        ("unknown", "training: {epoch: 3}\n", r"unknown field 'training.epoch'.*did you mean"),
    ],
)
def test_recipes_that_are_no_parts_are_an_error(tmp_path, name, content, message):
    path = tmp_path / f"{name}.yaml"
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        FusionSection(parts=["markov", str(path)]).validate()


# --- rows of a comparison as parts ---


@pytest.mark.parametrize("name", SINGLE)
def test_a_row_that_is_its_variant_needs_no_override(name):
    assert compared_parts({name: method_of(name)}) == {"parts": [name], "overrides": {}}


CHANGED = {
    "sasrec_text": {"training__epochs": 3, "model__dropout": 0.3, "model__inputs": "both"},
    "sasrec_ce": {"training__learning_rate": 0.01},
    "cost": {"codes__kind": "random", "codes__level_sizes": [8, 8], "generator__kind": "seq2seq"},
    "random": {"codes__kind": "letter", "training__epochs": 2},
    "liger": {"training__epochs": 5},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_part_is_what_its_row_is(name):
    row = method_of(name, **CHANGED[name])

    fields = compared_parts({name: row, "markov": method_of("markov")})
    part = PartsOptions(**fields).methods()[name]

    assert fields["parts"] == [name, "markov"] and fields["overrides"]
    assert type(part.options) is type(row.options)
    assert dataclasses.asdict(part.options) == dataclasses.asdict(row.options)
    for section, own in row.options.sections().items():
        assert type(getattr(part.options, section)) is type(own)


def test_a_row_of_a_recipe_becomes_a_part_by_its_method():
    row = methods()["sasrec"](methods()["sasrec"].options_class())
    set_field(row.options, row.options.sections(), "training.epochs", 9, owner="row")

    fields = compared_parts({"my_recipe": row, "again": row, "fusion": methods()["fusion"](FusionOptions())})

    assert fields == {"parts": ["sasrec"], "overrides": {"sasrec.training.epochs": 9}}


def test_methods_that_combine_parts_give_the_fields_of_their_section():
    rows = {"markov": method_of("markov"), "sasrec_ce": method_of("sasrec_ce", training__epochs=3)}
    for name, method in methods().items():
        fields = method.combination_of(rows)
        assert (fields is not None) == method.combines_methods
        if fields is not None:
            assert fields == {
                f"{name}.parts": ["markov", "sasrec_ce"],
                f"{name}.overrides": {"sasrec_ce.training.epochs": 3},
            }


# --- costs and protocol ---


class Costly(Method):
    name, family, summary = "costly", "dense", "only its costs"

    def fit(self, workspace, *, seed) -> Fitted:
        raise NotImplementedError

    def estimate(self, facts):
        return facts


def test_costs_are_the_sum_of_the_parts():
    parts = {name: Costly(None) for name in ("a", "b")}

    found = estimate_parts(parts, Estimate({"codes": 1.0, "training": 2.0, "evaluation": 4.0}, 8.0, ["few epochs"]))

    assert found == Estimate({"evaluation": 8.0, "a": 3.0, "b": 3.0}, 8.0, ["few epochs"])
    assert estimate_parts(parts, "the backbone is not loaded") == "part a: the backbone is not loaded"


def test_the_protocol_names_parts_that_were_selected_on_validation():
    parts = PartsOptions(["markov", "sasrec_ce", "cost", "liger"]).methods()

    assert part_protocol(parts) == {
        "parts": ["markov", "sasrec_ce", "cost", "liger"],
        "parts_selected_on_validation": ["sasrec_ce", "cost", "liger"],
    }
