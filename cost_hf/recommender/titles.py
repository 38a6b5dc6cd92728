"""What a generator says of items in words: titles, by greedy decoding without a constraint."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.tokenization_utils_base import BatchEncoding

from cost_hf.recommender.recommender import Recommender
from cost_hf.recommender.templates import Conversation, Template
from cost_hf.search.generate_search import NEUTRAL

BATCH = 32


@torch.inference_mode()
def titles_said(
    recommender: Recommender, template: Template, fields: Sequence[dict[str, str]], *, max_tokens: int
) -> list[str]:
    """Return the texts that a generator answers, one a question; an answer ends with the tokenizer's end token.

    Args:
        recommender: with a pretrained generator and its tokenizer.
        template: its question is asked.
        fields: of the question, one entry a question.
        max_tokens: of an answer.
    """
    conversation = conversation_of(recommender)
    answers: list[str] = []
    for start in range(0, len(fields), BATCH):
        prompts = [conversation.encode(template, {"title": "", **entry})[0] for entry in fields[start : start + BATCH]]
        batch = _left_padded(prompts, pad_id=recommender.vocabulary.pad_id).to(recommender.generator.device)
        options: dict[str, Any] = NEUTRAL | {"eos_token_id": recommender.vocabulary.eos_id}
        output = recommender.generator.generate(
            **batch, **options, num_beams=1, max_new_tokens=max_tokens, pad_token_id=recommender.vocabulary.pad_id
        )
        written = (
            output if recommender.generator.config.is_encoder_decoder else output[:, batch["input_ids"].shape[1] :]
        )
        answers += [text.strip() for text in recommender.tokenizer.batch_decode(written, skip_special_tokens=True)]
    return answers


def conversation_of(recommender: Recommender) -> Conversation:
    """Return the token ids of templates under a recommender's tokenizer; raise ValueError where it has none."""
    if recommender.tokenizer is None:
        raise ValueError("a generator from scratch knows no words, and this recommender has no tokenizer; use SIDs")
    is_causal = not recommender.generator.config.is_encoder_decoder
    return Conversation(recommender.tokenizer, recommender.vocabulary, is_causal=is_causal)


def _left_padded(prompts: Sequence[Sequence[int]], *, pad_id: int) -> BatchEncoding:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return BatchEncoding({"input_ids": ids, "attention_mask": mask})
