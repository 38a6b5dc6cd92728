"""What the generator of a method may define so that the search runs it; every part is optional.

`beam_search` has cached decoders for T5, mT5, UMT5 and the decoder-only models of `cached_decoders.CAUSAL_TYPES`. A
subclass of one of them keeps this speed where it overrides nothing that decoding depends on (`forward`, the getters of
encoder, decoder and embeddings, the methods of `generate()`): an additional head or a `loss` function of its own needs
no declaration. A class that overrides `forward`, for example to add a loss, declares in its own body that decoding is
that of its base class:

    class TwoHeads(T5ForConditionalGeneration):
        decodes_like_base = True

        def forward(self, input_ids=None, labels=None, item_rows=None, **kwargs):
            ...

The declaration holds for the class that makes it. A further subclass that overrides `forward` declares again. Without a
declaration the search falls back to `generate()`, which is several times slower, and a warning says so once.

The other parts are methods that the search calls where a model has them:

- `EmbedsPrompts.embed_prompt` replaces the embedding of the prompt tokens,
- `AddsLevelInputs.level_inputs` adds to the embeddings that enter the decoder at a level,
- `MixesCrossAttention.beam_inputs` gives the cross-attention layers of a T5 what they read of a beam beside the prompt,
- `ReranksBeams.rerank_beams` reorders or replaces the beams at the end.

`beam_search` uses all of them. Lists that a model reranked have no certificate, and `exact=True` refuses such a model:
its scores are no sums along the paths of items. `score_catalog` uses the first two: it returns what the generator
itself gives every item, as it uses the third. `CapturedSearch` uses the first and the last, and refuses a model with
`level_inputs` or `beam_inputs`, which may depend on more than a recorded graph can see. `leaf_search` uses the first,
and refuses such models as well. `generate()` itself and `custom_generate` know none of them.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from cost_hf.search.beam_output import BeamOutput
from cost_hf.semantic_ids.catalog_mask import CatalogMask

LevelInputs = Callable[[int, Tensor], Tensor | None]


class DecodesLikeBase(Protocol):
    """A class that overrides methods of the forward pass and still decodes as its base class does.

    Logits of the decoder must then be those of the base class for the same embedded prompt and the same tokens.
    """

    decodes_like_base: ClassVar[bool]


@runtime_checkable
class EmbedsPrompts(Protocol):
    """A model that embeds its prompts itself, for example with item features added to the tokens' embeddings."""

    def embed_prompt(self, input_ids: Tensor, attention_mask: Tensor, **model_kwargs: Any) -> Tensor:
        """Return the embedded prompts, `[B, S, d]`; called where `input_ids` are given and not `inputs_embeds`.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
            model_kwargs: those of the search, all of them; none reaches encoder or decoder.
        """


@runtime_checkable
class AddsLevelInputs(Protocol):
    """A model whose decoder reads more than the previous code."""

    def level_inputs(self, level: int, codes: Tensor) -> Tensor | None:
        """Return what is added to the embeddings that enter the decoder, `[B, R, d]`, or None for nothing.

        Called before the decoder step that predicts `level`. A decoder-only model has no such step at level 0, where
        the prompt ends; what it returns there is ignored.

        Args:
            level: 0 to L - 1.
            codes: the codes of every beam so far, `[B, R, level]`.
        """


@runtime_checkable
class MixesCrossAttention(Protocol):
    """A T5 whose cross-attention layers read something of every beam beside the prompt.

    These layers, and the decoder where it is not that of transformers, are of classes that extend those of transformers
    and declare `decodes_like_base = True` in their bodies. A layer is `T5LayerCrossAttention` but for its method
    `mix(normed, attended, context)`, which returns what is added to the hidden states, `[B, R, d]`, in place of the
    attention to the prompt.
    """

    def beam_inputs(self, level: int, codes: Tensor, **model_kwargs: Any) -> Tensor | None:
        """Return what the layers read at a level, `[B, R, C]` for any C, or None for nothing; zeros are nothing, too.

        Called as `AddsLevelInputs.level_inputs` is, which such a model does not have.

        Args:
            level: 0 to L - 1.
            codes: the codes of every beam so far, `[B, R, level]`.
            model_kwargs: those of the search, all of them.
        """

    def cross_context(self, inputs: Tensor) -> Any:
        """Return the `context` that the layers take, from the `beam_inputs` of one decoder step."""


@runtime_checkable
class ReranksBeams(Protocol):
    """A model with scores of its own for the items that the beams found."""

    def rerank_beams(self, output: BeamOutput, *, attention_mask: Tensor, mask: CatalogMask | None) -> BeamOutput:
        """Return the beams in another order, or other ones; best first, `[B, R]` for any R.

        Args:
            output: with `prompt_states`.
            attention_mask: of the prompts, `[B, S]`.
            mask: items that a request may get; None allows all. Items that are added must respect it.
        """


def last_states(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the states of every row at its last token, `[B, d]`, for padding on either side.

    Args:
        states: `[B, S, d]`, such as `BeamOutput.prompt_states`.
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
    """
    places = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    last = (attention_mask * places).argmax(1)
    return states[torch.arange(len(states), device=states.device), last]
