import pytest
import torch

from cost_hf.search.beam_search import beam_search, beam_widths, descend, make_prompt
from cost_hf.search.beam_steps import LevelHead
from cost_hf.search.cached_decoders import decoding_steps
from cost_hf.search.captured_search import CapturedSearch
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from tests.near_ties import assert_same_rows
from tests.search.searches import MODELS, parts

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("model_name", MODELS)
@torch.inference_mode()
def test_steps_resumed_from_what_the_prompts_left_search_alike(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    inputs = prompts.inputs(histories)
    expected = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)
    steps = decoding_steps(generator, make_prompt(*inputs), beam_widths(trie, 6))
    head = LevelHead(generator, vocabulary, normalization="vocabulary")
    buffers = [part.clone() for part in steps.prompt_tensors()]

    for _ in range(2):  # the buffers stay as they are
        beams = descend(steps.resumed(buffers), head, trie, vocabulary, 6, mask=None, level_inputs=None)
        assert_same_rows((beams.nodes, beams.scores), (trie.prefix(expected.codes), expected.scores))
        torch.testing.assert_close(beams.pruned, expected.certificate.bound, rtol=1e-4, atol=1e-4)


def test_a_model_on_the_cpu_is_sent_to_the_plain_search():
    _, vocabulary, generator, _, _, trie = parts("t5")

    with pytest.raises(ValueError, match=r"on CUDA, got T5ForConditionalGeneration on cpu; use beam_search"):
        CapturedSearch(generator, trie=trie, vocabulary=vocabulary)


@needs_cuda
@pytest.mark.parametrize("model_name", MODELS)
def test_replays_equal_searches_for_every_shape(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name, batch=4)
    generator = generator.to("cuda")
    search = CapturedSearch(generator, trie=trie, vocabulary=vocabulary, num_beams=6)

    for lines in (histories, histories[:2], histories.flip(0), histories):
        inputs = [part.to("cuda") for part in prompts.inputs(lines)]
        expected = beam_search(generator, *inputs, trie=trie, vocabulary=vocabulary, num_beams=6)
        found = search(*inputs)
        assert_same_rows((found.items, found.scores), (expected.items, expected.scores))
        torch.testing.assert_close(found.certificate.bound, expected.certificate.bound, rtol=1e-4, atol=1e-4)


@needs_cuda
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("model_name", MODELS)
def test_cuda_finds_what_the_cpu_finds(model_name, exact):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name)
    inputs = prompts.inputs(histories)
    stock = torch.rand(len(catalog), generator=torch.Generator().manual_seed(0)) < 0.7
    mask = CatalogMask(len(catalog), stock).without(histories)
    options = {"vocabulary": vocabulary, "num_beams": 6, "mask": mask, "exact": exact}
    expected = beam_search(generator, *inputs, trie=trie, **options)

    found = beam_search(generator.to("cuda"), *[part.to("cuda") for part in inputs], trie=trie, **options)

    assert_same_rows((found.items.cpu(), found.scores.cpu()), (expected.items, expected.scores), tolerance=1e-2)
    torch.testing.assert_close(found.certificate.bound.cpu(), expected.certificate.bound, rtol=1e-2, atol=1e-2)
