"""Rank fusion as a method of a run: its members, their options, the weights and the whole recommender."""

import shutil

import pytest

import cost_hf
from cost_hf.files import read_json
from cost_hf.methods.base import Estimate, Fitted, Method, methods
from cost_hf.methods.fusion import ReciprocalRankFusion
from cost_hf.methods.fusion.members import member_methods
from cost_hf.methods.fusion.options import FusionOptions, FusionSection
from cost_hf.methods.fusion.recommender import FusionRecommender
from tests.runs import TINY, stages_of

TOY = {name: value for name, value in TINY.items() if name.partition(".")[0] in ("data", "evaluation")}
MEMBERS = ["random", "sasrec_text", "text_last"]
OVERRIDES = {
    "random.codes.level_sizes": [8, 8, 8],
    "random.training.epochs": 2,
    "random.training.batch_size": 16,
    "random.training.validation_users": 33,
    "sasrec_text.training.epochs": 2,
    "sasrec_text.training.batch_size": 16,
    "sasrec_text.training.validation_users": 33,
    "sasrec_text.model.hidden_size": 16,
}
FUSION = TOY | {"method": "reciprocal_rank", "fusion.members": MEMBERS, "fusion.overrides": OVERRIDES}


def test_a_member_has_the_fields_of_its_variant_and_the_overrides():
    members = member_methods(MEMBERS, OVERRIDES | {"sasrec_text.model.dropout": 0.3})

    assert list(members) == MEMBERS
    options = members["sasrec_text"].options
    assert (options.model.inputs, options.model.dropout, options.training.epochs) == ("text", 0.3, 2)
    assert members["random"].options.codes.kind == "random"
    assert members["random"].options.codes.level_sizes == [8, 8, 8]


def test_the_default_members_are_one_of_each_family():
    members = ReciprocalRankFusion(FusionOptions()).members

    assert [member.family for member in members.values()] == ["generative", "dense", "counting"]
    FusionOptions().validate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ["markov"]}, r"two or more different names, got \['markov'\]"),
        ({"members": ["markov", "markov"]}, "two or more different names"),
        ({"members": ["markov", "text_lst"]}, r"got 'text_lst'; did you mean 'text_last'\?"),
        ({"members": ["markov", "reciprocal_rank"]}, "must be methods or their variants, got 'reciprocal_rank'"),
        ({"overrides": {"markov.x.y": 1}}, r"must name a field of a member as MEMBER.section.field, got 'markov.x.y'"),
        (
            {"overrides": {"sasrec_text.training.epoch": 1}},
            r"member 'sasrec_text' has no field 'training.epoch'; did you mean 'training.epochs'\?",
        ),
        ({"overrides": {"cost.codes.kind": "costs"}}, r"cost.codes.kind must be one of .*did you mean 'cost'\?"),
        ({"overrides": {"sasrec_text.training.epochs": 0}}, "epochs"),
    ],
)
def test_members_and_fields_that_do_not_exist_are_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        FusionSection(**fields).validate()


def test_an_ensemble_has_the_best_dense_row_the_first_generator_and_the_texts():
    rows = {"text_last": ("counting", 0.3), "a": ("dense", 0.1), "b": ("dense", 0.2), "c": ("generative", 0.1)}

    assert ReciprocalRankFusion.fused_rows(rows) == ["c", "b", "text_last"]
    assert ReciprocalRankFusion.fused_rows({"text_last": ("counting", 0.3), "a": ("dense", 0.1)}) is None


class Costly(Method):
    name, family, summary = "costly", "dense", "only its costs"

    def fit(self, workspace, *, seed) -> Fitted:
        raise NotImplementedError

    def estimate(self, facts):
        return facts


def test_costs_are_the_sum_of_the_members(monkeypatch):
    fusion = ReciprocalRankFusion(FusionOptions())
    monkeypatch.setattr(ReciprocalRankFusion, "members", {name: Costly(None) for name in ("a", "b")})

    found = fusion.estimate(Estimate({"codes": 1.0, "training": 2.0, "evaluation": 4.0}, 8.0, ["few epochs"]))

    assert found == Estimate({"evaluation": 8.0, "a": 3.0, "b": 3.0}, 8.0, ["few epochs"])
    assert fusion.estimate("the backbone is not loaded") == "member a: the backbone is not loaded"


def test_the_method_is_a_hybrid():
    assert methods()["reciprocal_rank"] is ReciprocalRankFusion
    assert ReciprocalRankFusion.family == "hybrid"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=FUSION, output_dir=tmp_path_factory.mktemp("fusion"))


@pytest.mark.trains
def test_a_fusion_is_a_whole_run(run, caplog):
    loaded = cost_hf.Recommender.from_pretrained(run.output_dir)
    history = run.examples[0][1]
    weights = run.results["fusion"]["weights"]

    assert type(loaded) is FusionRecommender
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    assert list(weights) == sorted(MEMBERS) and sum(weights.values()) == pytest.approx(1)
    assert set(loaded.members) == {name for name, weight in weights.items() if weight > 0}
    assert run.results["methods"]["recommender"]["family"] == "hybrid"
    assert set(run.results["stages"]) == {
        "vectors",
        "reciprocal_rank-random-quantizer",
        "reciprocal_rank-random-generator",
        "reciprocal_rank-sasrec_text",
        "fusion",
        "evaluation",
    }
    assert read_json(run.output_dir / "recommender" / "weights.json") == weights
    caplog.set_level("INFO", logger="cost_hf")
    again = cost_hf.train(overrides=FUSION, output_dir=run.output_dir)
    assert not [line for line in caplog.messages if line.startswith("stage ")]
    assert again.results["rows"] == run.results["rows"]


@pytest.mark.trains
def test_a_new_item_reaches_all_members_of_a_run(run, tmp_path):
    recommender = cost_hf.Recommender.from_pretrained(run.output_dir)
    text = recommender.catalog.titles[0]
    recommender.add_items(["new"], [text])
    recommender.save_pretrained(tmp_path)

    answers = cost_hf.Recommender.from_pretrained(tmp_path).recommend(
        [recommender.catalog.item_ids[0]], top_k=len(recommender.catalog)
    )

    assert "new" in {answer.item_id for answer in answers}


@pytest.mark.trains
def test_other_weights_are_chosen_without_training_the_members_again(run, tmp_path, caplog):
    directory = shutil.copytree(run.output_dir, tmp_path / "run")
    caplog.set_level("INFO", logger="cost_hf")

    cost_hf.train(overrides=FUSION | {"evaluation.validation_users": 20}, output_dir=directory)

    assert stages_of(caplog.messages) == ["fusion", "evaluation"]
    assert not [line for line in caplog.messages if "reciprocal_rank-" in line]
