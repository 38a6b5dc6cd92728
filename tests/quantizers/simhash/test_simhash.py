"""SimHash: bits are signs, levels are bits, distances are margins; the same codes after saving and for new items."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel

from cost_hf.quantizers.base import CodesOptions, load_quantizer
from cost_hf.quantizers.fit import fit_codes
from cost_hf.quantizers.simhash import SimhashOptions
from cost_hf.quantizers.simhash.configuration_simhash import SimhashConfig
from cost_hf.quantizers.simhash.modeling_simhash import SimhashModel
from cost_hf.quantizers.simhash.options import fit_simhash
from cost_hf.semantic_ids.catalog import Catalog
from tests.quantizers.cost.toys import item_vectors

SIZES = (4, 2, 8)


def fitted(vectors=None, *, sizes=SIZES, seed=0):
    vectors = item_vectors() if vectors is None else vectors
    return fit_simhash(vectors, SimhashConfig(item_dim=vectors.shape[1], level_sizes=sizes), seed=seed)


def test_the_codes_of_all_levels_are_the_signs_of_the_projections_in_order():
    x, model = item_vectors(), fitted()
    centered = torch.nn.functional.normalize(x, dim=1) - model.hyperplanes.mean

    codes = model.encode(x)

    written = ["".join(f"{code:0{bits}b}" for code, bits in zip(row, (2, 1, 3), strict=True)) for row in codes.tolist()]
    signs = (centered @ model.hyperplanes.normals.T > 0).int().tolist()
    assert written == ["".join(map(str, row)) for row in signs]


def test_the_own_code_has_distance_zero_and_others_their_margins():
    x, model = item_vectors(), fitted()
    codes = model.encode(x)
    margins = model.hyperplanes(x)

    distances = model.level_distances(x, codes[:, :2])

    assert (distances.gather(1, codes[:, 2:]) == 0).all()
    assert (distances.argmin(1) == codes[:, 2]).all()
    flipped = codes[:, 2] ^ 0b101  # the first and the last bit of the level
    expected = margins[:, 3].abs() + margins[:, 5].abs()
    torch.testing.assert_close(distances.gather(1, flipped[:, None])[:, 0], expected)


def test_the_mean_of_the_items_is_on_no_side_of_a_hyperplane():
    x = item_vectors() + 3  # a narrow cone
    model = fitted(x)

    torch.testing.assert_close(model.hyperplanes(x).mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    assert all(0 < share < 1 for share in (model.hyperplanes(x) > 0).float().mean(0).tolist())


def test_codes_depend_on_the_seed_and_on_nothing_else():
    x = item_vectors()
    first = fitted()
    torch.manual_seed(99)
    again = fitted()

    assert torch.equal(first.encode(x), again.encode(x))
    assert not torch.equal(first.encode(x), fitted(seed=1).encode(x))


def test_a_saved_quantizer_gives_the_same_codes(tmp_path):
    vectors = item_vectors()
    options = CodesOptions.of("simhash", level_sizes=list(SIZES))

    result = fit_codes(vectors, options, output_dir=tmp_path, seed=0)

    for model in (load_quantizer(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(model) is SimhashModel
        assert np.array_equal(model.encode(vectors).numpy(), result.codes)
    assert (
        result.quantizer_digest == fit_codes(vectors, options, output_dir=tmp_path / "other", seed=0).quantizer_digest
    )


def test_items_that_fitting_may_not_see_change_no_weight(tmp_path):
    vectors = item_vectors()
    options = CodesOptions.of("simhash", level_sizes=list(SIZES))
    fit_rows = np.arange(len(vectors)) < 30

    part = fit_codes(vectors, options, output_dir=tmp_path / "part", seed=0, fit_rows=fit_rows)
    alone = fit_codes(vectors[:30], options, output_dir=tmp_path / "alone", seed=0)

    assert part.quantizer_digest == alone.quantizer_digest and len(part.codes) == 40


@pytest.mark.parametrize("policy", ["reassign", "min_cost", "sinkhorn"])
def test_items_move_over_near_hyperplanes_and_new_ones_join(policy):
    x, model = item_vectors(50), fitted(item_vectors(50), sizes=(8, 16))
    ids = [f"item-{number:02d}" for number in range(50)]

    catalog = Catalog.from_embeddings(ids[:40], x[:40], model, collisions=policy)
    grown = catalog.with_embeddings(ids, x, model)

    assert np.array_equal(grown.codes[:40], catalog.codes)
    assert policy == "sinkhorn" or len(np.unique(grown.codes, axis=0)) == 50


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([64, 100], r"power of two of codes, got 100 on level 2 .*; take 64 or 128 there"),
        ([1, 4], r"at least 2 codes, got \[1, 4\]"),
    ],
)
def test_sizes_that_are_no_bits_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        SimhashOptions(level_sizes=sizes).validate()


def test_vectors_and_prefixes_of_another_shape_are_refused():
    model = fitted()

    with pytest.raises(ValueError, match=r"item_embeddings must be \[items, 16\], got shape \(3, 4\)"):
        model.encode(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"a prefix must be \[3 items, 0 … 2 levels\], got shape \(3, 3\)"):
        model.level_distances(torch.zeros(3, 16), torch.zeros(3, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"level must be in 0 … 2, got 3"):
        model.level_vectors(3)
    with pytest.raises(StrictDataclassClassValidationError, match="powers of two, got 6"):
        SimhashConfig(item_dim=4, level_sizes=(4, 6))
