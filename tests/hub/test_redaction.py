"""Local paths are not published; the models at them are, where the recommender needs them."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

import cost_hf
from cost_hf.files import read_json
from cost_hf.hub.redaction import without_local_paths
from cost_hf.hub.staging import RunPublication
from cost_hf.recommenders.base import Recommender
from tests.hub.made_up import made_up_card
from tests.runs import TINY

pytestmark = pytest.mark.trains
IDS = {"quantizer": "org/toy", "dataset": "org/toy-items", "recommender": "org/toy-recommender"}
SHORT = {"codes.epochs": 1, "codes.min_perplexity_share": 0.0, "training.epochs": 1, "evaluation.baselines": []}


@pytest.fixture(scope="module")
def local_encoder(tmp_path_factory) -> Path:
    """A text encoder of letters with random weights, in a directory of this machine."""
    directory = tmp_path_factory.mktemp("somebody") / "letters"
    directory.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def local_run(local_encoder, tmp_path_factory) -> Path:
    """A run whose vectors come from that encoder."""
    overrides = TINY | SHORT | {"vectors.model": str(local_encoder)}
    return cost_hf.train(overrides=overrides, output_dir=tmp_path_factory.mktemp("runs") / "toy").output_dir


def test_no_path_leaves_and_the_encoder_works_where_its_directory_is_not(local_encoder, local_run, tmp_path):
    publication = RunPublication(local_run, tmp_path, IDS)
    expected = publication.recommender.encode(["a story"])

    for part in IDS:
        publication.stage(part)
    shutil.move(local_encoder, local_encoder.with_name("gone"))
    try:
        copy = Recommender.from_pretrained(tmp_path / "recommender")
        codes = copy.encode(["a story"])
    finally:
        shutil.move(local_encoder.with_name("gone"), local_encoder)

    files = [path for path in tmp_path.rglob("*") if path.is_file() and "cost_hf" not in path.parts]
    leaves = [path for path in files if b"somebody" in path.read_bytes()]
    assert leaves == []
    assert (codes == expected).all()
    assert copy.quantizer is not None and copy.quantizer.config.text_encoder is None


def test_an_encoder_whose_directory_is_gone_is_not_published(local_encoder, local_run, tmp_path):
    shutil.move(local_encoder, local_encoder.with_name("gone"))
    try:
        with pytest.raises(ValueError, match=r"the text encoder .*letters' does not exist any more; put it back"):
            RunPublication(local_run, tmp_path, IDS)
    finally:
        shutil.move(local_encoder.with_name("gone"), local_encoder)


def test_a_local_backbone_or_reference_is_shown_by_its_name(finished_run):
    results = read_json(finished_run / "evaluation" / "results.json")
    recipe = results["recipe"]
    recipe["data"]["path"] = "/home/somebody/clicks"
    recipe["generator"]["backbone"] = "/home/somebody/my-t5"
    recipe["catalog"]["reference"] = "/home/somebody/ids.parquet"
    recipe["vectors"]["model"] = "org/encoder"

    found = without_local_paths(results)["recipe"]
    card = made_up_card("recommender", results)

    assert found["data"]["path"] is None and found["vectors"]["model"] == "org/encoder"
    assert found["generator"]["backbone"] == "my-t5" and found["catalog"]["reference"] == "ids.parquet"
    assert "somebody" not in card and "`my-t5`" in card and "base_model" not in card
    assert recipe["generator"]["backbone"] == "/home/somebody/my-t5"  # the caller's results stay as they were
