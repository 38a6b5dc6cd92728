import logging
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention

from cost_hf.search import beam_search as search_module
from cost_hf.search.beam_search import beam_search
from cost_hf.search.beam_steps import LevelHead
from cost_hf.search.cached_decoders import CAUSAL_TYPES, decoder_class, unsupported_reason
from cost_hf.search.captured_search import CapturedSearch
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.search.logits_processor import SidLogitsProcessor
from cost_hf.search.protocol import last_states
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from tests.near_ties import assert_same_rows
from tests.recommenders.toys import toy_causal, toy_decoder, toy_t5
from tests.search.searches import assert_equals_generate, assert_exact_equals_whole, parts, with_lora

STOCK = {"t5": T5ForConditionalGeneration, "llama": LlamaForCausalLM}
WIDTH = 16


def built(kind, vocabulary, seed=0):
    """A model of a class of ours with the weights of the stock toy where it has them."""
    stock = (toy_causal if issubclass(kind, LlamaForCausalLM) else toy_t5)(vocabulary, seed)
    torch.manual_seed(seed + 1)
    model = kind(stock.config)
    model.load_state_dict(stock.state_dict(), strict=False)
    model.generation_config = stock.generation_config
    return model.eval()


def toys(kind, **options):
    name = "llama" if issubclass(kind, LlamaForCausalLM) else "t5"
    return parts(name, generator=lambda vocabulary: built(kind, vocabulary), **options)


class ExtraHead:
    """A dense head beside the stock model; nothing of decoding changes."""

    def __init__(self, config):
        super().__init__(config)
        self.dense = nn.Linear(WIDTH, 4)
        self.post_init()

    def dense_loss(self, states):
        return self.dense(states).pow(2).mean()


class ExtraLoss(ExtraHead):
    """Overrides forward for the sake of a loss, and declares it."""

    decodes_like_base = True

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        if output.loss is not None:
            output.loss = output.loss + self.dense.weight.pow(2).mean()
        return output


class ShiftedLogits:
    """Overrides forward, and decodes otherwise."""

    def forward(self, input_ids=None, encoder_outputs=None, **kwargs):  # generate() looks for these two by name
        kwargs |= {} if encoder_outputs is None else {"encoder_outputs": encoder_outputs}
        output = super().forward(input_ids=input_ids, **kwargs)
        output.logits = output.logits + torch.arange(output.logits.shape[-1]).remainder(5)
        return output


class ItemFeatures:
    """Adds a vector of its item to the embedding of every prompt token."""

    def __init__(self, config):
        super().__init__(config)
        self.features = nn.Embedding(50, WIDTH)
        nn.init.normal_(self.features.weight, std=0.5)

    def embed_prompt(self, input_ids, attention_mask, item_rows):
        return self.get_input_embeddings()(input_ids) + self.features(item_rows) * attention_mask[..., None]


class LevelFeatures:
    """Adds a vector that depends on level and codes to what enters the decoder."""

    def __init__(self, config):
        super().__init__(config)
        self.features = nn.Embedding(50, WIDTH)
        nn.init.normal_(self.features.weight, std=0.5)

    def level_inputs(self, level, codes):
        if level == 0:
            return self.features(torch.zeros(codes.shape[:2], dtype=torch.long))
        return self.features(level + codes.sum(-1))


class ScaledCrossAttention(T5LayerCrossAttention):
    """Adds the states, scaled by what a beam has, to the attention to the prompt."""

    decodes_like_base = True

    def mix(self, normed, attended, context):
        return attended + normed * context

    def forward(self, hidden_states, key_value_states, context=None, **kwargs):
        hidden, *rest = super().forward(hidden_states, key_value_states, **kwargs)
        return (hidden if context is None else hidden + self.layer_norm(hidden_states) * context, *rest)


class ReadsBeams(T5ForConditionalGeneration):
    """A T5 whose cross-attention layers read the codes of a beam and an argument of the request."""

    decodes_like_base = True
    layer_class = ScaledCrossAttention

    def __init__(self, config):
        super().__init__(config)
        for place, block in enumerate(self.decoder.block):
            block.layer[1] = self.layer_class(self.decoder.config, layer_idx=place)
        self.post_init()

    def beam_inputs(self, level, codes, scale=None):
        return None if level == 0 or scale is None else codes.sum(-1, keepdim=True) * scale

    def cross_context(self, inputs):
        return inputs

    def embed_prompt(self, input_ids, attention_mask, scale=None):
        return self.shared(input_ids)

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class Undeclared(ScaledCrossAttention):
    """A cross-attention layer that declares nothing."""


class DenseRerank:
    """Orders beams by their items' vectors against the state at the end of the prompt."""

    def __init__(self, config):
        super().__init__(config)
        self.vectors = nn.Embedding(50, WIDTH)

    def rerank_beams(self, output, *, attention_mask, mask):
        user = last_states(output.prompt_states, attention_mask)
        scores = torch.einsum("bd,brd->br", user, self.vectors(output.items.clamp_min(0)))
        scores, order = scores.masked_fill(output.items < 0, -torch.inf).sort(dim=1, descending=True)
        codes = output.codes.gather(1, order[..., None].expand_as(output.codes))
        return replace(output, items=output.items.gather(1, order), scores=scores, codes=codes)


def of(mixin):
    """The mixin on both stock classes, by the name of the toy."""
    return {name: type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {}) for name, kind in STOCK.items()}


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("mixin", [ExtraHead, ExtraLoss])
def test_a_subclass_that_decodes_like_its_base_keeps_cached_decoding(mixin, name):
    _, vocabulary, generator, prompts, histories, trie = toys(of(mixin)[name])
    stock = (toy_causal if name == "llama" else toy_t5)(vocabulary)
    inputs = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6}

    found, expected = beam_search(generator, *inputs, **options), beam_search(stock, *inputs, **options)

    assert unsupported_reason(generator) is None
    assert torch.equal(found.items, expected.items) and torch.equal(found.scores, expected.scores)
    assert_equals_generate(generator, vocabulary, trie, inputs)


@pytest.mark.parametrize("name", STOCK)
def test_adapters_in_a_subclass_count(name):
    _, vocabulary, generator, prompts, histories, trie = toys(of(ExtraLoss)[name])
    adapted = with_lora(generator, name)

    assert unsupported_reason(adapted) is None
    assert_equals_generate(adapted, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("model_type", sorted(set(CAUSAL_TYPES) - {"gpt2"}))
def test_every_known_decoder_may_be_extended(model_type):
    options = {"sliding_window": None} if model_type == "mistral" else {}

    def own(vocabulary):
        stock = toy_decoder(model_type, vocabulary, **options)
        stock.__class__ = type("Own", (type(stock),), {"extra": lambda self: None})
        return stock

    _, vocabulary, generator, prompts, histories, trie = parts("llama", generator=own)

    assert unsupported_reason(generator) is None
    assert decoder_class(generator) is type(generator).__mro__[1]
    assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))


@pytest.mark.parametrize("name", STOCK)
def test_a_subclass_that_overrides_forward_without_declaring_goes_through_generate_with_one_warning(name, caplog):
    _, vocabulary, generator, prompts, histories, trie = toys(of(ShiftedLogits)[name])
    search_module._warn_once.cache_clear()

    with caplog.at_level(logging.WARNING, logger="cost_hf"):
        for _ in range(2):
            assert_equals_generate(generator, vocabulary, trie, prompts.inputs(histories))

    warnings = [record.message for record in caplog.records if "searches by generate()" in record.message]
    assert len(warnings) == 1
    assert "ShiftedLogits overrides forward" in warnings[0] and "decodes_like_base = True" in warnings[0]
    with pytest.raises(ValueError, match=r"score_catalog needs cached decoding.*ShiftedLogits overrides forward"):
        score_catalog(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)


@pytest.mark.parametrize("name", STOCK)
def test_the_declaration_holds_for_the_class_that_makes_it_alone(name):
    declared = of(ExtraLoss)[name]
    further = type("Further", (ShiftedLogits, declared), {})
    silent = type("Silent", (declared,), {})
    other = type("Other", (STOCK[name],), {"prepare_inputs_for_generation": lambda self, *args, **kwargs: {}})
    _, vocabulary, generator, _, _, _ = toys(declared)

    assert unsupported_reason(generator) is None
    assert unsupported_reason(built(silent, vocabulary)) is None
    assert "ShiftedLogits overrides forward" in unsupported_reason(built(further, vocabulary))
    assert "Other overrides prepare_inputs_for_generation" in unsupported_reason(built(other, vocabulary))


@pytest.mark.parametrize("name", STOCK)
def test_a_models_own_embedding_of_prompts_equals_generate_on_embedded_prompts(name):
    _, vocabulary, generator, prompts, histories, trie = toys(of(ItemFeatures)[name])
    input_ids, attention_mask = prompts.inputs(histories)
    rows = {"item_rows": input_ids.remainder(50)}  # a number for every token, as a collator would give it
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6}
    with torch.no_grad():
        embeds = generator.embed_prompt(input_ids, attention_mask, **rows)
    given = {"inputs_embeds": embeds, "attention_mask": attention_mask}
    if name == "t5":
        given = {"encoder_outputs": generator.encoder(**given), "attention_mask": attention_mask}
    output = generator.generate(
        **given,
        num_beams=6,
        num_return_sequences=6,
        max_new_tokens=len(vocabulary.level_sizes),
        eos_token_id=None,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        logits_processor=[SidLogitsProcessor(trie, vocabulary)],
    )
    plain = beam_search((toy_causal if name == "llama" else toy_t5)(vocabulary), input_ids, attention_mask, **options)

    found = beam_search(generator, input_ids, attention_mask, model_kwargs=rows, **options)

    assert unsupported_reason(generator) is None
    assert (found.scores - plain.scores).abs().max() > 1e-2
    torch.testing.assert_close(found.scores, output.sequences_scores.view(3, 6), rtol=1e-5, atol=1e-5)
    again = beam_search(generator, inputs_embeds=embeds, attention_mask=attention_mask, **options)
    assert_same_rows((found.items, found.scores), (again.items, again.scores))
    assert_exact_equals_whole(generator, vocabulary, trie, (input_ids, attention_mask), model_kwargs=rows)


@pytest.mark.parametrize("name", STOCK)
def test_the_fallback_embeds_prompts_alike(name, monkeypatch):
    _, vocabulary, generator, prompts, histories, trie = toys(of(ItemFeatures)[name])
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6, "output_prompt_states": True}
    options["model_kwargs"] = {"item_rows": input_ids.remainder(50)}
    expected = beam_search(generator, input_ids, attention_mask, **options)

    monkeypatch.setattr("cost_hf.search.beam_search.unsupported_reason", lambda model: "a test")
    found = beam_search(generator, input_ids, attention_mask, **options)

    assert_same_rows((found.items, found.scores), (expected.items, expected.scores))
    is_token = attention_mask.bool()
    torch.testing.assert_close(found.prompt_states[is_token], expected.prompt_states[is_token], rtol=1e-5, atol=1e-5)


def explicit_scores(generator, prompts, histories, vocabulary, catalog):
    """Log-probability of every item under `level_inputs`, one pass of the stock forward each: `[B, N]`."""
    scores = torch.empty(len(histories), len(catalog))
    for line, history in enumerate(histories):
        input_ids, attention_mask = prompts.inputs(history[history >= 0][None])
        for row in range(len(catalog)):
            tokens, codes = prompts.item_tokens[row], torch.tensor(catalog.codes[row])[None, None]
            added = [generator.level_inputs(level, codes[..., :level])[0] for level in range(len(tokens))]
            start = torch.tensor([vocabulary.pad_id])
            if generator.config.is_encoder_decoder:
                embeds = generator.get_input_embeddings()(torch.cat([start, tokens[:-1]])) + torch.cat(added)
                logits = generator(
                    input_ids=input_ids, attention_mask=attention_mask, decoder_inputs_embeds=embeds[None]
                ).logits[0]
            else:
                embeds = generator.get_input_embeddings()(torch.cat([input_ids[0], tokens[:-1]]))
                embeds = torch.cat([embeds[: len(input_ids[0])], embeds[len(input_ids[0]) :] + torch.cat(added[1:])])
                logits = generator(inputs_embeds=embeds[None]).logits[0, len(input_ids[0]) - 1 :]
            scores[line, row] = logits.log_softmax(-1).gather(1, tokens[:, None]).sum()
    return scores


@pytest.mark.parametrize("name", STOCK)
@torch.no_grad()
def test_a_models_own_level_inputs_give_the_scores_of_its_forward_pass(name):
    catalog, vocabulary, generator, prompts, histories, trie = toys(of(LevelFeatures)[name], items=12)
    inputs = prompts.inputs(histories)
    expected = explicit_scores(generator, prompts, histories, vocabulary, catalog)

    scores = score_catalog(generator, *inputs, trie=trie, vocabulary=vocabulary)
    found = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=12)
    replaced = beam_search(
        generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=12, level_inputs=lambda level, codes: None
    )

    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-5, atol=1e-4)
    assert (found.scores.diff(dim=1) <= 0).all() and (found.items.sort(1).values == torch.arange(12)).all()
    stock = (toy_causal if name == "llama" else toy_t5)(vocabulary)
    plain = beam_search(stock, *inputs, trie=trie, vocabulary=vocabulary, num_beams=12)
    assert torch.equal(replaced.scores, plain.scores)
    assert_exact_equals_whole(generator, vocabulary, trie, inputs, num_beams=4)


@torch.no_grad()
def test_cross_attention_layers_read_what_their_own_beam_has():
    catalog, vocabulary, generator, prompts, histories, trie = toys(ReadsBeams, items=12)
    inputs = prompts.inputs(histories)
    scale = torch.linspace(-0.2, 0.3, len(histories))[:, None, None]
    options = {"trie": trie, "vocabulary": vocabulary}
    request = {"model_kwargs": {"scale": scale}}
    expected = torch.empty(len(histories), len(catalog))
    for row in range(len(catalog)):
        codes = torch.tensor(catalog.codes[row].copy()).expand(len(histories), -1)
        labels = vocabulary.encode(codes)
        before = torch.cat([torch.zeros_like(codes[:, :1]), codes[:, :-1].cumsum(1)], 1)[..., None]
        encoded = generator.encoder(input_ids=inputs[0], attention_mask=inputs[1])
        output = generator(encoder_outputs=encoded, attention_mask=inputs[1], labels=labels, context=before * scale)
        expected[:, row] = output.logits.log_softmax(-1).gather(2, labels[..., None]).sum((1, 2))

    scores = score_catalog(generator, *inputs, **options, **request)
    found = beam_search(generator, *inputs, num_beams=12, **options, **request)
    exact = beam_search(generator, *inputs, num_beams=3, exact=True, **options, **request)
    plain = beam_search(generator, *inputs, num_beams=12, **options)

    assert unsupported_reason(generator) is None
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(exact.scores, expected.topk(3, 1).values, rtol=1e-5, atol=1e-4)
    assert torch.equal(plain.scores, beam_search(toy_t5(vocabulary), *inputs, num_beams=12, **options).scores)
    with pytest.raises(ValueError, match="may depend on more than a recorded graph can see"):
        CapturedSearch(generator, **options)


def test_a_cross_attention_layer_that_declares_nothing_is_not_known():
    kind = type("Other", (ReadsBeams,), {"layer_class": Undeclared})
    _, _, generator, *_ = toys(kind)

    assert unsupported_reason(generator) == (
        "Undeclared in the decoder is not that of T5ForConditionalGeneration, or has hooks"
    )


def test_level_inputs_need_cached_decoding():
    kind = type("Both", (ShiftedLogits, LevelFeatures, T5ForConditionalGeneration), {})
    _, vocabulary, generator, prompts, histories, trie = toys(kind)

    with pytest.raises(ValueError, match=r"level_inputs .* need cached decoding.*ShiftedLogits overrides forward"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)
    generator = built(of(LevelFeatures)["llama"], vocabulary)
    with pytest.raises(ValueError, match="level_inputs may depend on more than a recorded graph can see"):
        CapturedSearch(generator, trie=trie, vocabulary=vocabulary)


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("name", STOCK)
@torch.no_grad()
def test_a_models_own_order_of_the_beams_is_returned(name, is_cached, monkeypatch):
    catalog, vocabulary, generator, prompts, histories, trie = toys(of(DenseRerank)[name])
    inputs = prompts.inputs(histories)
    mask = CatalogMask(len(catalog), torch.arange(len(catalog)) < 30)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6, "mask": mask}
    stock = (toy_causal if name == "llama" else toy_t5)(vocabulary)
    beams = beam_search(stock, *inputs, output_prompt_states=True, **options)
    user = last_states(beams.prompt_states, inputs[1])
    expected = torch.einsum("bd,brd->br", user, generator.vectors(beams.items))
    if not is_cached:
        monkeypatch.setattr("cost_hf.search.beam_search.unsupported_reason", lambda model: "a test")

    found = beam_search(generator, *inputs, **options)

    order = expected.argsort(dim=1, descending=True)
    torch.testing.assert_close(found.scores, expected.gather(1, order), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.items, beams.items.gather(1, order))
    assert torch.equal(trie.leaf_rows(trie.prefix(found.codes).flatten())[0][:, 0].view(3, 6), found.items)
    assert found.prompt_states is None
    assert beams.certificate is not None and found.certificate is None


@pytest.mark.parametrize("name", STOCK)
def test_beams_in_a_models_own_order_prove_nothing(name):
    _, vocabulary, generator, prompts, histories, trie = toys(of(DenseRerank)[name])

    with pytest.raises(ValueError, match=r"exact=True proves .* DenseRerank\w+\.rerank_beams gives other scores"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, exact=True)


def test_a_wrong_return_of_a_models_own_part_is_named():
    wrong = type(
        "Wrong", (T5ForConditionalGeneration,), {"embed_prompt": lambda self, ids, mask: torch.zeros(1, 1, 16)}
    )
    _, vocabulary, generator, prompts, histories, trie = toys(wrong)
    with pytest.raises(ValueError, match=r"Wrong.embed_prompt must return \[B, S, d\] for prompts"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)

    wrong = type("Wrong", (T5ForConditionalGeneration,), {"rerank_beams": lambda self, *args, **kwargs: None})
    _, vocabulary, generator, prompts, histories, trie = toys(wrong)
    with pytest.raises(ValueError, match=r"Wrong.rerank_beams must return a BeamOutput of 3 requests, got None"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary)


@pytest.mark.parametrize("name", STOCK)
@torch.no_grad()
def test_prompt_states_are_those_of_the_stock_forward(name):
    _, vocabulary, generator, prompts, histories, trie = parts(name)
    input_ids, attention_mask = prompts.inputs(histories)

    found = beam_search(
        generator, input_ids, attention_mask, trie=trie, vocabulary=vocabulary, output_prompt_states=True
    )

    for line in range(len(histories)):  # one at a time, without padding
        ids = input_ids[line][attention_mask[line].bool()][None]
        part = generator.encoder if name == "t5" else generator.model
        expected = part(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(
            found.prompt_states[line][attention_mask[line].bool()], expected, rtol=1e-4, atol=1e-4
        )
        states = last_states(found.prompt_states, attention_mask)
        torch.testing.assert_close(states[line], expected[-1], rtol=1e-4, atol=1e-4)


def test_last_states_take_padding_on_either_side():
    states = torch.arange(8.0).view(2, 4, 1)
    left, right = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])

    assert last_states(states, left).flatten().tolist() == [3, 7]
    assert last_states(states, right).flatten().tolist() == [1, 4]


class PlainRecording:
    """What a recorded graph computes, without one: CPUs have none."""

    def __init__(self, owner, steps, tensors):
        self.owner, self.steps = owner, steps

    def replay(self, tensors):
        return self.owner.search(self.steps.resumed([part.clone() for part in tensors]))


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("mixin", [ItemFeatures, DenseRerank])
def test_a_captured_search_uses_the_parts_of_a_model_around_its_graph(mixin, name, monkeypatch):
    _, vocabulary, generator, prompts, histories, trie = toys(of(mixin)[name])
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"model_kwargs": {"item_rows": input_ids.remainder(50)} if mixin is ItemFeatures else None}
    expected = beam_search(
        generator,
        input_ids,
        attention_mask,
        trie=trie,
        vocabulary=vocabulary,
        num_beams=6,
        output_prompt_states=True,
        **options,
    )
    monkeypatch.setattr("cost_hf.search.captured_search._Recording", PlainRecording)
    search = object.__new__(CapturedSearch)  # its constructor asks for CUDA
    search.__dict__ |= {"model": generator, "num_beams": 6, "trie": trie, "vocabulary": vocabulary, "_recordings": {}}
    search.head = LevelHead(generator, vocabulary, normalization="vocabulary")

    found = search(input_ids, attention_mask, output_prompt_states=True, **options)

    assert_same_rows((found.items, found.scores), (expected.items, expected.scores))
    torch.testing.assert_close(found.prompt_states, expected.prompt_states)
    assert search(input_ids, attention_mask, **options).prompt_states is None
