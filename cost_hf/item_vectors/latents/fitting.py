"""Writing the latents of a catalog: checks that texts, text encoder and quantizer belong together, then encodes."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from cost_hf.data.encoders import ItemEncoder, TextItemEncoder, encoder_identity, sentence_encoder
from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import render_texts
from cost_hf.data.prepare import PreparedData
from cost_hf.data.text_vectors import TextVectors, encode_cached
from cost_hf.files import content_digest
from cost_hf.item_vectors.latents.encoder import LatentItemEncoder
from cost_hf.item_vectors.latents.options import LatentOptions
from cost_hf.item_vectors.latents.source import QuantizerSource

LSA = "lsa"
logger = logging.getLogger(__name__)


def write_latents(
    data: PreparedData, options: LatentOptions, *, output_dir: str | Path, fit_rows: np.ndarray | None
) -> None:
    """Write the latents of all items, `[N, D]`, and the encoder of new ones.

    Args:
        data: tables and split.
        options: recipe section `vectors`.
        output_dir: gets what `TextVectors.load` reads, and `encoder/`.
        fit_rows: items that fitting may see, bool `[N]`; None for all. The quantizer must not have seen others.

    Raises:
        DataError: for a quantizer that is missing, makes no latents, was fitted to vectors of another text encoder, or
            may have seen what `fit_rows` hides.
        UnfinishedRunError: for the quantizer of a run that did not end.
    """
    folder = Path(output_dir)
    source = QuantizerSource.of(options.quantizer)
    _check_split(source, data, is_limited=fit_rows is not None)
    model = source.load()
    texts = render_texts(data.tables.items, options.template)
    text_encoder = _text_encoder(options, source, getattr(model.config, "text_encoder", None))
    encoder = LatentItemEncoder(options, text_encoder, model)
    is_fast = options.model == LSA
    latents = encoder.latents(text_encoder.encode(texts) if is_fast else encode_cached(texts, text_encoder.encoder))
    encoder.save(folder / "encoder")
    description = {"kind": options.kind, "quantizer": model.config.model_type, "width": latents.shape[1]}
    TextVectors(latents, tuple(texts), content_digest(texts), encoder.digest, description).save(folder)


def _check_split(source: QuantizerSource, data: PreparedData, *, is_limited: bool) -> None:
    """Raise DataError where the quantizer may have been fitted to items that fitting must not see."""
    if source.split_digest == data.split.digest:
        return
    if is_limited:
        raise DataError(
            f"data.cold_share hides items from everything that is fitted, and the quantizer {source.name!r} is not "
            "that of a run with the same data and split, so it may have seen them; give such a run as "
            "vectors.quantizer, or set data.cold_share to 0"
        )
    if source.split_digest is not None:
        logger.warning(
            "the quantizer %s was fitted in a run with other data or another split; if its training part holds clicks "
            "that are evaluated here, results are too good",
            source.name,
        )


def _text_encoder(options: LatentOptions, source: QuantizerSource, settings: dict[str, Any] | None) -> TextItemEncoder:
    """Return the text encoder of the recipe, which must be the one that the quantizer was fitted with.

    Args:
        options: recipe section `vectors`.
        source: of the quantizer.
        settings: what its configuration says of the text encoder.
    """
    found = source.encoder
    if found is not None and not isinstance(found, TextItemEncoder):
        raise DataError(
            f"the quantizer {source.name!r} was fitted to vectors of kind {found.options.kind!r:.80}, expected vectors "
            "of kind text; give a quantizer of item texts"
        )
    if options.model == LSA:
        return _fitted_lsa(options, source, found)
    text_options = options.text_options()
    encoder = ItemEncoder.of(sentence_encoder(text_options), text_options)
    if found is not None:
        if found.digest != encoder.digest:
            raise _other_encoder(source, found.name, encoder.name)
    elif settings is None:
        logger.warning(
            "the quantizer %s does not say which text encoder it was fitted with; vectors.model must be that one",
            source.name,
        )
    elif encoder.settings is None or _identified(settings) != _identified(encoder.settings):
        raise _other_encoder(source, settings, encoder.settings or encoder.name)
    return encoder


def _fitted_lsa(options: LatentOptions, source: QuantizerSource, found: TextItemEncoder | None) -> TextItemEncoder:
    """Return the lsa of the run that fitted the quantizer: one that is fitted again has other axes on other data."""
    if found is None:
        raise DataError(
            f"vectors.model is lsa, and the lsa that the quantizer {source.name!r} was fitted with is not stored with "
            "it; give the directory of the run as vectors.quantizer, or the text encoder as vectors.model"
        )
    if found.options.model != LSA:
        raise _other_encoder(source, found.name, LSA)
    if found.options.dim != options.dim:
        raise DataError(
            f"vectors.dim is {options.dim}, the lsa of the quantizer {source.name!r} was fitted with "
            f"{found.options.dim}; set vectors.dim to {found.options.dim}"
        )
    return ItemEncoder.of(found.encoder, options.text_options())


def _identified(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with what the name of the model stands for: the same files may lie elsewhere."""
    return settings | {"model": encoder_identity(settings["model"], settings.get("revision"))}


def _other_encoder(source: QuantizerSource, expected: Any, found: Any) -> DataError:
    return DataError(
        f"the quantizer {source.name!r} was fitted to vectors of the text encoder {expected!r:.400}, and the recipe's "
        f"is {found!r:.400}, or has other settings; set vectors.model, max_length, normalize and prompt as they were "
        "there"
    )
