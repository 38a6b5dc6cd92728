"""`pipeline("semantic-id")`: item vectors, or texts, to the codes of a `CostModel`.

Codes are those of the model alone. Items may share them; the token that separates such items is given by the catalog of
a recommender, not by the model.
"""

import string
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, Pipeline

CHUNK = 64
NEEDS = (
    "this quantizer names no text encoder that transformers can load (text_encoder={found!r}); pass vectors, or "
    "install cost_hf and use GenerativeRecommender.encode"
)


class SemanticIdPipeline(Pipeline):
    """Turns items into semantic IDs, level by level.

    An item is a vector (list of floats, array or tensor `[E]`), a dict with the key `vector`, or a text where the
    configuration names a transformers encoder. A list of items, a column of a table, or an array `[N, E]`, gives a list
    of results.

    Each result is `{"codes": [25, 3, 11], "tokens": ["<s_a_25>", "<s_b_3>", "<s_c_11>"]}`.
    """

    _load_tokenizer = False
    _text_encoder: tuple[Any, Any] | None = None

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Return the semantic ID of one item, or a list of them; raise ValueError for what is no item."""
        self._sanitize_parameters(**kwargs)
        items, is_single = _as_items(inputs)
        results = []
        for start in range(0, len(items), CHUNK):
            results += self.run_single(items[start : start + CHUNK], {}, {}, {})
        return results[0] if is_single else results

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise ValueError(f"the semantic-id pipeline takes no options, got {sorted(kwargs)!r}; leave them out")
        return {}, {}, {}

    def preprocess(self, items: list[Any]) -> dict[str, Tensor]:
        """Return the vectors of items, `[n, E]`."""
        is_text = [isinstance(item, str) for item in items]
        if any(is_text) and not all(is_text):
            raise ValueError("expected texts only or vectors only, got both in one list; make two calls")
        if any(is_text):
            return {"item_embeddings": self._encoded(items)}
        width = self.model.config.item_dim
        vectors = [_as_vector(item, width) for item in items]
        return {"item_embeddings": torch.stack(vectors)}

    def _forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"codes": self.model.encode(inputs["item_embeddings"])}

    def postprocess(self, outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Return codes and token texts."""
        names = [_level_name(level) for level in range(outputs["codes"].shape[1])]
        return [
            {"codes": codes, "tokens": [f"<s_{name}_{code}>" for name, code in zip(names, codes, strict=True)]}
            for codes in outputs["codes"].tolist()
        ]

    @torch.inference_mode()
    def _encoded(self, texts: list[str]) -> Tensor:
        """Return the vectors of texts, `[n, E]`, as the encoder of the training gave them."""
        settings = self.model.config.text_encoder
        if settings is None or settings["model"] == "lsa":
            raise ValueError(NEEDS.format(found=settings and settings["model"]))
        empty = [text for text in texts if not text.strip()]
        if empty:
            raise ValueError(f"expected a text with at least one word, got {empty[0]!r}; leave it out")
        if self._text_encoder is None:
            # trust in a quantizer's code is no trust in that of the encoder it names
            where = {"revision": settings["revision"], "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(settings["model"], **where)
            encoder = AutoModel.from_pretrained(settings["model"], use_safetensors=True, **where)
            self._text_encoder = (tokenizer, encoder.eval().to(self.device))
        tokenizer, encoder = self._text_encoder
        prompted = [(settings["prompt"] or "") + text for text in texts]
        limits = {"truncation": True, "max_length": settings["max_length"]}
        tokens = tokenizer(prompted, padding=True, return_tensors="pt", **limits).to(self.device)
        states = encoder(**tokens).last_hidden_state.float()  # [n, T, E]
        weights = tokens["attention_mask"][..., None]
        pooled = states[:, 0] if settings["pooling"] == "cls" else (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1) if settings["normalize"] else pooled


def _as_items(inputs: Any) -> tuple[list[Any], bool]:
    """Return the items of a call, and whether it asked for a single one."""
    if isinstance(inputs, str | dict) or (isinstance(inputs, Tensor) and inputs.ndim == 1):
        return [inputs], True
    if isinstance(inputs, set | frozenset) or hasattr(inputs, "columns"):
        raise ValueError(f"expected a list of vectors or texts, got a {type(inputs).__name__}; pass a list or a column")
    try:
        items = list(inputs)
    except TypeError as error:
        raise ValueError(f"expected vectors or texts, got {inputs!r}") from error
    if not items:
        raise ValueError("expected at least one item, got none; pass vectors or texts")
    is_vector = all(isinstance(entry, Real) for entry in items)
    return ([items], True) if is_vector else (items, False)


def _as_vector(item: Any, width: int) -> Tensor:
    """Return an item as a vector, fp32 `[E]`."""
    values = item.get("vector") if isinstance(item, dict) else item
    try:
        vector = torch.as_tensor(values, dtype=torch.float32).cpu()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expected a vector of {width} numbers or a text, got {str(item)[:80]!r}") from error
    if vector.shape != (width,) or not bool(vector.isfinite().all()):
        finite = "" if bool(vector.isfinite().all()) else " with values that are not finite"
        raise ValueError(
            f"expected a vector of {width} finite numbers, got shape {tuple(vector.shape)}{finite}; use the text "
            "encoder that the quantizer was fitted with"
        )
    return vector


def _level_name(level: int) -> str:
    """Return the letters of a level: 0 is a, 25 is z, 26 is aa."""
    letters = ""
    number = level + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = string.ascii_lowercase[digit] + letters
    return letters
