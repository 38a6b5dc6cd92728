"""One language model for codes and recommendations: shared weights, separate adapters, new items from their texts."""

import numpy as np
import pytest
import torch

from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.options import AdapterOptions, GeneratorOptions
from cost_hf.hub.redaction import Licence
from cost_hf.hub.staging import write_recommender
from cost_hf.quantizers.text_slots.modeling_text_slots import TextSlotsModel
from cost_hf.recommenders.base import Recommender
from tests.generators.backbone_toys import byte_bpe, causal_backbone
from tests.methods.store.store_toys import IDS, TEXTS, store_recommender

HISTORY = IDS[:3]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return causal_backbone(tmp_path_factory.mktemp("one") / "base")


@pytest.fixture
def recommender(base):
    return store_recommender(base)


def storages(model) -> set[int]:
    return {weight.untyped_storage().data_ptr() for weight in model.parameters()}


def test_quantizer_and_generator_read_the_same_weights_by_modules_of_their_own(recommender):
    read = recommender.quantizer.base
    own = storages(recommender.quantizer)

    assert storages(read) - own <= storages(recommender.generator)
    assert not {*map(id, read.modules())} & {*map(id, recommender.generator.modules())}
    assert not any("token_adapter" in name or "lora_A.default" in name for name, _ in read.named_modules())


def test_the_codes_of_texts_are_those_that_the_language_model_alone_gives(recommender):
    shared = recommender.encode(TEXTS)

    recommender.quantizer.release_base()  # and so it is loaded by its name, without added tokens

    assert np.array_equal(recommender.quantizer.encode(TEXTS).numpy(), shared)
    assert np.array_equal(shared, recommender.catalog.codes[:, :3])


def test_encoding_texts_changes_no_answer_and_answers_change_no_codes(recommender):
    before = recommender.recommend(HISTORY, top_k=10)
    codes = recommender.encode(TEXTS)

    assert recommender.recommend(HISTORY, top_k=10) == before
    assert np.array_equal(recommender.encode(TEXTS), codes)


def test_a_new_item_needs_its_text_alone(recommender):
    assert recommender.new_item_inputs == ("texts", "codes") and recommender.encoder is None

    change = recommender.add_items(["new"], ["a green desk for the customer"])

    assert change.item_ids == ("new",)
    row = recommender.catalog.row_of("new")
    assert np.array_equal(recommender.catalog.codes[row, :3], recommender.encode(["a green desk for the customer"])[0])
    assert [answer.item_id for answer in recommender.recommend(HISTORY, allowed=["new"])] == ["new"]
    with pytest.raises(ValueError, match="codes of this recommender are made from texts; pass the texts of new items"):
        recommender.add_items(["other"], vectors=np.ones((1, 24), dtype=np.float32))
    with pytest.raises(ValueError, match="the quantizer of this recommender reads texts, not vectors; pass texts"):
        recommender.encode_vectors(np.ones((1, 24), dtype=np.float32))


def test_a_new_text_says_whether_the_item_would_have_other_codes(recommender):
    assert recommender.update_items(IDS[:2], TEXTS[:2]).would_differ == 0

    others = recommender.encode(TEXTS)
    different = next(row for row in range(1, 30) if not np.array_equal(others[row], others[0]))
    assert recommender.update_items(IDS[:1], [TEXTS[different]]).would_differ == 1


def test_the_whole_comes_back_from_one_directory_with_one_base(recommender, tmp_path):
    recommender.add_items(["new"], ["a green desk for the customer"])
    recommender.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded.quantizer) is TextSlotsModel
    assert storages(loaded.quantizer.base) - storages(loaded.quantizer) <= storages(loaded.generator)
    assert loaded.recommend(HISTORY, top_k=10) == recommender.recommend(HISTORY, top_k=10)
    for one in (loaded, recommender):
        one.add_items(["later"], ["two blue chairs"])
    assert np.array_equal(loaded.catalog.codes, recommender.catalog.codes)
    assert not (tmp_path / "model.safetensors").exists()


def test_merging_the_generator_changes_no_codes(recommender):
    codes = recommender.encode(TEXTS)

    recommender.merge()

    assert np.array_equal(recommender.encode(TEXTS), codes)
    assert not storages(recommender.quantizer.base) & storages(recommender.generator)


def test_what_is_written_does_not_depend_on_semantic_ids_in_spare_rows_of_the_base(tmp_path):
    spare = causal_backbone(tmp_path / "spare", vocab_size=len(byte_bpe()) + 40)
    quantizer = store_recommender(spare).quantizer
    slots = quantizer.embed_texts(TEXTS)
    losses = quantizer.token_losses(slots, TEXTS)
    written = quantizer.write_texts(slots[:6], max_tokens=5)

    quantizer.release_base()

    assert torch.equal(quantizer.token_losses(slots, TEXTS), losses)
    assert quantizer.write_texts(slots[:6], max_tokens=5) == written


def test_rows_of_codes_start_where_the_quantizer_maps_their_centroids(base):
    recommender = store_recommender(base)
    quantizer = recommender.quantizer

    rows = recommender.generator.get_input_embeddings().weight.detach()
    first = recommender.vocabulary.first_id
    mapped = torch.cat([quantizer.token_vectors(level) for level in range(3)])
    found = rows[first : first + len(mapped)]
    scale = found.norm() / mapped.norm()
    torch.testing.assert_close(found, scale * mapped, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.norm(dim=1).mean(), rows[:first].norm(dim=1).mean())


def test_code_vectors_of_another_width_are_no_rows(base, tmp_path):
    made = store_recommender(base)
    vectors = [made.quantizer.token_vectors(level) for level in range(3)]
    wide = causal_backbone(tmp_path / "wide", hidden_size=64)
    options = GeneratorOptions(backbone=str(wide), prompt="continuation", embedding_init="mapped", max_history=5)

    with pytest.raises(ValueError, match=r"in the space of the embeddings, of width 64, got width 32; take the model"):
        build_backbone(options, made.catalog, seed=0, adapter=AdapterOptions(r=2), level_vectors=vectors)


def test_a_recommender_of_a_local_language_model_is_not_published(recommender, tmp_path):
    with pytest.raises(ValueError, match=r"made by 'base', a directory of this machine, .* train on the Hub id"):
        write_recommender(recommender, tmp_path, Licence("apache-2.0"))
