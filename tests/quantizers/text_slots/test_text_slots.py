"""Text slots: what is read and rebuilt, the clusters of slots, and the same codes for new texts after saving."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM

from cost_hf.precision import trains_in_bf16
from cost_hf.quantizers.base import CodesOptions, load_quantizer
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.quantizers.text_slots import options as text_slots_options
from cost_hf.quantizers.text_slots.configuration_text_slots import CLUSTERINGS, TERMS
from cost_hf.quantizers.text_slots.modeling_text_slots import TextSlotsModel, padded
from cost_hf.quantizers.text_slots.objectives_text_slots import dropped_words, views_loss, word_alignment_loss
from cost_hf.quantizers.text_slots.training import StepTimes, set_centroids, untrained_model
from cost_hf.semantic_ids.catalog import Catalog
from tests.generators.backbone_toys import causal_backbone, seq2seq_backbone
from tests.quantizers.text_slots.slot_toys import slot_model, slot_options, texts_of

TEXTS = texts_of(40)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return causal_backbone(tmp_path_factory.mktemp("slots") / "base")


@pytest.fixture(scope="module")
def fitted(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    return fit_codes(None, slot_options(backbone), output_dir=folder, seed=0, texts=TEXTS), folder


def test_the_words_of_options_are_those_of_the_configuration():
    assert text_slots_options.CLUSTERINGS == CLUSTERINGS and text_slots_options.TERMS == TERMS


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_neither_padding_nor_the_other_texts_of_a_batch_change_what_is_read(tmp_path, family):
    model = slot_model(tmp_path / "base", family)

    together = model.embed_texts(TEXTS[:8])

    alone = torch.cat([model.embed_texts([text]) for text in TEXTS[:8]])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert len(together.unique(dim=0)) == 8


def test_slots_are_read_behind_a_start_token_and_the_text(backbone):
    model = slot_model(backbone)
    (ids,) = model.tokenized(TEXTS[:1])
    words = model.base.get_input_embeddings()(torch.tensor([model.tokenizer.bos_token_id, *ids]))
    embeds = torch.cat([words, model.slot_tokens.weight])[None]

    read = model.embed_texts(TEXTS[:1])

    states = model.base(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0, -3:]
    torch.testing.assert_close(read[0].view(3, 8), model.bottleneck(states), atol=1e-5, rtol=1e-4)


def test_a_language_model_without_start_token_starts_with_its_end_token(backbone):
    model = slot_model(backbone)
    model.tokenizer.bos_token = None
    without = model.embed_texts(TEXTS[:1])
    model.tokenizer.bos_token = model.tokenizer.eos_token

    assert torch.equal(model.embed_texts(TEXTS[:1]), without)


def test_prefixes_of_matched_embeddings_are_as_large_as_those_of_words(backbone):
    model = slot_model(backbone)
    batch = padded(model.tokenized(TEXTS[:8]))

    model.match_embeddings(**batch)

    prefixes = model.prefix(model.embed_texts(TEXTS[:8]).view(8, 3, 8))
    words = model.base.get_input_embeddings()(batch["input_ids"])[batch["attention_mask"].bool()]
    torch.testing.assert_close(prefixes.square().mean(), words.square().mean(), atol=0, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_text_costs_what_the_adapted_model_says_token_by_token_after_its_slots(tmp_path, family):
    model = slot_model(tmp_path / "base", family)
    texts = [TEXTS[0], "red " * 40]  # the second one is cut, and its end is not known
    slots = model.embed_texts(texts)

    losses = model.token_losses(slots, texts)

    for row, ids in enumerate(model.tokenized(texts)):
        prefix = model.prefix(slots[row].view(3, 8))
        start, *words = model.base.get_input_embeddings()(torch.tensor([model.tokenizer.bos_token_id, *ids]))
        logits = model.base(inputs_embeds=torch.stack([start, *prefix, *words])[None]).logits[0, 3:]
        wanted = torch.tensor([*ids, model.tokenizer.eos_token_id][: model.config.max_tokens])
        expected = functional.cross_entropy(logits[: len(wanted)], wanted)
        torch.testing.assert_close(losses[row], expected, atol=1e-4, rtol=1e-4)
    assert len(model.tokenized(texts)[1]) == 24


def test_written_texts_are_the_likeliest_tokens_one_by_one(backbone):
    model = slot_model(backbone)
    slots = model.embed_texts(TEXTS[:2])

    written = model.write_texts(slots, max_tokens=4)

    start = model.base.get_input_embeddings()(torch.tensor([[model.tokenizer.bos_token_id]]))
    own = torch.cat([start, model.prefix(slots[0].view(3, 8))[None]], 1)
    ids = []
    for _ in range(4):
        ids.append(int(model.base(inputs_embeds=own).logits[0, -1].argmax()))
        own = torch.cat([own, model.base.get_input_embeddings()(torch.tensor([[ids[-1]]]))], 1)
    if model.tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(model.tokenizer.eos_token_id)]
    assert written[0] == model.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_slots_bottleneck_and_adapter_learn_and_the_language_model_stays(backbone):
    model = slot_model(backbone, contrastive_weight=0.5, alignment_weight=0.5)
    model.train()

    output = model(**padded(model.tokenized(TEXTS[:4])))
    output.loss.backward()

    terms = output.reconstruction_loss + 0.5 * output.contrastive_loss + 0.5 * output.alignment_loss
    torch.testing.assert_close(output.loss, terms)
    untrained = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert untrained == {"centroids.0", "centroids.1", "centroids.2"}
    frozen = [weight for name, weight in model.base.named_parameters() if "lora_" not in name]
    assert frozen and not any(weight.requires_grad for weight in frozen)


def test_the_adapter_of_slots_changes_nothing_where_its_outer_matrices_are_zero(backbone):
    model = untrained_model(slot_options(backbone), seed=0)
    plain = AutoModelForCausalLM.from_pretrained(backbone)
    ids = torch.tensor(model.tokenized(TEXTS[:1]))

    assert torch.equal(model.base(ids).logits, plain(ids).logits)


def test_terms_on_cases_known_by_hand():
    one_hot = torch.eye(3)
    expected = -torch.tensor(1.0).div(0.5).exp().div(torch.tensor(1.0).div(0.5).exp() + 2).log()
    torch.testing.assert_close(views_loss(one_hot, 7 * one_hot, temperature=0.5), expected)

    is_word = torch.tensor([[1, 1, 0]])
    words = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [-9.0, 5.0]]])
    along = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]])
    torch.testing.assert_close(word_alignment_loss(along, words, is_word), torch.tensor(0.0))
    torch.testing.assert_close(word_alignment_loss(-along, words, is_word), torch.tensor(2.0))

    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    generator = torch.Generator().manual_seed(0)
    kept = torch.stack([dropped_words(mask, 0.5, generator=generator)[0] for _ in range(200)])
    assert (kept[:, 3] == 1).all() and (kept[:, 4:] == 0).all() and 0.3 < kept[:, :3].float().mean() < 0.7


def test_parallel_codes_are_the_nearest_centroids_of_each_slot(backbone):
    model = slot_model(backbone)
    slots = model.embed_texts(TEXTS)
    set_centroids(model, slots, seed=0)

    codes = model.encode(slots)

    parts = slots.view(-1, 3, 8)
    nearest = [torch.cdist(parts[:, level], model.centroids[level]).argmin(1) for level in range(3)]
    assert torch.equal(codes, torch.stack(nearest, 1)) and model.has_parallel_levels
    assert torch.equal(model.quantized(codes).view(-1, 3, 8)[5, 1], model.centroids[1][codes[5, 1]])
    assert torch.equal(model.level_distances(slots, codes[:, :2]).argmin(1), codes[:, 2])
    torch.testing.assert_close(model.token_vectors(1), model.prefix(model.centroids[1]))


def test_residual_codes_are_the_nearest_centroids_of_what_earlier_levels_left(backbone):
    model = slot_model(backbone, clustering="residual", level_sizes=[8, 4], num_slots=3)
    slots = model.embed_texts(TEXTS)
    set_centroids(model, slots, seed=0)

    codes = model.encode(slots)

    left = slots - model.centroids[0][codes[:, 0]]
    assert torch.equal(torch.cdist(slots, model.centroids[0]).argmin(1), codes[:, 0])
    assert torch.equal(torch.cdist(left, model.centroids[1]).argmin(1), codes[:, 1])
    assert not model.has_parallel_levels
    torch.testing.assert_close(
        model.quantized(codes), model.centroids[0][codes[:, 0]] + model.centroids[1][codes[:, 1]]
    )
    torch.testing.assert_close(model.token_vectors(0)[3], model.prefix(model.centroids[0][3].view(3, 8)).mean(0))


@pytest.mark.trains
def test_a_saved_quantizer_gives_new_texts_their_codes_and_holds_no_language_model(fitted):
    result, folder = fitted

    parts = {name.partition(".")[0] for name in load_file(folder / "model.safetensors")}
    assert parts == {"slot_tokens", "bottleneck", "prefix", "adapter", "centroids"}
    for model in (load_quantizer(folder), AutoModel.from_pretrained(folder)):
        assert type(model) is TextSlotsModel
        assert np.array_equal(model.encode(TEXTS).numpy(), result.codes)
        assert model.encode(["a new lamp"]).shape == (1, 3)
    loaded = CodesResult.load(folder)
    torch.testing.assert_close(loaded.encoded, result.encoded, atol=0, rtol=0)


@pytest.mark.trains
def test_the_log_has_the_terms_of_epochs_then_perplexities_and_what_a_step_took(fitted):
    result, _ = fitted
    *epochs, last = result.history

    assert [entry["epoch"] for entry in epochs] == [1.0]
    assert all(last[f"text_perplexity_{name}"] > 1 for name in ("slots", "codes", "others"))
    tokens = load_quantizer(fitted[1]).tokenized(TEXTS)
    assert last["steps"] == 3
    assert last["tokens_per_step"] == 2 * sum(1 + len(own) + 3 for own in tokens) / 3
    assert last["seconds_per_step"] > 0 and 0 < last["unique_share"] <= 1


@pytest.mark.trains
@pytest.mark.parametrize(("others", "warnings"), [(10.2, 1), (9.0, 1), (12.0, 0)])
def test_slots_that_say_no_more_of_a_text_than_those_of_another_are_warned_of(
    backbone, tmp_path, monkeypatch, caplog, others, warnings
):
    found = {"text_perplexity_slots": 10.0, "text_perplexity_codes": 10.0, "text_perplexity_others": others}
    monkeypatch.setattr("cost_hf.quantizers.text_slots.training.text_perplexities", lambda *_args, **_others: found)

    fit_codes(None, slot_options(backbone, epochs=1), output_dir=tmp_path, seed=0, texts=TEXTS)

    assert caplog.text.count(f"10.00 given its own and {others:.2f} given those of another") == warnings


@pytest.mark.trains
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_starts_from_matched_prefixes_in_the_precision_that_is_asked_for(
    backbone, tmp_path, monkeypatch, precision
):
    first = []
    forward = TextSlotsModel.forward

    def watched(self, **batch):
        if not first:
            prefixes = self.prefix(self.embed_texts(TEXTS).view(-1, 3, 8))
            first.append((float(prefixes.detach().square().mean().sqrt()), torch.is_autocast_enabled(self.device.type)))
        return forward(self, **batch)

    monkeypatch.setattr(TextSlotsModel, "forward", watched)

    fitted = fit_codes(None, slot_options(backbone, precision=precision), output_dir=tmp_path, seed=0, texts=TEXTS)

    words = fitted.model.base.get_input_embeddings().weight
    scale, in_bf16 = first[0]
    assert 0.5 < scale / float(words.square().mean().sqrt()) < 2  # untrained prefixes are many times larger
    assert in_bf16 == trains_in_bf16(precision)  # some processors train in fp32 in either case
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in fitted.model.parameters())


@pytest.mark.trains
def test_a_killed_training_resumes_bit_for_bit(backbone, tmp_path, monkeypatch):
    options = slot_options(backbone, epochs=2, contrastive_weight=0.5)  # words of views are dropped at random
    whole = fit_codes(None, options, output_dir=tmp_path / "whole", seed=0, texts=TEXTS)

    def killed(_callback, _args, state, _control, **_others):
        if state.epoch == 1:  # the checkpoint of the first epoch is there
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StepTimes, "on_step_begin", killed)
        fit_codes(None, options, output_dir=tmp_path / "killed", seed=0, texts=TEXTS)
    resumed = fit_codes(None, options, output_dir=tmp_path / "killed", seed=0, texts=TEXTS)

    weights = resumed.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in whole.model.state_dict().items())
    assert np.array_equal(resumed.codes, whole.codes)
    assert [entry["loss"] for entry in resumed.history[:-1]] == [entry["loss"] for entry in whole.history[:-1]]


@pytest.mark.trains
def test_texts_that_fitting_may_not_see_change_no_weight(backbone, tmp_path):
    fit_rows = np.arange(40) < 30

    part = fit_codes(None, slot_options(backbone), output_dir=tmp_path / "part", seed=0, texts=TEXTS, fit_rows=fit_rows)
    alone = fit_codes(None, slot_options(backbone), output_dir=tmp_path / "alone", seed=0, texts=TEXTS[:30])

    assert len(part.codes) == 40
    saved = [load_file(tmp_path / name / "model.safetensors") for name in ("part", "alone")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[1])
    assert part.quantizer_digest == alone.quantizer_digest


def test_another_language_model_under_the_same_name_is_refused(tmp_path):
    model = slot_model(tmp_path / "base")
    model.save_pretrained(tmp_path / "saved")
    causal_backbone(tmp_path / "base", seed=1)

    with pytest.raises(ValueError, match=r"trained on '.*base' with digest \w+, and that model now has \w+; restore"):
        load_quantizer(tmp_path / "saved").encode(["lamp"])


def test_a_language_model_that_is_gone_is_an_error_that_names_it(tmp_path):
    model = slot_model(tmp_path / "base")
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "base").rename(tmp_path / "moved")

    with pytest.raises(OSError, match=r"made by '.*base', which can't be loaded; restore that model, or pass codes"):
        load_quantizer(tmp_path / "saved").encode(["lamp"])


def test_a_released_language_model_is_loaded_with_the_next_text(backbone):
    model = slot_model(backbone)
    before = model.encode(TEXTS[:5])

    model.release_base()

    assert torch.equal(model.encode(TEXTS[:5]), before)


@pytest.mark.parametrize("policy", ["append", "min_cost"])
def test_a_catalog_takes_new_items_by_what_was_read_in_their_texts(backbone, policy):
    model = slot_model(backbone)
    slots = model.embed_texts(TEXTS)
    set_centroids(model, slots, seed=0)
    ids = [f"item-{row:02d}" for row in range(40)]

    catalog = Catalog.from_embeddings(ids[:30], slots[:30], model, collisions=policy)
    grown = catalog.with_embeddings(ids, slots, model)

    assert np.array_equal(grown.codes[:30], catalog.codes) and catalog.has_parallel_levels
    assert policy == "min_cost" or np.array_equal(grown.codes[:, :3], model.encode(TEXTS).numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clustering": "flat"}, r"codes.clustering must be one of parallel, residual, got 'flat'"),
        ({"num_slots": 2}, r"a level for every slot, got codes.num_slots=2 and 3 levels; set codes.num_slots to null"),
        ({"reconstruction_weight": 0.0}, r"one of codes.reconstruction_weight, .* must be above 0, got 0 for all"),
        ({"view_dropout": 1.0}, r"codes.view_dropout is a share between 0 and 1, got 1.0"),
        ({"temperature": 0.0}, r"codes.temperature must be above 0 and finite, got 0.0"),
        ({"slot_dim": 0}, r"codes.slot_dim"),
        ({"precision": "fp16"}, r"codes.precision must be one of auto, fp32, bf16, got 'fp16'"),
    ],
)
def test_options_that_no_run_can_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CodesOptions.of("text_slots", **changes).validate()


def test_language_models_and_layers_that_do_not_fit_are_refused(backbone, tmp_path):
    with pytest.raises(ValueError, match=r"is a t5, and slots stand behind a text in a decoder-only model"):
        untrained_model(slot_options(seq2seq_backbone(tmp_path / "t5")), seed=0)
    with pytest.raises(
        ValueError, match=r"adapter_modules must name linear layers .*, got 'query'; choose from down_proj"
    ):
        untrained_model(slot_options(backbone, adapter_modules=["query"]), seed=0)
    with pytest.raises(
        ValueError, match=r"codes.max_tokens=5000 tokens and 3 slots do not fit into the 2048 positions"
    ):
        untrained_model(slot_options(backbone, max_tokens=5000), seed=0)


def test_items_without_texts_are_refused(backbone, tmp_path):
    options = slot_options(backbone)

    with pytest.raises(ValueError, match=r"reads the texts of 40 items, got texts=None; pass texts="):
        fit_codes(np.ones((40, 2)), options, output_dir=tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"1 of 40 have none, first in row 3: ' '"):
        fit_codes(None, options, output_dir=tmp_path, seed=0, texts=[*TEXTS[:3], " ", *TEXTS[4:]])
    with pytest.raises(ValueError, match=r"expected a list of texts, got the string 'lamp'"):
        slot_model(backbone).encode("lamp")
