"""Latents of a quantizer as item vectors: what they are, what is refused, and what travels with a recommender."""

import shutil

import numpy as np
import pytest
import torch

from cost_hf.data import ItemEncoder
from cost_hf.data.errors import DataError
from cost_hf.data.text_vectors import TextVectors
from cost_hf.files import DamagedFileError, content_digest, write_json
from cost_hf.item_vectors.latents import fitting, source
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import fit_codes
from cost_hf.stages import UnfinishedRunError
from tests.item_vectors.latents.latent_toys import (
    DIM,
    LATENT,
    LetterEncoder,
    latent_options,
    toy_data,
    toy_quantizer,
    write_home,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("somebody") / "home")


@pytest.fixture(scope="module")
def data():
    return toy_data()


@pytest.fixture(scope="module")
def written(home, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    latent_options(home).fit(data, output_dir=folder, fit_rows=None)
    return folder


@pytest.fixture
def letters(monkeypatch, tmp_path):
    """Return the name of a text encoder, which the recipe finds; revision and width can be changed."""
    encoder = LetterEncoder()
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fitting, "sentence_encoder", lambda _: encoder)
    return encoder


def alone(folder, **text_encoder):
    """Write a quantizer that is a part of nothing."""
    model = toy_quantizer()
    model.config.text_encoder = text_encoder or None
    model.save_pretrained(folder)
    return folder


def test_the_vectors_are_what_the_quantizer_embeds(home, written):
    vectors = TextVectors.load(written)
    texts = ItemEncoder.load(home / "encoder").encode(list(vectors.texts))

    with torch.no_grad():
        expected = toy_quantizer().embed(torch.from_numpy(texts)).numpy()

    assert vectors.vectors.shape == (len(vectors.texts), LATENT) and vectors.vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors.vectors, expected)
    assert vectors.description == {"kind": "latents", "quantizer": "cost", "width": LATENT}


def test_the_stored_encoder_makes_the_vectors_of_new_items_without_the_run(data, written, tmp_path):
    before = ItemEncoder.load(written / "encoder")
    before.save(tmp_path / "copy", bundle_weights=True)
    encoder = ItemEncoder.load(tmp_path / "copy")
    vectors = TextVectors.load(written)

    rendered = encoder.render(data.tables.items)

    assert encoder.digest == before.digest == vectors.encoder_digest
    assert tuple(rendered) == vectors.texts
    np.testing.assert_allclose(encoder.encode(rendered), vectors.vectors, atol=1e-6)
    assert encoder.encode(["a title that is new"]).shape == (1, LATENT)
    assert encoder.settings is None and encoder.name == "lsa" and encoder.holds_item_values
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"somebody" in path.read_bytes() for path in files)


def test_the_digest_depends_on_the_weights_and_the_options_of_the_quantizer(written):
    encoder = ItemEncoder.load(written / "encoder")
    texts, model = encoder.texts, toy_quantizer()

    same = type(encoder)(encoder.options, texts, model)
    assert same.digest == encoder.digest
    model.config.input_norm = "l2"
    assert type(encoder)(encoder.options, texts, model).digest != encoder.digest
    assert type(encoder)(encoder.options, texts, toy_quantizer(seed=1)).digest != encoder.digest


def test_another_quantizer_in_the_stored_encoder_is_refused(written, tmp_path):
    shutil.copytree(written / "encoder", tmp_path / "encoder")
    toy_quantizer(seed=1).save_pretrained(tmp_path / "encoder" / "model" / "quantizer")

    with pytest.raises(DamagedFileError, match="has digest"):
        ItemEncoder.load(tmp_path / "encoder")


def test_the_stage_depends_on_the_quantizer_and_not_on_its_place(home, data, tmp_path):
    shutil.copytree(home, tmp_path / "moved")
    write_home(tmp_path / "other", seed=1)

    def digest(folder):
        return content_digest(*latent_options(folder).digest_parts(data, None))

    assert digest(home) == digest(home / "quantizer") == digest(tmp_path / "moved")
    assert digest(home) != digest(tmp_path / "other")


@pytest.mark.parametrize("kind", ["gaoq", "opq", "rkmeans", "simhash"])
def test_a_second_quantizer_is_fitted_to_latents(kind, written, data, tmp_path):
    vectors = TextVectors.load(written).vectors
    sizes = {"gaoq": [], "simhash": [4, 4]}.get(kind, [4, 4])

    result = fit_codes(
        vectors, CodesOptions.of(kind, level_sizes=sizes), output_dir=tmp_path, seed=0, items=data.tables.items
    )

    assert len(result.codes) == len(vectors)
    if kind == "gaoq":
        assert len(np.unique(result.codes, axis=0)) == len(vectors)


def test_a_quantizer_must_be_named_and_found(data, tmp_path):
    with pytest.raises(DataError, match=r"needs a fitted quantizer, got vectors\.quantizer ''"):
        latent_options("").validate()
    with pytest.raises(FileNotFoundError, match=r"vectors\.quantizer .* is no directory"):
        latent_options(tmp_path / "missing").check_paths()
    with pytest.raises(DataError, match="cannot load the quantizer 'runs/missing'"):
        latent_options("runs/missing").fit(data, output_dir=tmp_path / "out", fit_rows=None)
    (tmp_path / "codes" / "quantizer").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no quantizer .*random"):
        latent_options(tmp_path / "codes").fit(data, output_dir=tmp_path / "out", fit_rows=None)


def test_a_quantizer_without_an_encoder_is_refused(home, data, written, tmp_path):
    vectors = TextVectors.load(written).vectors
    shutil.copytree(home / "encoder", tmp_path / "encoder")
    options = CodesOptions.of("simhash", level_sizes=[4, 4])
    fit_codes(vectors, options, output_dir=tmp_path / "quantizer", seed=0, items=data.tables.items)

    with pytest.raises(DataError, match=r"of type 'simhash', which makes no latents"):
        latent_options(tmp_path).fit(data, output_dir=tmp_path / "out", fit_rows=None)


def test_the_lsa_must_be_that_of_the_quantizer(home, data, tmp_path):
    with pytest.raises(DataError, match=r"vectors\.dim is 5, the lsa .* with 12"):
        latent_options(home, dim=5).fit(data, output_dir=tmp_path / "out", fit_rows=None)
    with pytest.raises(DataError, match="is not stored with it; give the directory of the run"):
        latent_options(alone(tmp_path / "alone", model="lsa")).fit(data, output_dir=tmp_path / "out", fit_rows=None)


def test_the_text_encoder_must_be_that_of_the_quantizer(home, data, letters, tmp_path):
    known = alone(tmp_path / "known", **letters.settings())
    options = latent_options(known, model=letters.name)

    options.fit(data, output_dir=tmp_path / "out", fit_rows=None)

    assert TextVectors.load(tmp_path / "out").vectors.shape[1] == LATENT
    letters.revision = "two"
    with pytest.raises(DataError, match=r"was fitted to vectors of the text encoder .*'one'.*'two'"):
        options.fit(data, output_dir=tmp_path / "again", fit_rows=None)
    with pytest.raises(DataError, match=r"of the text encoder 'lsa', and the recipe's is 'org/letters'"):
        latent_options(home, model=letters.name).fit(data, output_dir=tmp_path / "again", fit_rows=None)


def test_a_quantizer_that_names_no_encoder_needs_the_right_width(data, letters, tmp_path, caplog):
    options = latent_options(alone(tmp_path / "unknown"), model=letters.name)

    options.fit(data, output_dir=tmp_path / "out", fit_rows=None)

    assert "does not say which text encoder" in caplog.text
    letters.table = letters.table[:, : DIM - 1]
    letters.digest = "narrow"
    with pytest.raises(DataError, match=r"fitted to vectors of width 12, those of .* have 11"):
        options.fit(data, output_dir=tmp_path / "again", fit_rows=None)


def test_cold_items_need_a_quantizer_that_did_not_see_them(home, data, tmp_path, monkeypatch):
    options = latent_options(home)
    fit_rows = np.ones(data.tables.num_items, dtype=bool)
    with pytest.raises(DataError, match=r"data\.cold_share hides items"):
        options.fit(data, output_dir=tmp_path / "out", fit_rows=fit_rows)

    shutil.copytree(home, tmp_path / "run")
    write_json(tmp_path / "run" / "evaluation" / "results.json", {"split_digest": data.split.digest})
    monkeypatch.setattr(source, "require_finished", lambda _: None)
    latent_options(tmp_path / "run").fit(data, output_dir=tmp_path / "out", fit_rows=fit_rows)
    assert (tmp_path / "out" / "vectors.json").is_file()


def test_a_run_of_another_split_is_said_and_an_unfinished_one_refused(home, data, tmp_path, monkeypatch, caplog):
    shutil.copytree(home, tmp_path / "run")
    write_json(tmp_path / "run" / "evaluation" / "results.json", {"split_digest": "another"})

    with pytest.raises(UnfinishedRunError):
        latent_options(tmp_path / "run").fit(data, output_dir=tmp_path / "out", fit_rows=None)
    monkeypatch.setattr(source, "require_finished", lambda _: None)
    latent_options(tmp_path / "run").fit(data, output_dir=tmp_path / "out", fit_rows=None)

    assert "another split" in caplog.text
