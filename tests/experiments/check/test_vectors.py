"""Vectors of a check: the encoder's where a run left them, a stand-in otherwise, and the cost of the real ones."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import text_vectors
from cost_hf.data.options import VectorOptions
from cost_hf.data.text_vectors import CHUNK_SIZE, encode_items
from cost_hf.experiments.check import vectors as module
from cost_hf.experiments.check.texts import letter_grams
from cost_hf.experiments.check.vectors import cached_vectors, check_vectors, is_at_hand

ITEMS = pd.DataFrame({"title": [f"lamp number {number}" for number in range(CHUNK_SIZE + 5)]})
TEXTS = ITEMS["title"].tolist()


class LengthEncoder:
    """Encodes a text as its length; stands for any text encoder."""

    digest = "length"

    def settings(self):
        return None

    def encode(self, texts):
        return np.array([[len(text), 1.0, 0.0] for text in texts], dtype=np.float32)


@pytest.fixture
def encoder(monkeypatch, tmp_path):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_vectors, "sentence_encoder", lambda options: LengthEncoder())
    monkeypatch.setattr(module, "sentence_encoder", lambda options: LengthEncoder())
    monkeypatch.setattr(module, "is_at_hand", lambda model: True)
    return LengthEncoder()


def test_vectors_that_a_run_has_cached_are_found(encoder, tmp_path):
    options = VectorOptions(model="length")
    made = encode_items(ITEMS, options, output_dir=tmp_path / "run")

    found = check_vectors(TEXTS, letter_grams(TEXTS), options)

    assert np.array_equal(found.vectors, made.vectors)
    assert (found.origin, found.basis, found.encode_seconds) == ("encoder", "cached", 0.0)


def test_a_cache_with_a_missing_chunk_is_no_cache(encoder, tmp_path):
    encode_items(ITEMS.head(CHUNK_SIZE), VectorOptions(model="length"), output_dir=tmp_path / "run")

    assert cached_vectors(TEXTS[:CHUNK_SIZE], encoder) is not None
    assert cached_vectors(TEXTS, encoder) is None


def test_an_encoder_at_hand_is_timed_and_its_width_known(encoder):
    found = check_vectors(TEXTS, letter_grams(TEXTS), VectorOptions(model="length"))

    assert (found.origin, found.basis, found.width) == ("stand_in", "measured", 3)
    assert len(found.vectors) == len(TEXTS)


def test_an_encoder_that_is_not_here_is_assumed_in_proportion_to_the_words():
    options = VectorOptions(model="nobody/nothing-like-this")

    short, long = (
        check_vectors(texts, letter_grams(texts), options) for texts in (TEXTS, [f"{text} of wood" for text in TEXTS])
    )

    assert short.basis == "assumed"
    assert long.encode_seconds == pytest.approx(short.encode_seconds * 5 / 3)


def test_lsa_is_measured_on_its_own_vectors():
    found = check_vectors(TEXTS, letter_grams(TEXTS), VectorOptions(model="lsa", dim=8))

    assert (found.origin, found.width, found.vectors.shape) == ("lsa", 8, (len(TEXTS), 8))


def test_stand_in_vectors_have_length_one_and_equal_texts_equal_vectors():
    texts = [*TEXTS[:50], TEXTS[0]]

    vectors = check_vectors(texts, letter_grams(texts), VectorOptions(model="nobody/nothing")).vectors

    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(51), abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[-1], abs=1e-5)


def test_a_directory_is_at_hand_and_an_unknown_model_is_not(tmp_path):
    assert is_at_hand(str(tmp_path))
    assert not is_at_hand("nobody/nothing-like-this")
