"""The words of texts as numbers, for the light text encoder."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from cost_hf.methods.cobra.modeling_cobra import CLS_WORD

WORD = re.compile(r"[^\W_]+")


def word_ids(texts: Sequence[str], *, words: int, ids: int) -> np.ndarray:
    """Return the ids of the first words of texts, float32 `[n, words]`, 0 after the last.

    Words are hashed (CRC-32 of their lower case, after Weinberger et al., ICML 2009), so no vocabulary is stored and a
    new text may hold any word. Ids are below 2^24, which float32 holds exactly; catalogs store item vectors as such.

    Args:
        texts: n texts.
        words: words of a text that are kept.
        ids: 0 pads and 1 is [CLS]; words have the others.
    """
    first = CLS_WORD + 1
    table = np.zeros((len(texts), words), dtype=np.float32)
    for line, text in zip(table, texts, strict=True):
        found = WORD.findall(text.lower())[:words]
        line[: len(found)] = [first + zlib.crc32(word.encode()) % (ids - first) for word in found]
    return table
