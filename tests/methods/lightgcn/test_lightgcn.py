"""LightGCN: its graph and propagation, ranking for users that were never trained, files, and what it may see."""

from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel

from cost_hf.methods.base import collaborative_method
from cost_hf.methods.lightgcn import configuration_lightgcn
from cost_hf.methods.lightgcn import options as lightgcn_options
from cost_hf.methods.lightgcn.configuration_lightgcn import LightGcnConfig
from cost_hf.methods.lightgcn.modeling_lightgcn import LightGcnModel
from cost_hf.methods.lightgcn.options import LightGcnModelOptions, LightGcnOptions, LightGcnTrainingOptions
from cost_hf.methods.lightgcn.recommender import LightGcnRecommender
from cost_hf.methods.lightgcn.training import ClickCollator, ClickGraph, build_training_model, train_lightgcn
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.item_list import ItemList

ITEMS = 9  # the last one is clicked by nobody
CLICKS = [np.array([0, 1, 2]), np.array([2, 3, 3, 1]), np.array([4, 5, 6, 7]), np.array([5, 6])]
GRAPH = ClickGraph.of(CLICKS, ITEMS)


def small_options(*, layers: int = 2, **training: Any) -> LightGcnOptions:
    values = {"epochs": 3, "batch_size": 4, "validate_every": 1} | training
    return LightGcnOptions(LightGcnModelOptions(hidden_size=6, num_layers=layers), LightGcnTrainingOptions(**values))


def training_model(**changes: Any):
    return build_training_model(small_options(**changes), GRAPH, seed=0)


def dense_adjacency() -> torch.Tensor:
    """The normalised adjacency matrix of users and items, `[U + N, U + N]`."""
    edges = torch.zeros(len(CLICKS), ITEMS)
    for user, items in enumerate(CLICKS):
        edges[user, items] = 1
    scaled = edges / (edges.sum(1, keepdim=True) * edges.sum(0)).sqrt().clamp_min(1e-9)
    users, items = torch.zeros(len(CLICKS), len(CLICKS)), torch.zeros(ITEMS, ITEMS)
    return torch.cat([torch.cat([users, scaled], 1), torch.cat([scaled.T, items], 1)])


def test_repeated_clicks_are_one_edge():
    assert GRAPH.user_items.tolist() == [0, 1, 2, 1, 2, 3, 4, 5, 6, 7, 5, 6]
    assert GRAPH.item_offsets.diff().tolist() == [1, 2, 2, 1, 1, 2, 2, 1, 0]
    assert GRAPH.items_of(1).tolist() == [1, 2, 3]


def test_a_layer_is_the_product_with_the_normalised_adjacency_matrix():
    model = training_model()
    (users, items), *_, last = model.layers()

    expected = torch.linalg.matrix_power(dense_adjacency(), 2) @ torch.cat([users, items])

    assert torch.allclose(torch.cat(last), expected, atol=1e-6)


def test_the_gradient_of_a_layer_is_that_of_the_dense_product():
    model = training_model(layers=1)
    torch.manual_seed(0)
    factors = torch.randn(len(CLICKS) + ITEMS, 6)
    (torch.cat(model.layers()[1]) * factors).sum().backward()

    expected = dense_adjacency().T @ factors

    assert torch.allclose(torch.cat([model.users.weight.grad, model.items.weight.grad]), expected, atol=1e-6)


def test_the_loss_is_that_of_the_ranked_pairs_and_of_the_lengths_of_their_embeddings():
    model = training_model(regularization=0.5)
    users, positives, negatives = torch.tensor([0, 2]), torch.tensor([1, 4]), torch.tensor([8, 0])
    loss = model(users, positives, negatives).loss

    layers = torch.stack([torch.cat(layer) for layer in model.layers()]).mean(0)
    u, p, n = layers[users], layers[positives + len(CLICKS)], layers[negatives + len(CLICKS)]
    ranked = -torch.nn.functional.logsigmoid((u * p).sum(1) - (u * n).sum(1))
    lengths = sum(part.square().sum(1) for part in (model.users(users), model.items(positives), model.items(negatives)))

    assert torch.allclose(loss, (ranked + 0.25 * lengths).mean())


def test_weights_of_clicks_scale_their_part_of_the_loss():
    model = training_model()
    triples = [torch.tensor([0, 2]), torch.tensor([1, 4]), torch.tensor([8, 0])]

    weighted = model(*triples, label_weights=torch.tensor([2.0, 0.0])).loss

    assert torch.allclose(weighted, model(*(part[:1] for part in triples)).loss)


def test_a_history_is_a_trained_user_without_the_embedding_that_only_training_has():
    model = training_model()
    layers = [layer[0] for layer in model.layers()]
    expected = torch.stack(layers[1:]).sum(0) / len(layers)

    histories = torch.tensor([[0, 1, 2, -1], [2, 3, 3, 1], [4, 5, 6, 7], [5, 6, -1, -1]])
    side = model.item_side()
    users = side.users(histories, side.item_table())

    assert torch.allclose(users, expected, atol=1e-6)
    assert torch.allclose(users, side.users(histories.flip(1), side.item_table()), atol=1e-6)
    items = torch.stack([layer[1] for layer in model.layers()]).mean(0)
    assert torch.allclose(side(histories).scores, users @ items.T, atol=1e-6)


def test_an_empty_history_scores_nothing():
    side = training_model().item_side()

    assert not side(torch.full((2, 3), -1)).scores.any()
    assert side(torch.empty(2, 0, dtype=torch.int64)).scores.shape == (2, ITEMS)


def test_batches_hold_what_negatives_must_not_be():
    users = np.array([0, 0, 0, 1, 1, 1, 1])
    batch = ClickCollator(users, np.concatenate(CLICKS[:2]), None, GRAPH)([0, 4])

    assert batch["users"].tolist() == [0, 1] and batch["positives"].tolist() == [0, 3]
    assert batch["known"].tolist() == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.trains
def test_a_training_of_one_seed_repeats_itself_and_weights_of_zero_are_not_learned(tmp_path):
    def trained(name: str, clicks=CLICKS, weights=None) -> LightGcnModel:
        arguments = {"options": small_options(), "validate": None, "seed": 0, "weights": weights}
        return train_lightgcn(clicks, num_items=ITEMS, output_dir=tmp_path / name, **arguments).model

    first = trained("first")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), trained("second").parameters(), strict=True))
    nothing = [np.zeros(len(rows), dtype=np.float32) for rows in CLICKS]
    with pytest.raises(ValueError, match="holds no click that is learned"):
        trained("none", weights=nothing)


def test_options_keep_the_bounds_of_the_configuration_and_name_bad_values():
    for name in ("MAX_WIDTH", "MAX_LAYERS"):
        assert getattr(lightgcn_options, name) == getattr(configuration_lightgcn, name)
    with pytest.raises(ValueError, match=r"training.regularization must be 0 or above"):
        small_options(regularization=-1.0).validate()
    with pytest.raises(StrictDataclassClassValidationError, match="num_layers must be at least 1, got 0"):
        LightGcnConfig(num_layers=0)
    with pytest.raises(ValueError, match="expected 'lightgcn'"):
        LightGcnConfig.from_dict({"model_type": "bert"})


def test_a_saved_recommender_loads_by_the_base_class_and_its_model_by_auto_model(tmp_path):
    ids = tuple(f"item{row}" for row in range(ITEMS))
    catalog = ItemList(ids, np.zeros(ITEMS, dtype=bool), None, None)
    own = LightGcnRecommender(training_model().item_side(), catalog, popularity=np.arange(ITEMS))
    own.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded) is LightGcnRecommender
    assert loaded.recommend(["item1", "item2"], top_k=5) == own.recommend(["item1", "item2"], top_k=5)
    assert type(AutoModel.from_pretrained(tmp_path)) is LightGcnModel
    with pytest.raises(ValueError, match="knows its items by the rows of its weights"):
        loaded.add_items(["new"], ["a text"])


def test_fresh_rows_of_a_larger_catalog_have_no_vectors():
    side = training_model().item_side()

    larger = side.with_items(ITEMS + 2)

    assert torch.equal(larger.items.weight[:ITEMS], side.items.weight)
    assert not larger.items.weight[ITEMS:].any() and not larger.neighbors.weight[ITEMS:].any()


def test_a_method_that_gives_collaborative_vectors_is_taken_by_its_name_alone():
    assert collaborative_method("lightgcn").name == "lightgcn"
    with pytest.raises(ValueError, match=r"codes.collaborative_method must be one of .*lightgcn.*, got None"):
        collaborative_method(None)


def test_an_item_without_a_training_click_adds_nothing_to_a_user():
    vectors = training_model().item_side().item_table()

    assert not vectors[ITEMS - 1].any() and vectors[: ITEMS - 1].any(1).all()
