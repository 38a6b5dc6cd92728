"""OPQ: the rotation is orthogonal and lowers the error; codes are those of a plain loop, after saving too."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel

from cost_hf.quantizers.base import CodesOptions, load_quantizer
from cost_hf.quantizers.fit import fit_codes
from cost_hf.quantizers.opq import OpqOptions
from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.fitting import balanced_rotation, fit_opq, procrustes_rotation
from cost_hf.quantizers.opq.modeling_opq import OpqModel
from cost_hf.quantizers.training.kmeans import kmeans_centers
from cost_hf.semantic_ids.catalog import Catalog
from tests.quantizers.cost.toys import item_vectors

SIZES = (8, 6, 8)


def correlated_vectors(num_items=300, dim=10, *, seed=0):
    """Vectors whose variance lies in few directions, none of them an axis."""
    generator = torch.Generator().manual_seed(seed)
    scales = 0.5 ** torch.arange(dim)
    mixing = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    return torch.randn(num_items, dim, generator=generator) * scales @ mixing + 1


def fitted(vectors, *, sizes=SIZES, iterations=5, seed=0):
    config = OpqConfig(item_dim=vectors.shape[1], level_sizes=sizes, input_norm="none")
    return fit_opq(vectors, config, iterations=iterations, seed=seed)


def error(model, vectors):
    return float((model.decode(model.encode(vectors)) - vectors).square().sum())


def plain_error(vectors, sizes, *, seed):
    """Quantization error of product quantization without a rotation."""
    centered = vectors - vectors.mean(0)
    widths = OpqConfig(item_dim=vectors.shape[1], level_sizes=sizes).part_widths
    total = 0.0
    for level, (part, size) in enumerate(zip(centered.split(widths, dim=1), sizes, strict=True)):
        centers = kmeans_centers(part, size, seed=seed + level)
        total += float(torch.cdist(part, centers).min(1).values.square().sum())
    return total


@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_is_below_that_of_plain_product_quantization(seed):
    x = correlated_vectors(seed=seed)

    assert error(fitted(x, seed=seed), x) < plain_error(x, SIZES, seed=seed)


def test_no_alternation_raises_the_error():
    x = correlated_vectors()

    errors = [error(fitted(x, iterations=iterations), x) for iterations in range(6)]

    assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(errors))


@pytest.mark.parametrize("iterations", [0, 4])
def test_the_rotation_is_orthogonal(iterations):
    rotation = fitted(correlated_vectors(), iterations=iterations).parts.rotation

    torch.testing.assert_close(rotation @ rotation.T, torch.eye(10), atol=1e-5, rtol=0)


def test_principal_directions_are_dealt_out_so_that_parts_have_equal_variances():
    scales = torch.tensor([8.0, 4.0, 2.0, 1.0])
    x = torch.cat([torch.diag(scales), -torch.diag(scales)])

    rotation = balanced_rotation(x, (2, 2))

    used = (rotation.abs() > 0.5).nonzero()[:, 0][(rotation.abs() > 0.5).nonzero()[:, 1].argsort()]
    assert sorted(used[:2].tolist()) == [0, 3] and sorted(used[2:].tolist()) == [1, 2]


def test_the_rotation_of_rotated_rows_is_found():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]

    torch.testing.assert_close(procrustes_rotation(x, x @ rotation), rotation, atol=1e-5, rtol=0)


def test_codes_are_the_nearest_centroids_of_unequal_parts():
    x = correlated_vectors(40)
    model = fitted(x)
    rotated = (x - model.parts.mean) @ model.parts.rotation

    codes = model.encode(x)

    assert model.config.part_widths == (4, 3, 3)
    for level, columns in enumerate([slice(0, 4), slice(4, 7), slice(7, 10)]):
        distances = torch.cdist(rotated[:, columns], model.parts.centroids[level]).square()
        found = model.level_distances(x, codes[:, :level])
        torch.testing.assert_close(found, distances, atol=1e-4, rtol=1e-3)
        assert torch.equal(found.argmin(1), codes[:, level])


def test_the_vectors_of_all_levels_add_up_to_the_reconstruction():
    x = correlated_vectors(40)
    model = fitted(x)
    codes = model.encode(x)

    total = sum(model.level_vectors(level)[codes[:, level]] for level in range(3)) + model.parts.mean

    torch.testing.assert_close(total, model.decode(codes), atol=1e-5, rtol=1e-5)


def test_codes_depend_on_the_seed_and_on_nothing_else():
    x = correlated_vectors()
    first = fitted(x)
    torch.manual_seed(99)

    assert torch.equal(first.encode(x), fitted(x).encode(x))
    assert not torch.equal(first.encode(x), fitted(x, seed=1).encode(x))


def test_a_saved_quantizer_gives_the_same_codes(tmp_path):
    vectors = item_vectors(60)
    options = CodesOptions.of("opq", level_sizes=[8, 8], iterations=2)

    result = fit_codes(vectors, options, output_dir=tmp_path, seed=0, fit_rows=np.arange(60) < 50)

    alone = fit_codes(vectors[:50], options, output_dir=tmp_path / "alone", seed=0)
    assert result.quantizer_digest == alone.quantizer_digest  # items that fitting may not see change no weight
    for model in (load_quantizer(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(model) is OpqModel
        assert np.array_equal(model.encode(vectors).numpy(), result.codes)


@pytest.mark.parametrize("policy", ["append", "reassign", "min_cost"])
def test_new_items_join_and_no_semantic_id_changes(policy):
    x = item_vectors(50)
    model = fitted(x[:40], sizes=(8, 16))
    ids = [f"item-{number:02d}" for number in range(50)]

    catalog = Catalog.from_embeddings(ids[:40], x[:40], model, collisions=policy)
    grown = catalog.with_embeddings(ids, x, model)

    assert np.array_equal(grown.codes[:40], catalog.codes)
    assert len(np.unique(grown.codes, axis=0)) == 50


def test_more_codes_than_items_are_refused():
    with pytest.raises(ValueError, match=r"a level of 64 codes needs at least as many vectors, got 40"):
        fitted(item_vectors(40), sizes=(8, 64))


def test_more_levels_than_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"got 20 levels for vectors of width 16; shorten codes.level_sizes"):
        OpqOptions(level_sizes=[4] * 20).config(16)
    with pytest.raises(StrictDataclassClassValidationError, match="item_dim must be at least the number of levels, 20"):
        OpqConfig(item_dim=16, level_sizes=[4] * 20)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iterations": -1}, "codes.iterations must be at least 0, got -1"),
        ({"input_norm": "l1"}, "codes.input_norm must be one of none, l2, got 'l1'"),
    ],
)
def test_values_that_no_run_can_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OpqOptions(**fields).validate()


def test_vectors_and_codes_of_another_shape_are_refused():
    model = OpqModel(OpqConfig(item_dim=10, level_sizes=SIZES))

    with pytest.raises(ValueError, match=r"item_embeddings must be \[items, 10\], got shape \(3, 4\)"):
        model.encode(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"a prefix must be \[3 items, 0 … 2 levels\], got shape \(3, 3\)"):
        model.level_distances(torch.zeros(3, 10), torch.zeros(3, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"level 1 has codes 0 … 5, got 6"):
        model.decode(torch.tensor([[0, 6, 0]]))
    with pytest.raises(ValueError, match=r"expected weights of the shapes \[\(10,\), \(10, 10\)"):
        model.replace_weights(torch.zeros(10), torch.eye(9), [])
