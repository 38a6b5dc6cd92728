"""Pretrained backbones of every family: vocabulary, prompts, context, padding, and what is refused."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.collation import CausalCollator
from cost_hf.generators.generator_training import train_generator, training_examples
from cost_hf.generators.options import TaskOptions, TrainingOptions
from cost_hf.generators.pretrained import code_vectors
from cost_hf.generators.prompts import Example
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.semantic_ids.trie import SidTrie
from tests.generators.backbone_toys import CAUSAL, TOKENIZERS, byte_bpe, causal_backbone, seq2seq_backbone
from tests.near_ties import assert_same_list, assert_same_rows
from tests.recommenders.toys import recommender_of, toy_catalog

CATALOG = toy_catalog(40, (8, 8))
HISTORIES = torch.tensor([[1, 2, 3, 4], [7, -1, -1, -1], [9, 8, -1, -1]])


def backbone_of(directory, **options):
    return build_backbone(GeneratorOptions(backbone=str(directory), **options), CATALOG, seed=0)


def rank(backbone, histories):
    prompts, trie = backbone.prompts(CATALOG)[0], SidTrie.from_catalog(CATALOG)
    return BeamRanker(backbone.model.eval(), prompts, trie, num_beams=12).rank(histories, top_k=12)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("prompt", ["bare", "continuation", "instruction"])
def test_a_batch_padded_with_the_end_token_answers_as_each_request_alone(tmp_path, family, prompt):
    backbone = backbone_of(causal_backbone(tmp_path, family), prompt=prompt)
    assert backbone.vocabulary.pad_id == backbone.vocabulary.eos_id == backbone.tokenizer.pad_token_id

    together = rank(backbone, HISTORIES)

    for number, history in enumerate(HISTORIES):
        alone = rank(backbone, history[history >= 0][None])
        line = slice(number, number + 1)
        assert_same_rows((together.items[line], together.scores[line]), (alone.items, alone.scores), tolerance=1e-3)


@pytest.mark.trains
@pytest.mark.parametrize("name", ["byte_bpe", "sentencepiece"])
def test_a_decoder_learns_its_users_under_any_tokenizer_and_comes_back(tmp_path, name):
    directory = causal_backbone(tmp_path / "base", tokenizer=TOKENIZERS[name]())
    options = GeneratorOptions(backbone=str(directory), prompt="continuation", max_history=6)
    backbone = build_backbone(options, CATALOG, seed=0)
    trained = train_generator(
        backbone,
        backbone.prompts(CATALOG),
        [(start + np.arange(5)) % 40 for start in range(40)],
        [f"u{number}" for number in range(40)],
        generator=options,
        training=TrainingOptions(epochs=3, batch_size=8, learning_rate=5e-3, warmup_steps=1),
        validate=lambda model: {"ndcg@10": 0.0},
        output_dir=tmp_path / "work",
        seed=0,
    )
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < losses[0]

    recommender = recommender_of(backbone, CATALOG)
    recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    remote = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", trust_remote_code=True)

    # as many beams as items: with fewer, rounding may decide which beam goes on
    wanted = recommender.recommend(["item001", "item002"], top_k=40, exclude_seen=False)
    assert_same_list(loaded.recommend(["item001", "item002"], top_k=40, exclude_seen=False), wanted)
    assert len(tokenizer("<s_a_1><s_b_2><s_c_0>", add_special_tokens=False)["input_ids"]) == 3
    pairs = remote.generate(histories=[["item001", "item002"]], num_beams=40, return_items=True)[0]
    assert_same_list(pairs, wanted)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_anchored_vocabulary_starts_near_a_uniform_choice_among_codes(tmp_path, family):
    """All SID rows start alike, so a code's probability is that of the anchor shared by all of them."""
    directory = causal_backbone(tmp_path, family)
    spread = {}
    for embedding_init in ("normal", "mean", "text"):
        backbone = backbone_of(directory, prompt="continuation", embedding_init=embedding_init)
        ids, mask = backbone.prompts(CATALOG)[0].inputs(HISTORIES)
        with torch.no_grad():
            logits = backbone.model.eval()(input_ids=ids, attention_mask=mask).logits[:, -1]
        spread[embedding_init] = logits[:, backbone.vocabulary.token_ids].std(1).mean().item()

    assert spread["text"] < 0.5 * spread["normal"]
    assert spread["mean"] < 0.5 * spread["normal"]


def test_text_rows_are_the_anchors_row_with_a_tenth_of_the_spread(tmp_path):
    directory = causal_backbone(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    old = AutoModelForCausalLM.from_pretrained(directory).get_input_embeddings().weight

    backbone = backbone_of(directory, embedding_init_text="red lamp")

    anchor = old[tokenizer("red lamp", add_special_tokens=False)["input_ids"]].mean(0)
    rows = backbone.model.get_input_embeddings().weight[backbone.vocabulary.first_id : backbone.vocabulary.size]
    noise = (rows - anchor) / old.std(0)
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert noise.mean().abs().item() < 0.01


def test_codebook_rows_keep_which_codes_are_near(tmp_path):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(8, 6, generator=generator) for _ in range(2)]
    levels[0][1] = levels[0][0] + 0.01  # near codes of the first level
    options = GeneratorOptions(backbone=str(causal_backbone(tmp_path)), embedding_init="codebook")

    backbone = build_backbone(options, CATALOG, seed=0, level_vectors=levels)

    rows = backbone.model.get_input_embeddings().weight[backbone.vocabulary.first_id :]
    distances = torch.cdist(rows[:8], rows[:8])[0, 1:]
    assert distances.argmin() == 0
    assert distances[0] < 0.1 * distances[1:].min()
    assert rows.isfinite().all()  # the appended level has no code vectors
    with pytest.raises(ValueError, match="embedding_init 'codebook' needs the code vectors of a quantizer"):
        build_backbone(options, CATALOG, seed=0)


def test_levels_without_vectors_are_marked():
    assert code_vectors([], CATALOG.level_sizes) is None

    vectors = code_vectors([torch.ones(8, 3), torch.ones(8, 3)], CATALOG.level_sizes)

    assert vectors.shape == (sum(CATALOG.level_sizes), 3)
    assert vectors[:16].isfinite().all()
    assert vectors[16:].isnan().all()


def test_a_context_that_is_too_short_is_told_in_numbers_or_drops_the_oldest(tmp_path):
    directory = causal_backbone(tmp_path, max_position_embeddings=140)
    options = {"prompt": "continuation", "max_history": 50}
    words = max(layout.constant_tokens for layout in backbone_of(directory, **options | {"max_history": 2}).layouts)
    fits = (140 - words) // 3 - 1

    with pytest.raises(
        ValueError, match=rf"a prompt of 50 items takes {words + 153} tokens .* context of 140; allow {fits} items"
    ):
        backbone_of(directory, **options)

    backbone = backbone_of(directory, **options, overflow="drop_oldest")
    ids, _ = backbone.prompts(CATALOG)[0].inputs(torch.arange(40)[None])

    assert backbone.max_history == fits
    assert ids.shape[1] == backbone.layouts[0].constant_tokens + 3 * fits <= 140 - 3
    assert ids[0, -3:].tolist() == backbone.prompts(CATALOG)[0].item_tokens[39].tolist()


def test_a_context_without_room_for_one_item_is_refused_in_any_case(tmp_path):
    directory = causal_backbone(tmp_path, max_position_embeddings=24)

    with pytest.raises(ValueError, match="context of 24; shorten the text"):
        backbone_of(directory, prompt="continuation", overflow="drop_oldest")


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    tokenizer = byte_bpe()
    tokenizer.eos_token = None
    directory = causal_backbone(tmp_path, tokenizer=tokenizer)

    with pytest.raises(ValueError, match="has no end token"):
        backbone_of(directory)


def test_a_padding_token_of_its_own_is_kept(tmp_path):
    backbone = backbone_of(causal_backbone(tmp_path, tokenizer=byte_bpe(pad_token="<|start|>")))

    assert backbone.vocabulary.pad_id == backbone.tokenizer.convert_tokens_to_ids("<|start|>")
    assert backbone.tokenizer.padding_side == "left"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "seq2seq"},
            "is a llama .causal model., generator.kind='seq2seq' was given; set generator.kind to causal",
        ),
        ({"dropout": 0.1}, "generator.dropout of a pretrained causal model must be null, which keeps its own, got 0.1"),
        ({"dropout": 0.0}, "must be null, which keeps its own, got 0.0"),
        ({"prompt": "chat"}, "generator.prompt must be one of bare, continuation, instruction, got 'chat'"),
        (
            {"embedding_init": "zeros"},
            "generator.embedding_init must be one of null, normal, mean, text, codebook, mapped, got 'zeros'",
        ),
        ({"overflow": "cut"}, "generator.overflow must be one of error, drop_oldest, got 'cut'"),
        ({"prompt": "continuation", "num_user_tokens": 4}, "num_user_tokens needs generator.prompt 'bare'"),
    ],
)
def test_options_that_a_decoder_can_not_have_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        backbone_of(causal_backbone(tmp_path), **options)


def test_options_that_others_can_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'continuation' is for generator\.kind causal, got seq2seq"):
        backbone_of(seq2seq_backbone(tmp_path), kind="seq2seq", prompt="continuation")
    with pytest.raises(ValueError, match=r"need a generator\.backbone: a model from scratch"):
        GeneratorOptions(prompt="continuation").validate()


@pytest.mark.parametrize("task", ["continuation", "instruction"])
def test_a_model_that_takes_no_packed_mask_gets_padded_rows_of_the_same_loss(tmp_path, task):
    backbone = backbone_of(causal_backbone(tmp_path), prompt=task)
    sequences = [np.arange(start, start + 3) for start in range(6)]
    dataset, packing = training_examples(
        backbone, backbone.prompts(CATALOG), sequences, ["u"] * 6, training=TrainingOptions(), tasks=TaskOptions()
    )
    examples = [dataset[number] for number in range(6)]
    padding = CausalCollator(backbone.vocabulary.pad_id, packs=False)

    losses = [backbone.model.eval()(**collate(examples)).loss.item() for collate in (packing, padding)]

    assert padding(examples)["attention_mask"].ndim == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_model_that_the_engine_does_not_run_is_not_packed(tmp_path):
    directory = causal_backbone(tmp_path)
    backbone = backbone_of(directory)
    backbone.model.config._attn_implementation = "flash_attention_2"  # takes no float mask

    _, collator = training_examples(
        backbone, backbone.prompts(CATALOG), [np.arange(4)], ["u"], training=TrainingOptions()
    )

    assert not collator.packs


def test_padded_rows_say_what_is_padding_by_the_mask_alone():
    collate = CausalCollator(2, packs=False)
    examples = [
        Example(np.array([5]), np.array([6, 2]), np.array([7, 8])),  # 2 is a token here
        Example(np.array([5]), np.array([], dtype=np.int64), np.array([9])),
    ]

    batch = collate(examples)

    assert batch["input_ids"].tolist() == [[5, 6, 2, 7, 8], [5, 9, 2, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 7, 8], [-100, 9, -100, -100, -100]]


def test_with_anchored_rows_a_code_has_its_share_of_what_all_codes_have_together(tmp_path):
    """So where a model gives the anchor nearly all probability, it starts at ln n."""
    backbone = backbone_of(causal_backbone(tmp_path), prompt="continuation", embedding_init="text")
    prompts = backbone.prompts(CATALOG)[0]
    dataset, collator = training_examples(backbone, [prompts], [np.arange(10)], ["u"], training=TrainingOptions())
    with torch.no_grad():
        batch = collator([dataset[0]])
        logits = backbone.model.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits
    among = logits[..., backbone.vocabulary.token_ids].log_softmax(-1)
    labels = batch["labels"][:, 1:]
    places = labels >= 0
    chosen = among[:, :-1][places].gather(1, (labels[places] - backbone.vocabulary.first_id)[:, None])

    assert -chosen.mean().item() == pytest.approx(math.log(sum(CATALOG.level_sizes)), abs=0.3)
