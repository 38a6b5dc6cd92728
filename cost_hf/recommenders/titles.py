"""Titles of items as a pretrained generator writes them: greedy decoding without a constraint."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cost_hf.generators.collation import left_padded
from cost_hf.generators.templates import PromptEncoder, Template
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.search.generate_search import NEUTRAL

BATCH = 32


@torch.inference_mode()
def generate_titles(
    recommender: GenerativeRecommender,
    prompt_encoder: PromptEncoder,
    template: Template,
    fields: Sequence[Mapping[str, str]],
    *,
    max_tokens: int,
) -> list[str]:
    """Return one generated text per question; it ends with the tokenizer's end token.

    Args:
        recommender: with a pretrained generator.
        prompt_encoder: of `prompt_encoder_of`.
        template: of the question.
        fields: of the template, one mapping per question; the title is not read.
        max_tokens: of an answer.
    """
    generator = recommender.generator
    vocabulary = recommender.vocabulary
    ends: dict[str, Any] = {"eos_token_id": vocabulary.eos_id, "pad_token_id": vocabulary.pad_id}
    answers: list[str] = []
    for start in range(0, len(fields), BATCH):
        prompts = [prompt_encoder.encode(template, entry)[0] for entry in fields[start : start + BATCH]]
        batch = {
            name: part.to(generator.device) for name, part in left_padded(prompts, pad_id=vocabulary.pad_id).items()
        }
        output = generator.generate(**batch, **NEUTRAL | ends, num_beams=1, max_new_tokens=max_tokens)
        prompt_length = batch["input_ids"].shape[1] if prompt_encoder.is_causal else 0
        written = prompt_encoder.tokenizer.batch_decode(output[:, prompt_length:], skip_special_tokens=True)
        answers += [text.strip() for text in written]
    return answers


def prompt_encoder_of(recommender: GenerativeRecommender) -> PromptEncoder:
    """Return the prompt encoder of a recommender's tokenizer; raise ValueError where it has none."""
    if recommender.tokenizer is None:
        raise ValueError("a generator trained from scratch generates no text, and this recommender has no tokenizer")
    is_causal = not recommender.generator.config.is_encoder_decoder
    return PromptEncoder(recommender.tokenizer, recommender.vocabulary, is_causal=is_causal)
