import logging
import math

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.base import CodesOptions, load_quantizer, nearest_levels
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.quantizers.gaoq import GaoqOptions, configuration_gaoq
from cost_hf.quantizers.gaoq import options as options_module
from cost_hf.quantizers.gaoq.configuration_gaoq import GaoqConfig
from cost_hf.quantizers.gaoq.fitting import aligned_codes, orthonormal
from cost_hf.quantizers.gaoq.modeling_gaoq import GaoqModel
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest

NUM_ITEMS = 480
WIDTH = 48


def item_vectors(num_items: int = NUM_ITEMS, *, seed: int = 0) -> np.ndarray:
    """Vectors in a space of few dimensions, as learned ones are."""
    directions = np.random.default_rng(99).normal(size=(10, WIDTH))
    return (np.random.default_rng(seed).normal(size=(num_items, 10)) @ directions).astype(np.float32)


ITEMS = item_vectors()
IDS = [f"item{number}" for number in range(NUM_ITEMS)]


def fit(directory, *, vectors=ITEMS, ids=IDS, seed=0, fit_rows=None, **changes) -> CodesResult:
    options = GaoqOptions(**({"level_sizes": [6, 8, 14]} | changes))
    return fit_codes(vectors, options, output_dir=directory, seed=seed, item_ids=ids, fit_rows=fit_rows)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("fitted"))


def test_every_item_has_a_semantic_id_of_its_own_and_buckets_are_even(fitted):
    assert len(np.unique(fitted.codes, axis=0)) == NUM_ITEMS
    assert np.ptp(np.bincount(fitted.codes[:, 0])) <= 1
    assert np.ptp(np.bincount(fitted.codes[:, 0] * 8 + fitted.codes[:, 1])) <= 1
    assert fitted.level_sizes == (6, 8, 14) and (fitted.codes < fitted.level_sizes).all()


@pytest.mark.parametrize("num_items", [8, 11, 50, 333])
@pytest.mark.parametrize("alignment", ["anchor", "local"])
def test_sizes_are_chosen_for_any_number_of_items(tmp_path, num_items, alignment):
    result = fit(
        tmp_path, vectors=item_vectors(num_items), ids=IDS[:num_items], level_sizes=[], index_alignment=alignment
    )

    assert len(np.unique(result.codes, axis=0)) == num_items
    assert list(result.level_sizes) == GaoqOptions(index_alignment=alignment).sizes_for(num_items, WIDTH)


@pytest.mark.parametrize("width", [8, 17, 48, 384])
@pytest.mark.parametrize("growth", [0.0, 0.25, 1.0])
def test_chosen_sizes_fit_the_width_and_hold_all_items(width, growth):
    options = GaoqOptions(growth=growth)

    for num_items in range(8, 4000, 31):
        first, second, last = options.sizes_for(num_items, width)
        assert max(second, last) <= width and first * second <= num_items / 2 and first * second * last >= num_items


def test_chosen_sizes_follow_the_rule_of_the_paper():
    for num_items in (1_000, 24_000, 485_000):
        first, second, last = GaoqOptions().sizes_for(num_items, 640)
        assert num_items / 20 <= first * second <= num_items / 10 and last > num_items / (first * second)

    assert GaoqOptions(growth=0.0).sizes_for(1_500, 640) == [10, 10, 15]
    assert GaoqOptions(growth=1.0).sizes_for(1_500, 640) == [10, 10, 30]


def test_codes_do_not_depend_on_the_order_of_rows(tmp_path, fitted):
    order = np.random.default_rng(1).permutation(NUM_ITEMS)

    mixed = fit(tmp_path, vectors=ITEMS[order], ids=[IDS[row] for row in order])

    assert np.array_equal(mixed.codes, fitted.codes[order])
    assert mixed.quantizer_digest == fitted.quantizer_digest


def test_statistics_do_not_depend_on_the_order_of_rows(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(GaoqModel, "fit_statistics", lambda self, items: seen.append(items))
    order = np.random.default_rng(1).permutation(NUM_ITEMS)
    rows = np.arange(NUM_ITEMS) % 5 > 0

    fit(tmp_path / "straight", fit_rows=rows)
    fit(tmp_path / "mixed", vectors=ITEMS[order], ids=[IDS[row] for row in order], fit_rows=rows[order])

    assert torch.equal(*seen)  # rounding depends on the order of a sum


def test_digests_tell_trees_with_other_children_apart(fitted):
    tree = fitted.model.tree
    other = GaoqModel(fitted.model.config)
    children = tree.child_centroids.clone()
    children[0, 0] += 1
    children[1, 0] -= 1  # the mean over parents stays
    other.replace_centroids(tree.centroids, children, tree.anchors)

    assert assignment_digest(other) != fitted.quantizer_digest


def test_a_seed_repeats_and_another_gives_other_codes(tmp_path, fitted):
    assert np.array_equal(fit(tmp_path / "same").codes, fitted.codes)
    assert not np.array_equal(fit(tmp_path / "other", seed=1).codes, fitted.codes)


def test_relabelling_children_leaves_aligned_codes_unchanged():
    random = np.random.default_rng(0)
    offsets = random.normal(size=(9, 16)).astype(np.float32)
    anchors = orthonormal(12, 16, seed=0)
    order = random.permutation(9)

    codes = aligned_codes(offsets, anchors)

    assert len(set(codes.tolist())) == 9
    assert np.array_equal(aligned_codes(offsets[order], anchors), codes[order])


def test_children_that_point_at_anchors_get_their_codes():
    anchors = orthonormal(5, 8, seed=3)

    assert np.allclose(anchors @ anchors.T, np.eye(5), atol=1e-6)
    assert aligned_codes(2 * anchors[[3, 0, 4]], anchors).tolist() == [3, 0, 4]


def within_code_cosine(result: CodesResult) -> float:
    """Mean cosine of the offsets from the parent of items with one second code below different parents."""
    offsets = torch.nn.functional.normalize(torch.from_numpy(ITEMS)) - result.model.tree.centroids[result.codes[:, 0]]
    offsets = torch.nn.functional.normalize(offsets)
    parents, children = torch.from_numpy(result.codes[:, :2]).T
    pairs = (children[:, None] == children) & (parents[:, None] != parents)
    return float((offsets @ offsets.T)[pairs].mean())


def test_items_of_one_code_point_the_same_way_if_codes_are_aligned(tmp_path, fitted):
    local = fit(tmp_path, index_alignment="local")

    assert within_code_cosine(fitted) > 0.02 + abs(within_code_cosine(local))
    assert np.array_equal(local.codes[:, 0], fitted.codes[:, 0])


def test_the_saved_model_is_found_by_the_auto_classes_and_encodes_alike(tmp_path, fitted):
    fitted.model.save_pretrained(tmp_path)

    loaded = AutoModel.from_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)

    vectors = torch.from_numpy(ITEMS)
    assert type(loaded) is type(load_quantizer(tmp_path)) is GaoqModel
    assert torch.equal(loaded.encode(vectors), fitted.model.encode(vectors))
    assert torch.equal(half.encode(vectors), loaded.encode(vectors))
    assert torch.equal(loaded(vectors).codes, loaded.encode(vectors))
    assert AutoConfig.from_pretrained(tmp_path).level_sizes == (6, 8, 14)


def test_saved_codes_are_the_unique_ones(tmp_path):
    result = fit(tmp_path)

    assert np.array_equal(CodesResult.load(tmp_path).codes, result.codes)


@pytest.mark.parametrize("alignment", ["anchor", "local"])
def test_distances_are_those_of_a_plain_computation(tmp_path, alignment):
    model = fit(tmp_path, index_alignment=alignment, input_norm="standardize").model
    items = torch.from_numpy(ITEMS[:30])
    x = (items - torch.from_numpy(ITEMS).mean(0)) / torch.from_numpy(ITEMS).std(0, correction=0)
    codes = model.encode(items)
    tree = model.tree
    first = torch.cdist(x, tree.centroids).square()
    second = (x[:, None] - tree.child_centroids[codes[:, 0]]).square().sum(-1)

    assert torch.allclose(model.level_distances(items, codes[:, :0]), first, atol=1e-3)
    assert torch.allclose(model.level_distances(items, codes[:, :1]), second, atol=1e-3)
    last = model.level_distances(items, codes[:, :2])
    if alignment == "local":
        assert not last.any()
    else:
        rest = x - tree.child_centroids[codes[:, 0], codes[:, 1]]
        cosines = torch.nn.functional.cosine_similarity(rest[:, None], tree.anchors[None], dim=-1)
        assert torch.allclose(last, 1 - cosines, atol=1e-4)


def test_codes_that_are_local_to_a_parent_have_no_vectors(tmp_path, fitted):
    local = fit(tmp_path, index_alignment="local").model

    assert [local.level_vectors(level) is None for level in range(3)] == [False, True, True]
    assert [len(fitted.model.level_vectors(level)) for level in range(3)] == [6, 8, 14]
    assert nearest_levels(local) == 2


def test_items_that_fitting_does_not_see_change_nothing_and_get_free_codes(tmp_path, fitted):
    new = item_vectors(60, seed=5)
    vectors = np.concatenate([new, ITEMS])
    ids = [*(f"new{number}" for number in range(60)), *IDS]

    result = fit(tmp_path, vectors=vectors, ids=ids, fit_rows=np.arange(540) >= 60)

    assert np.array_equal(result.codes[60:], fitted.codes)
    assert result.quantizer_digest == fitted.quantizer_digest
    assert len(np.unique(result.codes, axis=0)) == 540
    near = result.model.encode(torch.from_numpy(new)).numpy()
    assert (result.codes[:60, :2] == near[:, :2]).all(1).mean() > 0.5


def catalog_of(result: CodesResult) -> Catalog:
    return Catalog.from_embeddings(
        IDS, torch.from_numpy(ITEMS), result.model, codes=result.codes, collisions="reassign"
    )


def test_new_items_get_the_nearest_free_last_code_and_no_level_is_added(tmp_path):
    roomy = fit(tmp_path, level_sizes=[6, 8, 30])
    catalog = catalog_of(roomy)
    new = torch.from_numpy(item_vectors(20, seed=9))

    grown = catalog.with_embeddings([f"new{number}" for number in range(20)], new, roomy.model)

    assert catalog.level_sizes == (6, 8, 30) and catalog.moved == 0
    assert np.array_equal(grown.codes[:NUM_ITEMS], roomy.codes)
    assert len(np.unique(grown.codes, axis=0)) == NUM_ITEMS + 20
    own = grown.codes[grown.rows_of([f"new{number}" for number in range(20)])]
    assert (own[:, :2] == roomy.model.encode(new).numpy()[:, :2]).all()


def test_a_full_bucket_is_reported_and_its_items_go_to_another(fitted, caplog):
    crowd = torch.from_numpy(np.tile(ITEMS[:1], (8, 1)))
    bucket = fitted.model.encode(crowd[:1]).numpy()[0, :2]
    free = 14 - int((fitted.codes[:, :2] == bucket).all(1).sum())

    with caplog.at_level(logging.WARNING):
        grown = catalog_of(fitted).with_embeddings([f"new{number}" for number in range(8)], crowd, fitted.model)

    stays = (grown.codes[NUM_ITEMS:, :2] == bucket).all(1).sum()
    assert stays == free < 8
    assert f"{8 - free} items found no free code below their first 2 codes" in caplog.text
    assert "a larger codes.growth (or, " in caplog.text
    assert len(np.unique(grown.codes, axis=0)) == NUM_ITEMS + 8


def test_a_full_catalog_names_the_room_for_new_items(fitted):
    room = math.prod(fitted.level_sizes) - NUM_ITEMS
    crowd = torch.from_numpy(item_vectors(room + 1, seed=5))

    with pytest.raises(ValueError, match=r"the catalog is full: 1 of .* build it again with a larger codes\.growth"):
        catalog_of(fitted).with_embeddings([f"new{number}" for number in range(room + 1)], crowd, fitted.model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"level_sizes": [], "growth": 90.0},
            r"find no sizes for 480 items, .* width 48 and codes.growth=90.0: .*; lower",
        ),
        ({"level_sizes": [], "fit_rows": np.arange(NUM_ITEMS) < 7}, "need 8 items or more to be fitted to, got 7"),
        ({"fit_rows": np.arange(NUM_ITEMS) < 7}, "need 8 items or more to be fitted to, got 7"),
        ({"level_sizes": [6, 8]}, r"have 3 levels, got codes.level_sizes=\[6, 8\]"),
        ({"level_sizes": [6, 8, 9]}, r"480 items in 6 x 8 buckets need 10 or more, got codes.level_sizes=\[6, 8, 9\]"),
        ({"level_sizes": [20, 20, 14]}, r"got 20 x 20 buckets for 480 items; .* at most 240 buckets, best 24 to 48"),
        ({"level_sizes": [4, 49, 14]}, r"at most 48 codes for vectors of width 48, got 49 and 14"),
        ({"level_sizes": [2, 2, 200]}, r"at most 48 codes for vectors of width 48, got 2 and 200"),
        ({"level_sizes": [6, 8, 14], "growth": 0.5}, "codes.growth=0.5 is for sizes that are chosen"),
        ({"growth": -1.0, "level_sizes": []}, r"codes.growth must be in 0 … 100, got -1.0"),
        ({"index_alignment": "global"}, "codes.index_alignment must be one of anchor, local, got 'global'"),
        ({"balancing": "exact"}, "codes.balancing must be one of greedy, k_means_constrained, got 'exact'"),
        ({"input_norm": "l1"}, "codes.input_norm must be one of"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **changes)


def test_local_numbers_need_no_anchors(tmp_path):
    assert len(np.unique(fit(tmp_path, level_sizes=[4, 49, 14], index_alignment="local").codes, axis=0)) == NUM_ITEMS


def test_a_missing_solver_is_named(monkeypatch):
    monkeypatch.setattr(options_module, "find_spec", lambda name: None)

    with pytest.raises(ValueError, match="needs the package k-means-constrained, which is not installed; pip install"):
        GaoqOptions(balancing="k_means_constrained").validate()


def test_the_constrained_solver_gives_even_buckets_too(tmp_path):
    pytest.importorskip("k_means_constrained")

    result = fit(tmp_path, balancing="k_means_constrained")

    assert len(np.unique(result.codes, axis=0)) == NUM_ITEMS
    assert np.ptp(np.bincount(result.codes[:, 0] * 8 + result.codes[:, 1])) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level_sizes": (4, 5)}, "level_sizes must be 3 numbers"),
        ({"level_sizes": (4, 1, 5)}, "with at least 2 codes each"),
        ({"level_sizes": (1 << 22, 1 << 22, 2), "index_alignment": "local"}, "more than 10000000000 weights"),
        ({"level_sizes": (4, 9, 5)}, "orthogonal anchors of width 8"),
        ({"item_dim": 0}, "item_dim must be at least 1, got 0"),
        ({"index_alignment": "none"}, "index_alignment must be one of"),
    ],
)
def test_a_configuration_that_no_model_can_have_is_refused(changes, message):
    with pytest.raises(Exception, match=message):
        GaoqConfig(**({"item_dim": 8, "level_sizes": (4, 5, 6)} | changes))


def test_words_of_options_and_configuration_agree():
    assert options_module.INPUT_NORMS == configuration_gaoq.INPUT_NORMS
    assert options_module.INDEX_ALIGNMENTS == configuration_gaoq.INDEX_ALIGNMENTS
    assert options_module.NUM_LEVELS == configuration_gaoq.NUM_LEVELS


def test_wrong_shapes_are_refused(fitted):
    model = fitted.model

    with pytest.raises(ValueError, match=r"item_embeddings must be \[items, 48\], got shape \(2, 3\)"):
        model.encode(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"a prefix must be \[2 items, 0 … 2 levels\], got shape \(2, 3\)"):
        model.level_distances(torch.zeros(2, 48), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="level 0 has codes 0 … 5, got 6"):
        model.level_distances(torch.zeros(2, 48), torch.tensor([[0], [6]]))
    with pytest.raises(ValueError, match="expected weights of the shapes"):
        model.replace_centroids(model.tree.centroids[:2], model.tree.child_centroids, model.tree.anchors)


def test_sizes_of_another_kind_are_not_taken_over():
    values = CodesOptions.of("cost", level_sizes=[16, 16]).shared_values()

    assert GaoqOptions(**GaoqOptions.carried_over(values)).level_sizes == []
    assert "level_sizes" not in GaoqOptions().shared_values()
