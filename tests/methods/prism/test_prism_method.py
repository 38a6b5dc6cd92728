"""PRISM's recommender through the seam of a method: options, ablations that train, a whole run."""

import dataclasses

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import DataFacts, methods, variants
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.prism import Prism
from cost_hf.methods.prism.method import ROWS
from cost_hf.methods.prism.options import IsrOptions, PrismOptions
from cost_hf.methods.prism.recommender import PrismRecommender
from cost_hf.methods.prism.training import code_vectors
from tests.recommenders.toys import toy_catalog
from tests.runs import TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 0}, "isr.experts must be at least 1"),
        ({"active_experts": 4}, "isr.active_experts must be at most 3"),
        ({"expert_sizes": []}, "isr.expert_sizes must be 1 to 64 widths"),
        ({"expert_sizes": [0]}, r"isr.expert_sizes\[0\] must be at least 1"),
        ({"codebook_weight": -1.0}, "isr.codebook_weight must be 0 or above"),
        ({"density_temperatures": [0.8]}, "must be the lowest and the highest temperature"),
        ({"density_temperatures": [0.0, 0.8]}, "must be the lowest and the highest temperature"),
        ({"fusion": False, "collaborative_method": "sasrec"}, "gives vectors for the fusion"),
        ({"tag_column": "topic", "tag_weight": 0.0}, "names tags to predict"),
    ],
)
def test_values_that_no_run_can_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(IsrOptions(), **changes).validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.backbone": "some/model", "generator.dropout": None}, "trains its generator from scratch"),
        ({"isr.positions": True}, "isr.positions is for generator.kind seq2seq"),
        ({"training.temperature": 0.8}, "both divide the logits"),
        ({"training.teacher": "markov"}, "takes a share of the plain loss"),
        ({"isr.collaborative_method": "markov"}, "isr.collaborative_method must be one of .*sasrec.*got 'markov'"),
        ({"isr.collaborative_method": "sasrec", "isr.collaborative_dim": 33}, "got 33; change isr.collaborative_dim"),
        ({"isr.fusoin": True}, "did you mean 'isr.fusion'"),
    ],
)
def test_sections_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"method": "prism"} | overrides).validate()


def test_it_is_a_method_with_a_row_for_every_ablation():
    assert methods()["prism"] is Prism and Prism.family == "generative"
    for name, (changes, _) in ROWS.items():
        assert variants()[name].overrides == changes and variants()[name].method == "prism"
        options = PrismOptions()
        for dotted, value in changes.items():
            setattr(options.isr, dotted.partition(".")[2], value)
        options.validate()
    options.generator.kind = "seq2seq"
    assert not Prism(options).names_items and Prism(options).weighs_labels  # the last row: all off


def test_codes_without_vectors_of_one_width_have_none():
    class Quantizer:
        def __init__(self, *levels):
            self.levels = levels

        def level_vectors(self, level):
            return self.levels[level]

    two, three = torch.zeros(4, 2), torch.zeros(4, 3)
    assert [len(part) for part in code_vectors(Quantizer(two, two), 2)] == [4, 4]
    assert (
        code_vectors(Quantizer(two, three), 2) == code_vectors(Quantizer(two, None), 2) == code_vectors(None, 2) == []
    )


def test_an_estimate_times_the_model_and_the_training_of_its_vectors():
    data = prepare_data(DataOptions(reader="synthetic", synthetic_users=40, synthetic_items=96))
    facts = DataFacts(data.tables, data.split, item_dim=7, evaluation=EvaluationOptions(num_beams=10), cases=40)
    options = PrismOptions(isr=IsrOptions(collaborative_method="sasrec", collaborative_dim=8, expert_sizes=[8]))
    options.generator.size, options.codes.level_sizes = "tiny", [8, 8, 8]

    estimate = Prism(options).estimate(facts)

    assert set(estimate.seconds) == {"codes", "generator", "collaborative", "evaluation"}
    assert min(estimate.seconds.values()) > 0


WHOLE = TINY | {
    "method": "prism",
    "generator.kind": "seq2seq",
    "generator.size": "tiny",
    "codes.kind": "cost",
    "isr.expert_sizes": [16],
    "isr.content_size": 16,
    "isr.collaborative_method": "sasrec",
    "isr.collaborative_dim": 16,
    "isr.tag_column": "topic",
    "training.epochs": 1,
    "evaluation.baselines": ["popularity"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=WHOLE, output_dir=tmp_path_factory.mktemp("prism"))


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_has_every_part_in_its_directory(run):
    system = cost_hf.Recommender.from_pretrained(run.output_dir)
    config = system.generator.config

    assert isinstance(system, PrismRecommender)
    assert config.use_fusion and config.has_codebook_head and config.has_tag_head and config.use_positions
    assert config.collaborative_dim == 16 and config.text_dim == system.catalog.vectors.shape[1]
    vectors = [system.quantizer.level_vectors(level) for level in range(system.catalog.model_levels)]
    assert torch.equal(system.generator.code_vectors[: sum(map(len, vectors))], torch.cat(vectors))
    # vectors of clicks come from the training part alone: an item without a click there has none
    unclicked = system.popularity == 0
    assert np.array_equal(system.catalog.vectors[:, -16:].any(1), ~unclicked)
    assert run.results["methods"]["recommender"]["method"] == "prism"


@pytest.mark.slow
@pytest.mark.trains
def test_a_trained_recommender_takes_new_items(run):
    system = cost_hf.Recommender.from_pretrained(run.output_dir)

    system.add_items(["new"], ["space: a rocket for the moon"])

    history = list(system.catalog.item_ids[:2])
    assert [answer.item_id for answer in system.recommend(history, allowed=["new"])] == ["new"]


@pytest.mark.parametrize(("method", "seed"), [("lightgcn", 5), ("sasrec", 3)], ids=["of the codes", "their own"])
def test_vectors_of_clicks_have_the_seed_of_the_codes_where_they_are_the_same_ones(method, seed, monkeypatch):
    seeds = []

    class Source:
        def item_vectors(self, workspace, width, *, seed):
            seeds.append(seed)
            return np.zeros((24, width), dtype=np.float32)

    class Workspace:
        def text_vectors(self):
            return self

        def part(self, name):
            return self

        vectors = np.ones((24, 4), dtype=np.float32)

    own = Recipe.load("prism_beauty", {"codes.seed": 5, "isr.collaborative_method": method}).sections()
    options = PrismOptions(codes=own["codes"], isr=own["isr"])
    monkeypatch.setattr(IsrOptions, "source", lambda isr: Source())
    monkeypatch.setattr(GenerativeMethod, "build_catalog", lambda *args, **kwargs: toy_catalog(24))

    Prism(options).build_catalog(Workspace(), None, seed=3)

    assert seeds == [seed]
