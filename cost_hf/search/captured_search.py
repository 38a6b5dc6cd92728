"""Beam search on CUDA whose level steps are recorded once per shape and replayed as one graph.

A search of short answers launches hundreds of small kernels, and the host takes longer to launch them than the device
to run them. Prompts run as usual; everything after them is one replay.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.search.beam_output import BeamOutput
from cost_hf.search.beam_search import (
    beam_widths,
    descend,
    embedded_prompt,
    listed_items,
    make_prompt,
    own_level_inputs,
    reranked,
)
from cost_hf.search.beam_steps import DecodingSteps, LevelHead
from cost_hf.search.cached_decoders import base_model, decoding_steps, unsupported_reason
from cost_hf.search.logits_processor import check_sizes
from cost_hf.semantic_ids.options import ranked_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

WARM_UPS = 3  # libraries choose kernels and allocate in their first calls, which must not be recorded


class CapturedSearch:
    """`beam_search` without masks for a serving loop on CUDA: same answers, one graph for each shape of the prompts.

    Pad prompts to a few lengths and batch sizes: every new shape costs a recording and its memory. Weights may change
    in place between calls, the trie may not.

    Args:
        generator: in eval mode, on CUDA.
        trie: the legal SIDs.
        vocabulary: their token ids.
        num_beams: as for `beam_search`.
        normalization: as for `beam_search`.

    Raises:
        ValueError: for a model without cached decoding, with `level_inputs` of its own, or on another device.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        *,
        trie: SidTrie,
        vocabulary: SidVocabulary,
        num_beams: int = 20,
        normalization: str = "vocabulary",
    ):
        reason = unsupported_reason(generator)
        if reason is None and own_level_inputs(generator) is not None:
            reason = "its level_inputs may depend on more than a recorded graph can see"
        if reason is not None or generator.device.type != "cuda":
            raise ValueError(
                f"CapturedSearch needs a model with cached decoding on CUDA, got {type(generator).__name__} on "
                f"{generator.device}{'' if reason is None else f' ({reason})'}; use beam_search"
            )
        check_sizes(trie, vocabulary)
        self.model = base_model(generator)
        self.num_beams = ranked_number(num_beams, "num_beams", trie.num_items)
        self.trie = trie.to(generator.device)
        self.vocabulary = vocabulary
        self.head = LevelHead(self.model, vocabulary, normalization=normalization)
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        output_prompt_states: bool = False,
    ) -> BeamOutput:
        """Return what `beam_search` returns for prompts `[B, S]`, with the same arguments."""
        prompt = make_prompt(input_ids, attention_mask, model_kwargs=model_kwargs)
        prompt = embedded_prompt(self.model, prompt)
        steps = decoding_steps(self.model, prompt, beam_widths(self.trie, self.num_beams))
        tensors = steps.prompt_tensors()
        shapes = tuple(part.shape for part in tensors)
        if shapes not in self._recordings:
            self._recordings[shapes] = _Recording(self, steps, tensors)
        found = replace(self._recordings[shapes].replay(tensors), prompt_states=steps.prompt_states)
        found = reranked(self.model, found, prompt, mask=None)
        return found if output_prompt_states else replace(found, prompt_states=None)

    def search(self, steps: DecodingSteps) -> BeamOutput:
        """Search from encoded prompts."""
        beams = descend(steps, self.head, self.trie, self.vocabulary, self.num_beams, mask=None, level_inputs=None)
        return listed_items(self.trie, beams, num_beams=self.num_beams, mask=None)


class _Recording:
    """The graph of one shape, the buffers that it reads and the tensors that it writes."""

    def __init__(self, owner: CapturedSearch, steps: DecodingSteps, tensors: list[Tensor]):
        self.inputs = [part.clone() for part in tensors]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                owner.search(steps.resumed(self.inputs))
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = owner.search(steps.resumed(self.inputs))

    def replay(self, tensors: list[Tensor]) -> BeamOutput:
        for buffer, part in zip(self.inputs, tensors, strict=True):
            buffer.copy_(part)
        self.graph.replay()
        certificate = None if self.output.certificate is None else self.output.certificate.clone()
        return BeamOutput(
            self.output.items.clone(), self.output.scores.clone(), self.output.codes.clone(), certificate=certificate
        )
