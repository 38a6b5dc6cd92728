"""`custom_generate/generate.py`: a published generator stays inside its catalog without the package."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.search.generate_search import NEUTRAL
from cost_hf.search.logits_processor import SidLogitsProcessor
from tests.near_ties import assert_same_beams, assert_same_list
from tests.recommenders.toys import TOY_IDS, toy_catalog, toy_causal, toy_gpt2, toy_recommender, toy_t5, with_columns

HISTORIES = [["item001"], ["item002", "item003", "item004"], ["item009", "item001"]]
BUILDS = {"llama": toy_causal, "gpt2": toy_gpt2, "t5": toy_t5}


@pytest.fixture(scope="module", params=list(BUILDS))
def pair(request, tmp_path_factory):
    """A recommender, and its generator as transformers loads it from the saved directory; one catalog has columns."""
    system = toy_recommender(build=BUILDS[request.param])
    system = with_columns(system) if request.param == "llama" else system
    return _pair(system, tmp_path_factory.mktemp(request.param))


def _pair(system: GenerativeRecommender, directory) -> tuple:
    system.save_pretrained(directory)
    auto = AutoModelForSeq2SeqLM if system.generator.config.is_encoder_decoder else AutoModelForCausalLM
    return system, auto.from_pretrained(directory, trust_remote_code=True)


def inputs_of(system: GenerativeRecommender) -> dict[str, torch.Tensor]:
    rows = [system.catalog.rows_of(history) for history in HISTORIES]
    longest = max(map(len, rows))
    table = torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])
    return dict(zip(("input_ids", "attention_mask"), system.prompts.inputs(table), strict=True))


def test_beams_and_scores_are_those_of_the_package(pair):
    system, model = pair
    settings = {"num_beams": 6, "num_return_sequences": 6, "return_dict_in_generate": True, "output_scores": True}

    alone = model.generate(**inputs_of(system), **settings)

    processor = SidLogitsProcessor(system.trie, system.vocabulary)
    levels = len(system.vocabulary.level_sizes)
    settings |= NEUTRAL | {"max_new_tokens": levels}
    reference = system.generator.generate(**inputs_of(system), **settings, logits_processor=[processor])
    beams = [(output.sequences[:, -levels:], output.sequences_scores) for output in (alone, reference)]
    assert_same_beams(*beams, width=6)


@pytest.mark.parametrize("excludes", [False, True])
def test_histories_of_item_ids_give_the_items_of_recommend(pair, excludes):
    system, model = pair

    answers = model.generate(histories=HISTORIES, num_beams=8, exclude_seen=excludes, return_items=True)

    expected = system.recommend(HISTORIES, top_k=8, exclude_seen=excludes)
    for found, wanted in zip(answers, expected, strict=True):
        assert_same_list(found, wanted)


def test_histories_are_lists_of_lists_of_ids(pair):
    _, model = pair

    for wrong, message in (
        (["item001", "item002"], "every history must be a list .* got 'item001'"),
        ("item001", "histories must be a list .* got 'item001'"),
        ([{"item001"}], "every history must be a list"),
        ([["item001", None]], r"expected items of the catalog, got \[None\]"),
        ([[1.0]], r"expected items of the catalog, got \[1.0\]"),
        ([[7]], r"expected items of the catalog, got \['7'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(histories=wrong, num_beams=4)
    frame = pd.DataFrame({"item_id": ["item002", "item001"]}, index=[1, 0])
    options = {"num_beams": 4, "return_items": True}
    assert model.generate(histories=[frame["item_id"]], **options) == model.generate(
        histories=[["item002", "item001"]], **options
    )


def test_prompts_may_be_positional_and_calls_are_stateless(pair):
    system, model = pair
    inputs = inputs_of(system)

    first = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=4)
    model.generate(histories=[["item019"]], exclude_seen=True)

    assert torch.equal(first, model.generate(**inputs, num_beams=4))


def test_more_beams_than_items_give_every_item_once(pair):
    _, model = pair

    answers = model.generate(histories=HISTORIES[:1], num_beams=30, return_items=True)

    assert sorted(item for item, _ in answers[0]) == TOY_IDS


def test_sampling_stays_inside_the_catalog(pair):
    system, model = pair
    torch.manual_seed(0)

    tokens = model.generate(**inputs_of(system), do_sample=True, num_return_sequences=20, temperature=5.0)

    codes = system.vocabulary.decode(tokens[:, -len(system.vocabulary.level_sizes) :])
    assert (system.trie.prefix(codes) >= 0).all()


def test_a_model_loaded_without_trust_is_constrained_by_an_argument_of_generate(pair):
    _, model = pair
    directory = model.config._name_or_path
    plain = type(model).from_pretrained(directory)

    answers = plain.generate(
        histories=HISTORIES, num_beams=4, return_items=True, custom_generate=directory, trust_remote_code=True
    )

    assert answers == model.generate(histories=HISTORIES, num_beams=4, return_items=True)


def test_removed_items_are_never_generated_and_an_update_is_seen_at_once(tmp_path):
    system, model = _pair(toy_recommender(), tmp_path)
    best = model.generate(histories=HISTORIES[:1], num_beams=4, return_items=True)[0][0][0]

    system.remove_items([best])
    system.save_catalog(tmp_path)
    answers = model.generate(histories=HISTORIES[:1], num_beams=30, return_items=True)[0]

    assert sorted(item for item, _ in answers) == sorted(set(TOY_IDS) - {best})


def test_items_that_share_a_sid_come_together_and_only_the_seen_one_leaves(tmp_path):
    codes = np.array([[0, 0], [0, 0], [1, 2], [2, 1]])
    catalog = toy_catalog(4, (3, 3), collisions="none")
    catalog = type(catalog).from_codes(
        list("abcd"), codes, level_sizes=(3, 3), collisions="none", quantizer_digest="toy"
    )
    _, model = _pair(toy_recommender(catalog, popularity=np.arange(4)), tmp_path)

    answers = model.generate(histories=[["a"]], num_beams=4, exclude_seen=True, return_items=True)[0]

    assert sorted(item for item, _ in answers) == ["b", "c", "d"]


def test_a_history_of_all_items_leaves_nothing(pair):
    _, model = pair

    answers = model.generate(histories=[TOY_IDS, TOY_IDS[:1]], num_beams=3, exclude_seen=True, return_items=True)

    assert answers[0] == [] and len(answers[1]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"histories": [["gone"]]}, "expected items of the catalog, got \\['gone'\\]"),
        ({"histories": [[]]}, "got 'an empty history'|got an empty history"),
        ({"exclude_seen": True}, "needs histories of item ids"),
    ],
)
def test_what_it_cannot_answer_is_refused(pair, arguments, message):
    system, model = pair

    with pytest.raises(ValueError, match=message):
        model.generate(**arguments, **({} if "histories" in arguments else inputs_of(system)))


def test_a_prompt_that_breaks_off_inside_no_sid_is_refused(tmp_path):
    system, model = _pair(toy_recommender(), tmp_path)
    held = {tuple(codes) for codes in system.catalog.codes[:, :2].tolist()}
    free = next((a, b) for a in range(4) for b in range(5) if (a, b) not in held)
    tokens = system.vocabulary.encode(torch.tensor([free]))

    with pytest.raises(ValueError, match="no SID begins with the codes"):
        model.generate(torch.cat([torch.tensor([[system.vocabulary.begin_id]]), tokens], 1), num_beams=2)
