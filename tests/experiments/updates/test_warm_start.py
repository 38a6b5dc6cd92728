"""Every method trains on from its weights: today's items and clicks enter, and what must stay stays."""

import numpy as np
import pandas as pd
import pytest
import torch

import cost_hf
from cost_hf.experiments.updates import guard
from cost_hf.experiments.updates.update import update_run
from cost_hf.methods.base import methods
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.digests import assignment_digest
from tests.experiments.updates.shop import catalog, clicks, fields, new_items
from tests.generators.backbone_toys import causal_backbone

SMALL_PARTS = {
    "parts": ["markov", "text_last", "sasrec_ce"],
    "overrides": {"sasrec_ce.training.epochs": 1, "sasrec_ce.model.hidden_size": 8, "sasrec_ce.model.num_heads": 1},
}
RUNS = {
    "markov_text": fields("markov_text"),
    "sasrec on ids": fields("sasrec", model__hidden_size=16),
    "sasrec on texts and ids": fields("sasrec", model__hidden_size=16, model__inputs="both"),
    "causal generator": fields("sid_generator", generator__size="tiny"),
    "T5 with events": fields("sid_generator", generator__size="tiny", generator__kind="seq2seq")
    | {"data.event_column": "kind", "data.event_weights": {"view": 0, "buy": 2}},
    "liger": fields("liger", generator__size="tiny"),
    "acerec": fields("acerec", codes__level_sizes=[4] * 6, model__hidden_size=16, model__num_latents=2),
    "cobra": fields("cobra", generator__size="tiny"),
    "prism": fields("prism", generator__size="tiny"),
    "ranker": fields("ranker") | {"ranker.parts": ["markov", "text_last"], "ranker.folds": 2},
    "fusion": fields("fusion") | {f"fusion.{name}": value for name, value in SMALL_PARTS.items()},
}


@pytest.fixture(autouse=True)
def lenient(monkeypatch) -> None:
    monkeypatch.setattr(guard, "_reason", lambda figures, tolerance: "")


def weights_of(recommender: Recommender) -> dict[str, torch.Tensor]:
    models = {name: part.network for name, part in recommender.parts.items()} or {"": recommender.network}
    return {
        f"{name}/{key}": tensor.clone()
        for name, model in models.items()
        if model is not None
        for key, tensor in model.state_dict().items()
    }


def with_events(log: pd.DataFrame) -> pd.DataFrame:
    return log.assign(kind=np.where(np.arange(len(log)) % 3, "buy", "view"))


@pytest.mark.trains
@pytest.mark.parametrize("name", RUNS)
def test_a_method_trains_on_and_serves_todays_items(name, tmp_path):
    first = clicks(0, users=40)
    # the new items follow each other, so that they are learned
    tomorrow = pd.DataFrame(
        [
            (f"v{user}", f"n{item}", 900_000 + 10 * step)
            for user in range(12)
            for step, item in enumerate((3, 24, 25, 4))
        ],
        columns=["user_id", "item_id", "timestamp"],
    )
    run = cost_hf.train(
        items=catalog(), interactions=with_events(first), overrides=RUNS[name], output_dir=tmp_path / "run"
    )
    before = weights_of(run.recommender)

    update = update_run(tmp_path / "run", clicks=with_events(tomorrow), items=new_items(), options={"epochs": 1})

    recommender = update.recommender
    after = weights_of(recommender)
    assert update.is_accepted and recommender.update == 1
    assert recommender.catalog.item_ids == (*run.recommender.catalog.item_ids, "n24", "n25")
    assert all(torch.isfinite(tensor.float()).all() for tensor in after.values())
    trained = [key for key in after if after[key].shape == before[key].shape and not after[key].equal(before[key])]
    assert bool(trained) == bool(before)
    assert recommender.popularity[-2:].sum() > 0
    answers = recommender.recommend(["n3", "n24"], top_k=26, exclude_seen=False)
    assert {"n24", "n25"} <= {answer.item_id for answer in answers} or len(answers) < 26
    if recommender.quantizer is not None:
        assert assignment_digest(recommender.quantizer) == assignment_digest(run.recommender.quantizer)
        assert recommender.vocabulary.digest == run.recommender.vocabulary.digest
        assert np.array_equal(recommender.catalog.codes[:24], run.recommender.catalog.codes)


@pytest.mark.trains
def test_an_adapter_trains_on_and_its_base_stays(tmp_path):
    backbone = causal_backbone(tmp_path / "backbone")
    chosen = {"generator__backbone": str(backbone), "generator__prompt": "continuation", "adapter__r": 2}
    overrides = fields("sid_generator", **chosen) | {
        "generator.dropout": None,
        "tasks.weights": {"next_item": 1.0, "text_to_item": 1.0},
    }
    run = cost_hf.train(
        items=catalog(), interactions=clicks(0, users=40), overrides=overrides, output_dir=tmp_path / "run"
    )
    before = weights_of(run.recommender)

    update = update_run(tmp_path / "run", clicks=clicks(1, users=20), items=new_items(), options={"epochs": 1})

    recommender = update.recommender
    after = weights_of(recommender)
    changed = {key for key in before if not after[key].equal(before[key])}
    assert changed and all("lora_" in key or "trainable_tokens_delta" in key for key in changed)
    assert recommender.base == run.recommender.base
    assert (tmp_path / "run" / "recommender" / "adapter_model.safetensors").is_file()
    assert len(recommender.recommend(["n24"], top_k=3)) == 3


@pytest.mark.trains
def test_a_part_that_missed_items_of_its_hybrid_learns_what_it_knows(tmp_path):
    cost_hf.train(
        items=catalog(), interactions=clicks(0, users=40), overrides=RUNS["fusion"], output_dir=tmp_path / "run"
    )
    served = Recommender.from_pretrained(tmp_path / "run")
    served.add_items(["n90"], ["green tea of uji"])  # SASRec on ids takes no items without a training
    served.save_catalog(tmp_path / "run" / "recommender")
    tomorrow = pd.concat(
        [clicks(1, users=20), pd.DataFrame([("u1", "n90", 150_000), ("u1", "n24", 150_001)], columns=clicks(1).columns)]
    )

    update = update_run(tmp_path / "run", clicks=tomorrow, items=new_items(), options={"epochs": 1})

    recommender = update.recommender
    assert recommender.catalog.item_ids[24:] == ("n90", "n24", "n25")
    assert {name: len(part) for name, part in recommender.catalog.parts.items()} == {
        name: 24 if name == "sasrec_ce" else 27 for name in recommender.parts
    }
    assert len(recommender.recommend(["n90", "n24"], top_k=5)) == 5


def test_a_generator_with_a_training_of_its_own_needs_a_warm_start_of_its_own():
    class Own(methods()["sid_generator"]):
        def train(self, *arguments, **options):
            raise NotImplementedError

    class Whole(Own):
        def warm_start(self, recommender, start):
            raise NotImplementedError

    options = methods()["sid_generator"].options_class()
    assert not Own(options).can_warm_start
    assert Whole(options).can_warm_start


def test_every_method_that_keeps_its_weights_has_a_warm_start():
    without = [name for name, method in methods().items() if not method(method.options_class()).can_warm_start]

    # no training can go on from what these keep: cadirec keeps no diffusion, lightgcn no embeddings but propagated
    # ones, and ttdsr neither its own tasks nor the index that moves
    assert without == ["cadirec", "lightgcn", "ttdsr"]
