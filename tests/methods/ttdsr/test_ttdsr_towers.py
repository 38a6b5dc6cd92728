"""Towers: codes for every row, what a training on changes, shares by hand, and files that belong together."""

import dataclasses

import numpy as np
import pytest
import torch

from cost_hf.files import DamagedFileError
from cost_hf.methods.ttdsr.towers import Tower, load_index, naming_tower, save_index, trained_on
from cost_hf.quantizers.base import CodebookCollapse, CodesOptions
from cost_hf.semantic_ids.catalog import Catalog

OPTIONS = CodesOptions.of("rqvae", level_sizes=[4, 4], latent_dim=4, hidden_sizes=[6], batch_size=16)
IDS = [f"item{row:02d}" for row in range(30)]


def states_of(seed: int) -> torch.Tensor:
    return torch.randn(len(IDS), 8, generator=torch.Generator().manual_seed(seed))


def tower_of(policy: str = "none", seed: int = 0) -> Tower:
    torch.manual_seed(seed)
    model = OPTIONS.build_model(8).eval()
    catalog = Catalog.from_embeddings(IDS, states_of(0), model, collisions=policy, append_size=40)
    return Tower(model, catalog)


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

    same = trained_on(tower.quantizer, states_of(0), OPTIONS, epochs=0, seed=0)
    first, again = (trained_on(tower.quantizer, states_of(0), OPTIONS, epochs=2, seed=0) for _ in range(2))
    other = trained_on(tower.quantizer, states_of(0), OPTIONS, epochs=2, seed=1)

    for name, weight in tower.quantizer.state_dict().items():
        assert torch.equal(weight, kept[name]) and torch.equal(same.state_dict()[name], weight)
        assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert any(not torch.equal(first.state_dict()[name], weight) for name, weight in kept.items())
    assert any(not torch.equal(first.state_dict()[name], weight) for name, weight in other.state_dict().items())
    assert not first.training


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


def test_a_collapse_names_its_tower():
    tower = tower_of()
    same = tower.reassigned(tower.quantizer, torch.ones(30, 8))

    with pytest.raises(CodebookCollapse, match=r"the tower of users: .*collapsed"), naming_tower("users"):
        OPTIONS.check_collapse([same.utilization(None)], num_items=30)
