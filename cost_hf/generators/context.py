"""What fits into a backbone's context: told in numbers before training, or cut to the most recent items."""

import logging

from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def context_of(model: PreTrainedModel) -> int | None:
    """Return the positions that a decoder-only model has; None for one without a limit."""
    config = model.config
    return None if config.is_encoder_decoder else getattr(config, "max_position_embeddings", None)


def fitting_items(
    wanted: int, *, words: int, item: int, answer: int, context: int | None, overflow: str, what: str = "prompt"
) -> int:
    """Return how many items of a history fit into a context beside the words and the answer.

    Args:
        wanted: items, at most; 0 for a question without a history.
        words: tokens that every such question has.
        item: tokens that each item adds.
        answer: tokens of the answer.
        context: positions of the model; None has no limit.
        overflow: `error`, or `drop_oldest` to keep the most recent items that fit.
        what: is asked, for messages.

    Raises:
        ValueError: where they do not fit, with the numbers.
    """
    needed = words + item * wanted + answer
    if context is None or needed <= context:
        return wanted
    fits = (context - words - answer) // item if item else 0
    if fits < 1 or overflow == "error":
        remedy = (
            f"allow {fits} items (generator.max_history, tasks.max_titles), or set generator.overflow to drop_oldest"
            if fits >= 1
            else "take shorter words (generator.prompt, tasks.templates, max_title_tokens, max_text_tokens), or a "
            "backbone with a longer context"
        )
        raise ValueError(
            f"a {what} of {wanted} items takes {needed} tokens ({words} of words, {item} an item, {answer} for the "
            f"answer), the backbone has a context of {context}; {remedy}"
        )
    logger.warning("a %s keeps its %d most recent items, not %d: the context is %d", what, fits, wanted, context)
    return fits
