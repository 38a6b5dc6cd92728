import dataclasses

import numpy as np
import pytest
import torch

from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.errors import DataError
from cost_hf.data.splits import Targets
from cost_hf.data.text_vectors import TextVectors
from cost_hf.files import DamagedFileError, content_digest, read_json, write_json
from cost_hf.item_vectors.famae.fields import FieldVocabulary, render_fields
from cost_hf.item_vectors.famae.training import (
    METRIC_1,
    METRIC_2,
    WindowDataset,
    build_famae,
    draw_masks,
    famae_metrics,
    famae_trainer,
    fit_famae,
    trained_rows,
)
from tests.item_vectors.famae.famae_toys import FIELDS, NUM_ITEMS, shop_clicks, shop_data, tiny_options


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("famae")
    fit_famae(shop_data(), tiny_options(), output_dir=folder)
    return folder


def prepared(data, options):
    texts = render_fields(data.tables.items, options.fields)
    vocabulary = FieldVocabulary.of(options.fields, texts, trained_rows(data.split, NUM_ITEMS))
    return vocabulary, vocabulary.numbers(texts)


@pytest.mark.trains
def test_vectors_are_concatenated_field_embeddings_of_every_item(fitted):
    vectors = TextVectors.load(fitted)
    encoder = ItemEncoder.load(fitted / "encoder")

    assert vectors.vectors.shape == (NUM_ITEMS, 4 * 8)
    assert vectors.encoder_digest == encoder.digest
    np.testing.assert_array_equal(encoder.encode(list(vectors.texts)), vectors.vectors)
    assert (vectors.vectors[-1, :8] == 0).all() and (vectors.vectors[:-1, :8] != 0).any(axis=1).all()
    assert not (fitted / "checkpoints").exists()


@pytest.mark.trains
def test_the_description_has_both_metrics_of_the_paper(fitted):
    described = TextVectors.load(fitted).description

    assert described["kind"] == "famae"
    assert described["fields"]["item_id"] == NUM_ITEMS - 1
    assert described["items_without_training_click"] == 1
    assert {METRIC_1, METRIC_2, "cases"} == set(described["validation"])


@pytest.mark.trains
def test_a_new_item_has_the_embeddings_of_its_fields(fitted):
    encoder = ItemEncoder.load(fitted / "encoder")
    items = shop_data().tables.items.head(2).assign(item_id=["new", "newer"])
    known = encoder.encode(encoder.render(shop_data().tables.items.head(2)))

    vectors = encoder.encode(encoder.render(items))

    np.testing.assert_array_equal(vectors[:, 8:], known[:, 8:])
    assert (vectors[:, :8] == 0).all()


@pytest.mark.trains
def test_a_new_item_may_have_the_mean_of_the_trained_ids(fitted, tmp_path):
    content = read_json(fitted / "encoder" / "encoder.json")
    encoder = ItemEncoder.load(fitted / "encoder")
    encoder.options = dataclasses.replace(encoder.options, new_items="mean")

    vector = encoder.encode(['["new", null, null, null]'])[0]

    trained = TextVectors.load(fitted).vectors[:-1, :8]
    np.testing.assert_allclose(vector[:8], trained.mean(axis=0), atol=1e-6)
    assert (vector[8:] == encoder.encode(['["other", null, null, null]'])[0][8:]).all()
    assert content["options"]["new_items"] == "zero"


@pytest.mark.trains
def test_a_damaged_encoder_is_refused(fitted, tmp_path):
    ItemEncoder.load(fitted / "encoder").save(tmp_path)
    stored = read_json(tmp_path / "model" / "fields.json")
    stored["values"][1][0] = "another brand"
    write_json(tmp_path / "model" / "fields.json", stored)

    with pytest.raises(DamagedFileError, match="has digest"):
        ItemEncoder.load(tmp_path)


def test_the_same_seed_gives_the_same_untrained_model():
    first, again, other = (build_famae(tiny_options(seed=seed), (5, 3)).state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["positions.weight"], other["positions.weight"])


def test_windows_hold_training_clicks_only(tmp_path):
    data = shop_data()
    options = tiny_options()
    vocabulary, values = prepared(data, options)

    trainer = famae_trainer(data.split, values, vocabulary.sizes, options, output_dir=tmp_path)

    windows = trainer.train_dataset
    assert isinstance(windows, WindowDataset)
    known = {tuple(rows[: len(rows)]) for rows in map(tuple, data.split.train)}
    for index in range(len(windows)):
        window, weight = windows[index]
        assert weight == 1 and 2 <= len(window) <= options.max_items
        assert any(tuple(window) == rows[i : i + len(window)] for rows in known for i in range(len(rows)))
    assert len(windows) == sum(len(rows) - 1 for rows in data.split.train)


def test_evaluation_clicks_change_neither_values_nor_windows():
    clicks = shop_clicks()
    is_late = clicks["position"] >= 4
    changed = clicks.assign(item_id=clicks["item_id"].where(~is_late, f"i{NUM_ITEMS - 1}"))
    one, other = shop_data(), shop_data(changed)
    options = tiny_options()

    for left, right in zip(one.split.train, other.split.train, strict=True):
        np.testing.assert_array_equal(left, right)
    assert prepared(one, options)[0] == prepared(other, options)[0]
    assert "i23" not in prepared(other, options)[0].values[0]


def test_metrics_count_targets_without_an_id_as_misses():
    options = tiny_options()
    data = shop_data()
    vocabulary, values = prepared(data, options)
    model = build_famae(options, vocabulary.sizes).eval()
    unclicked = Targets(np.array(["u"], dtype=object), [np.array([0, 1])], np.array([NUM_ITEMS - 1]))

    assert famae_metrics(model, unclicked, values, batch_size=4) == {METRIC_1: 0.0, METRIC_2: 0.0}


def test_metrics_are_ranks_of_the_target_among_all_trained_ids():
    options = tiny_options()
    data = shop_data()
    vocabulary, values = prepared(data, options)
    model = build_famae(options, vocabulary.sizes).eval()
    cases = data.split.validation

    found = famae_metrics(model, cases, values, batch_size=7)

    hits = []
    for history, target in zip(cases.histories, cases.items, strict=True):
        window = torch.from_numpy(values[np.append(history[-4:], target)])[None]
        hidden = model(window, torch.ones(1, 4, dtype=torch.bool)).hidden_states
        ids = model.scores(hidden, 0)[0]
        hits.append(int((ids > ids[values[target, 0] - 1]).sum()) < 10)
    assert found[METRIC_1] == pytest.approx(np.mean(hits))


def test_users_with_one_click_teach_nothing(tmp_path):
    data = shop_data()
    split = dataclasses.replace(data.split, train=[rows[:1] for rows in data.split.train])
    with pytest.raises(DataError, match="no user with two clicks"):
        vocabulary, values = prepared(data, tiny_options())
        famae_trainer(split, values, vocabulary.sizes, tiny_options(), output_dir=tmp_path)


def test_the_digest_depends_on_fields_and_training_clicks():
    data = shop_data()
    other_clicks = shop_data(shop_clicks(users=39))

    digests = [
        content_digest(*options.digest_parts(own, None))
        for options, own in (
            (tiny_options(), data),
            (tiny_options(fields=FIELDS[:2]), data),
            (tiny_options(dim=16), data),
            (tiny_options(), other_clicks),
            (tiny_options(report_to=["tensorboard"]), data),
        )
    ]

    assert len(set(digests[:4])) == 4
    assert digests[4] == digests[0]


def test_masks_are_drawn_anew():
    targets = torch.ones(50, 4, dtype=torch.int64)

    assert not torch.equal(draw_masks(targets), draw_masks(targets))
