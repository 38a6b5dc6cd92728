"""Towers: codes for every row, what a training on changes, shares by hand, and files that belong together."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState

from cost_hf.files import DamagedFileError
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.ttdsr.dynamic_index import DynamicIndex, DynamicIndexCallback
from cost_hf.methods.ttdsr.options import IndexOptions
from cost_hf.methods.ttdsr.towers import Tower, load_index, save_index, trained_on
from cost_hf.quantizers.base import CodebookCollapse, CodesOptions
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.residual import ResidualOptions
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

OPTIONS = CodesOptions.of("rqvae", level_sizes=[4, 4], latent_dim=4, hidden_sizes=[6], batch_size=16)
SPACIOUS = OPTIONS.copied(level_sizes=[8, 8])  # a code for every item, as policies that resolve collisions need
IDS = [f"item{row:02d}" for row in range(30)]


def states_of(seed: int) -> torch.Tensor:
    return torch.randn(len(IDS), 8, generator=torch.Generator().manual_seed(seed))


def tower_of(policy: str = "none", seed: int = 0, options: ResidualOptions = OPTIONS) -> Tower:
    torch.manual_seed(seed)
    model = options.build_model(8).eval()
    catalog = Catalog.from_embeddings(IDS, states_of(0), model, collisions=policy, append_size=40)
    return Tower(model, catalog)


def standardizing_model() -> CostModel:
    torch.manual_seed(0)
    model = SPACIOUS.copied(input_norm="standardize").build_model(8).eval()
    model.fit_statistics(states_of(0))
    return model


class Texts:
    """Texts whose states do not depend on a model."""

    def __init__(self, states: torch.Tensor):
        self.states = states

    def __len__(self) -> int:
        return len(self.states)

    def vectors(self, _model: object, *, batch_size: int) -> torch.Tensor:
        return self.states


def index_of(towers: dict[str, Tower], states: dict[str, torch.Tensor], fit_rows=None) -> DynamicIndex:
    """An index of towers whose texts have these states, with two builders of prompts."""
    vocabularies = {
        name: SidVocabulary(tuple(tower.catalog.level_sizes), first_id=start)
        for (name, tower), start in zip(towers.items(), (3, 1000), strict=True)
    }
    prompts = [
        PromptBuilder.for_catalog(towers["items"].catalog, vocabularies["items"], is_causal=True, max_history=3)
        for _ in range(2)
    ]
    return DynamicIndex(
        towers,
        {name: Texts(own) for name, own in states.items()},
        prompts,
        vocabularies,
        user_tokens=vocabularies["users"].encode(torch.tensor(towers["users"].catalog.codes)),
        codes={name: SPACIOUS for name in towers},
        options=IndexOptions(tower_epochs=0),
        fit_rows=fit_rows,
        seed=0,
    )


@pytest.mark.parametrize("policy", ["none", "append", "sinkhorn"])
def test_a_refresh_leaves_every_item_its_row_and_a_code_within_the_same_sizes(policy):
    before = tower_of(policy)

    after = before.reassigned(before.quantizer, states_of(1))

    assert after.catalog.item_ids == before.catalog.item_ids
    assert after.catalog.level_sizes == before.catalog.level_sizes
    assert after.catalog.codes.shape == before.catalog.codes.shape
    assert (after.model_codes == before.quantizer.encode(states_of(1)).numpy()).all() or policy == "sinkhorn"
    assert ((after.catalog.codes >= 0) & (after.catalog.codes < np.array(after.catalog.level_sizes))).all()


def test_the_same_states_and_quantizer_change_no_code():
    before = tower_of("append")

    after = before.reassigned(before.quantizer, states_of(0))

    assert after.catalog.digest == before.catalog.digest
    assert after.changed_share(before) == 0


def test_changed_shares_count_rows_whose_codes_differ():
    tower = tower_of()
    codes = tower.catalog.codes.copy()
    codes[:3, 1] = (codes[:3, 1] + 1) % 4
    codes[3:6, 0] = (codes[3:6, 0] + 1) % 4
    other = Tower(tower.quantizer, dataclasses.replace(tower.catalog, codes=codes))

    assert other.changed_share(tower) == pytest.approx(6 / 30)
    assert other.changed_share(tower, levels=1) == pytest.approx(3 / 30)


def test_training_on_copies_and_is_a_function_of_states_and_seed():
    tower = tower_of()
    kept = {name: weight.clone() for name, weight in tower.quantizer.state_dict().items()}

    def trained(epochs: int, seed: int) -> CostModel:
        return trained_on(tower.quantizer, states_of(0), OPTIONS, epochs=epochs, learning_rate=1e-3, seed=seed)

    same = trained(0, seed=0)
    first = trained(2, seed=0)
    again = trained(2, seed=0)
    other = trained(2, seed=1)

    for name, weight in tower.quantizer.state_dict().items():
        assert torch.equal(weight, kept[name]) and torch.equal(same.state_dict()[name], weight)
        assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert any(not torch.equal(first.state_dict()[name], weight) for name, weight in kept.items())
    assert any(not torch.equal(first.state_dict()[name], weight) for name, weight in other.state_dict().items())
    assert not first.training


def test_a_mean_and_a_scale_that_move_change_no_code_of_a_standardized_tower():
    model = standardizing_model()
    moved = states_of(0) * torch.linspace(0.25, 4.0, 8) + torch.linspace(-8.0, 8.0, 8)

    refreshed = trained_on(model, moved, SPACIOUS, epochs=0, learning_rate=1e-3, seed=0)

    assert torch.equal(refreshed.encode(moved), model.encode(states_of(0)))
    assert not torch.equal(model.encode(moved), model.encode(states_of(0)))  # by the statistics of the first states


def test_a_settled_index_knows_its_items_by_the_states_of_the_finished_model():
    moved = states_of(0) * 3 + torch.linspace(-20.0, 20.0, 8)
    model = standardizing_model()
    tower = Tower(model, Catalog.from_embeddings(IDS, states_of(0), model, collisions="none"))
    index = index_of({"items": tower, "users": tower}, {"items": moved, "users": moved})

    found = index.settle(None)

    assert found["items_drift"] > 0 and found["items_drift_settled"] == 0
    settled = index.towers["items"]
    assert np.array_equal(settled.catalog.codes, tower.catalog.codes)
    assert torch.equal(settled.quantizer.encode(moved), torch.tensor(tower.catalog.codes))
    assert settled.catalog.quantizer_digest == assignment_digest(settled.quantizer)
    assert tower.catalog.quantizer_digest == assignment_digest(tower.quantizer)


def test_the_learning_rate_of_a_refresh_bounds_what_moves():
    model = tower_of().quantizer

    slow, fast = (
        trained_on(model, states_of(0), OPTIONS, epochs=2, learning_rate=rate, seed=0) for rate in (1e-6, 1e-2)
    )

    def distance(other: CostModel) -> float:
        return max(
            float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), other.parameters(), strict=True)
        )

    assert 0 < distance(slow) < 1e-4 < distance(fast)


def test_an_index_comes_back_bit_for_bit(tmp_path):
    towers = {"items": tower_of("append"), "users": tower_of("none", seed=1)}
    moved = {name: tower.reassigned(tower.quantizer, states_of(2)) for name, tower in towers.items()}

    save_index(tmp_path / "index", moved)
    loaded = load_index(tmp_path / "index", towers)

    for name, tower in moved.items():
        assert loaded[name].catalog.digest == tower.catalog.digest
        assert loaded[name].catalog.quantizer_digest == tower.catalog.quantizer_digest
        for weight, own in zip(loaded[name].quantizer.parameters(), tower.quantizer.parameters(), strict=True):
            assert torch.equal(weight, own)


def test_damaged_and_foreign_indexes_are_refused(tmp_path):
    towers = {"items": tower_of()}
    save_index(tmp_path / "index", towers)
    fewer = Catalog.from_codes(IDS[:5], np.zeros((5, 2), int), level_sizes=(4, 4), collisions="none")
    renamed = dataclasses.replace(towers["items"].catalog, item_ids=tuple(f"x{row}" for row in range(30)))

    with pytest.raises(DamagedFileError, match="index of another run"):
        load_index(tmp_path / "index", {"items": Tower(towers["items"].quantizer, fewer)})
    with pytest.raises(DamagedFileError, match="index of another run"):
        load_index(tmp_path / "index", {"items": Tower(towers["items"].quantizer, renamed)})
    with pytest.raises(FileNotFoundError):
        load_index(tmp_path / "nowhere", towers)
    with (tmp_path / "index" / "codes.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(DamagedFileError, match=r"codes\.safetensors"):
        load_index(tmp_path / "index", towers)


@pytest.mark.parametrize("policy", ["none", "reassign", "min_cost", "sinkhorn"])
@pytest.mark.parametrize("collapsed", ["items", "users"])
def test_a_refresh_stops_where_a_tower_collapses_whatever_resolves_collisions(collapsed, policy):
    towers = {"items": tower_of(policy, options=SPACIOUS), "users": tower_of(options=SPACIOUS)}
    index = index_of(towers, {name: torch.ones(30, 8) if name == collapsed else states_of(0) for name in towers})
    before = {name: tower.catalog.digest for name, tower in towers.items()}

    with pytest.raises(CodebookCollapse, match=rf"the tower of {collapsed}: .*collapsed"):
        index.refresh(None, step=1)

    assert {name: tower.catalog.digest for name, tower in index.towers.items()} == before


@pytest.mark.parametrize("policy", ["none", "append", "reassign", "min_cost", "sinkhorn"])
def test_after_a_refresh_prompts_tasks_and_trie_have_the_new_codes_of_every_row(policy):
    towers = {"items": tower_of(policy, options=SPACIOUS), "users": tower_of(options=SPACIOUS)}
    index = index_of(towers, {name: states_of(5) for name in towers})

    found = index.refresh(None, step=1)

    assert found["items_changed"] > 0
    catalog = index.towers["items"].catalog
    assert len(catalog) == 30 and (catalog.codes >= 0).all()
    for name, tower in index.towers.items():
        tokens = index.vocabularies[name].encode(torch.tensor(tower.catalog.codes))
        assert all(torch.equal(table, tokens) for table in index.tables[name])
    popularity = np.ones(30)
    expected = SidTrie.from_catalog(catalog, popularity=popularity)
    assert np.array_equal(index.trie(popularity).leaf_items, expected.leaf_items)
    assert (index.trie(popularity).prefix(torch.tensor(catalog.codes)) >= 0).all()
    own = codebook_utilization(index.towers["items"].quantizer.encode(states_of(5)).numpy(), (8, 8))
    assert found["items_perplexity_1"] == own["perplexity_1"] and found["items_perplexity_2"] == own["perplexity_2"]


def test_training_sees_all_users_and_the_items_that_are_not_held_out():
    towers = {"items": tower_of(options=SPACIOUS), "users": tower_of(options=SPACIOUS)}
    index = index_of(towers, {name: states_of(0) for name in towers}, fit_rows=np.arange(30) < 20)

    assert index.rows_to_learn("items").tolist() == list(range(20))
    assert index.rows_to_learn("users").tolist() == list(range(30))


def step_of(number: int, **control) -> tuple[list[int], TrainerControl]:
    """Steps at which a callback refreshes every second step of ten, and the control after one of them."""
    refreshed: list[int] = []
    state = TrainerState(global_step=number, max_steps=10)
    flags = TrainerControl(**control)

    def refresh(_model: object, *, step: int) -> dict[str, float]:
        refreshed.append(step)
        return {"items_changed": 0.5}

    def log(_found: dict[str, float]) -> None:
        flags.should_log = False  # as `Trainer.log` does

    index: Any = SimpleNamespace(options=IndexOptions(refresh_steps=2, freeze_share=1.0), refresh=refresh)
    arguments: Any = None
    DynamicIndexCallback(index, log).on_step_end(arguments, state, flags, model=None)
    return refreshed, flags


def test_a_refresh_leaves_the_log_of_the_loss_due():
    assert step_of(3) == ([], TrainerControl())
    assert step_of(4) == ([4], TrainerControl())
    assert step_of(4, should_log=True) == ([4], TrainerControl(should_log=True))


def test_after_the_last_step_the_index_stays_as_it_was_learned():
    # `Trainer` sets the flag at its last step, and a run that is resumed after its patience takes one more step
    assert step_of(10, should_training_stop=True)[0] == []
