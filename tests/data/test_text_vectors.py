"""Texts from templates, vectors from texts, and what is kept of both."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_hf.data import DataError, ItemEncoder, LsaEncoder, TextVectors, VectorOptions, encode_items, render_texts
from cost_hf.data import text_vectors as module
from cost_hf.files import DamagedFileError
from tests.faults import read_only

ITEMS = pd.DataFrame(
    {
        "item_id": ["1", "2", "3", "4"],
        "title": ["Red lamp", "Green lamp", None, ""],
        "brand": ["Lux", None, "Zen", None],
        "price": [1.5, 2.0, None, 3.0],
    }
)


def test_empty_fields_vanish_with_their_separators():
    assert render_texts(ITEMS, "{title}. {brand}") == ["Red lamp. Lux", "Green lamp", "Zen", ""]


def test_label_of_a_field_vanishes_with_it_and_stays_with_the_next():
    expected = ["Name: Red lamp, by Lux!", "Name: Green lamp!", "by Zen!", ""]
    assert render_texts(ITEMS, "Name: {title}, by {brand}!") == expected


def test_without_template_all_text_columns_are_joined():
    assert render_texts(ITEMS, None) == ["Red lamp. Lux", "Green lamp", "Zen", ""]


def test_numbers_and_lists_render_where_named():
    items = pd.DataFrame({"item_id": ["1", "2"], "tags": [["new", None, "red"], []], "size": [4, 5]})

    assert render_texts(items, "{tags} / {size}") == ["new, red / 4", "5"]


def test_braces_may_be_escaped():
    assert render_texts(ITEMS.head(1), "{{x}} {title}") == ["{x} Red lamp"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{name}", r"has the field 'name': expected a plain column name of items, one of \['item_id', 'title'"),
        ("{title.__class__}", r"has the field 'title\.__class__'"),
        ("{price:.2f}", r"has the field 'price' with a format"),
        ("{title", r"is malformed"),
        ("no field", r"has no field"),
    ],
    ids=["missing column", "attribute", "format", "open brace", "none"],
)
def test_bad_template_is_an_error_that_quotes_it(template, message):
    with pytest.raises(DataError, match=message):
        render_texts(ITEMS, template)


def test_catalog_without_text_columns_is_an_error():
    with pytest.raises(DataError, match=r"no text column besides item_id, only \['item_id', 'price'\]"):
        render_texts(ITEMS[["item_id", "price"]], None)


@pytest.mark.parametrize("name", ["dim", "batch_size", "max_length"])
def test_vector_option_below_one_is_named(name):
    with pytest.raises(DataError, match=rf"vectors\.{name} is 0, expected at least 1"):
        VectorOptions(**{name: 0})


TEXTS = [
    f"{color} {thing} number{number}" for number in range(6) for color in ("red", "blue") for thing in ("lamp", "chair")
]
CATALOG = pd.DataFrame({"item_id": [str(number) for number in range(len(TEXTS))], "title": TEXTS})


def test_lsa_vectors_have_length_one_and_put_like_texts_together():
    vectors = LsaEncoder.fit(TEXTS, dim=6).encode(["red lamp", "red lamp", "blue chair"])

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors[0] @ vectors[1] == pytest.approx(1)
    assert vectors[0] @ vectors[2] < 0.5


def test_lsa_survives_saving_bit_for_bit_and_without_pickle(tmp_path):
    encoder = LsaEncoder.fit(TEXTS, dim=6)
    encoder.save(tmp_path)
    loaded = LsaEncoder.load(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["lsa.safetensors", "vocabulary.json"]
    assert loaded.digest == encoder.digest
    assert np.array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_column_major_projection_survives_saving(tmp_path):
    components = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    LsaEncoder(["ab", "cd", "ef"], np.ones(3), components).save(tmp_path)

    assert LsaEncoder.load(tmp_path).components.tolist() == components.tolist()


def test_lsa_vector_of_a_text_does_not_depend_on_its_company():
    encoder = LsaEncoder.fit(TEXTS, dim=6)

    assert np.array_equal(encoder.encode(TEXTS)[7:8], encoder.encode(TEXTS[7:8]))


def test_lsa_cuts_its_width_to_what_the_texts_hold_and_warns(caplog):
    with caplog.at_level(logging.WARNING):
        encoder = LsaEncoder.fit(["red lamp", "blue lamp"], dim=50)

    assert encoder.encode(["red lamp"]).shape == (1, 2)
    assert "2 dimensions instead of 50" in caplog.text


def test_lsa_gives_zero_for_unknown_words_and_warns(caplog):
    encoder = LsaEncoder.fit(TEXTS, dim=6)
    with caplog.at_level(logging.WARNING):
        vectors = encoder.encode(["zebra", "red lamp"])

    assert not vectors[0].any()
    assert "1 of 2 texts have no word" in caplog.text


def test_lsa_without_any_word_is_an_error():
    with pytest.raises(DataError, match=r"lsa found no word of two or more letters in 2 texts"):
        LsaEncoder.fit(["a", "-"], dim=2)


def test_encoded_items_can_be_loaded_and_extended(tmp_path):
    vectors = encode_items(CATALOG, VectorOptions(dim=6), output_dir=tmp_path)
    loaded = TextVectors.load(tmp_path)

    assert vectors.vectors.shape == (len(TEXTS), 6)
    assert np.array_equal(loaded.vectors, vectors.vectors)
    assert (loaded.texts, loaded.texts_digest, loaded.encoder_digest) == (
        tuple(TEXTS),
        vectors.texts_digest,
        vectors.encoder_digest,
    )
    assert np.array_equal(ItemEncoder.load(tmp_path / "encoder").encode(TEXTS[:2]), vectors.vectors[:2])


def saved_vectors(folder, texts) -> TextVectors:
    table = np.arange(2 * len(texts), dtype=np.float32).reshape(-1, 2)
    vectors = TextVectors(table, tuple(texts), "of the texts", "of the encoder", {"kind": "made up"})
    vectors.save(folder)
    return vectors


def test_the_limit_of_json_files_does_not_limit_the_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("cost_hf.files.MAX_JSON_BYTES", 1000)

    vectors = saved_vectors(tmp_path, ["", "ä\n\0", *(f"a lamp of {number} watts" for number in range(98))])
    loaded = TextVectors.load(tmp_path)

    assert np.array_equal(loaded.vectors, vectors.vectors) and loaded.texts == vectors.texts
    assert (loaded.digest, loaded.description) == (vectors.digest, vectors.description)


def test_a_directory_of_vectors_is_whole_when_its_json_is_there(tmp_path, monkeypatch):
    def killed(path, value):
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["texts.parquet", "vectors.safetensors"]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", killed)

    with pytest.raises(KeyboardInterrupt):
        saved_vectors(tmp_path, TEXTS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), r"texts\.parquet is not a valid parquet file"),
        (lambda path: pd.DataFrame({"title": TEXTS}).to_parquet(path), r"holds the columns title \(.*expected text"),
        (
            lambda path: pq.write_table(pa.table({"text": TEXTS[:3]}, schema=module.TEXT_SCHEMA), path),
            "has 3 texts, expected 24, one a vector",
        ),
    ],
    ids=["cut short", "another column", "too few"],
)
def test_damaged_texts_are_named(tmp_path, damage, message):
    saved_vectors(tmp_path, TEXTS)
    damage(tmp_path / "texts.parquet")

    with pytest.raises(DamagedFileError, match=message):
        TextVectors.load(tmp_path)


def test_two_lsa_runs_agree_in_every_byte(tmp_path):
    for name in ("one", "two"):
        encode_items(CATALOG, VectorOptions(dim=6), output_dir=tmp_path / name, seed=4)

    encoder = ("encoder/vocabulary.json", "encoder/lsa.safetensors")
    for file in ("vectors.safetensors", "texts.parquet", "vectors.json", *encoder):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


class CountingEncoder:
    """Counts letters; stops where told, like a killed process."""

    def __init__(self, name="counting", fails_at=None):
        self.digest = name
        self.fails_at = fails_at
        self.chunks = []

    def settings(self):
        return None

    def encode(self, texts):
        if len(self.chunks) == self.fails_at:
            raise KeyboardInterrupt
        self.chunks.append(list(texts))
        return np.array([[len(text), text.count("r")] for text in texts], dtype=np.float32)


@pytest.fixture
def encode(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 10)

    def run(encoder, items=CATALOG):
        monkeypatch.setattr(module, "sentence_encoder", lambda options: encoder)
        options = VectorOptions(model="some/encoder")
        return encode_items(items, options, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache")

    return run


def test_interrupted_encoding_goes_on_where_it_stopped(encode):
    with pytest.raises(KeyboardInterrupt):
        encode(CountingEncoder(fails_at=2))
    second = CountingEncoder()
    vectors = encode(second)

    assert second.chunks == [TEXTS[20:]]
    assert np.array_equal(vectors.vectors, CountingEncoder().encode(TEXTS))


def test_a_cache_that_can_not_be_written_to_costs_the_next_run_and_not_this_one(encode, tmp_path, caplog):
    (tmp_path / "cache").mkdir()
    with read_only(tmp_path / "cache"):
        vectors = encode(CountingEncoder())

    assert np.array_equal(vectors.vectors, CountingEncoder().encode(TEXTS))
    assert [record.message for record in caplog.records if "COST_HF_CACHE" in record.message] == [
        f"vectors are not kept for other runs ($COST_HF_CACHE names another place): {tmp_path / 'cache'}: "
        "permission denied; give another path or change its permissions"
    ]
    assert not list((tmp_path / "cache").iterdir())


def with_flipped_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [with_flipped_bit, lambda content: content[:-8]], ids=["a flipped bit", "cut short"])
def test_a_damaged_chunk_of_the_cache_is_encoded_again(encode, tmp_path, caplog, damage):
    vectors = encode(CountingEncoder())
    path = min((tmp_path / "cache").iterdir())
    content = path.read_bytes()
    path.write_bytes(damage(content))
    second = CountingEncoder()
    assert module.cached_vectors(TEXTS, second, cache_dir=tmp_path / "cache") is None

    again = encode(second)

    (chunk,) = second.chunks
    assert chunk in [TEXTS[:10], TEXTS[10:20], TEXTS[20:]]
    assert np.array_equal(again.vectors, vectors.vectors) and path.read_bytes() == content
    assert path.name in caplog.text and "its texts are encoded again" in caplog.text


def test_item_added_at_the_end_encodes_only_the_last_chunk(encode):
    encode(CountingEncoder())
    second = CountingEncoder()
    encode(second, pd.concat([CATALOG, pd.DataFrame({"item_id": ["new"], "title": ["extra"]})], ignore_index=True))

    assert second.chunks == [[*TEXTS[20:], "extra"]]


def test_another_encoder_does_not_read_the_first_ones_cache(encode):
    encode(CountingEncoder())
    second = CountingEncoder("other")
    encode(second)

    assert len(second.chunks) == 3


def test_cache_directory_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "here"))
    monkeypatch.setattr(module, "sentence_encoder", lambda options: CountingEncoder())

    encode_items(CATALOG, VectorOptions(model="some/encoder"), output_dir=tmp_path / "out")

    assert len(list((tmp_path / "here").glob("*.safetensors"))) == 1
