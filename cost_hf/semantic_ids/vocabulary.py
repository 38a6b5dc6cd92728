"""Semantic IDs as tokens: an item is exactly L tokens, one per level, and token ids are computed from codes.

Token texts are `<s_a_17>` (namespace, level a … z, aa …, code), then `<|sid_begin|>` and `<|sid_end|>`, then hashed
user tokens `<user_17>`: the order of FlashRec and OpenOneRec. The ids are contiguous in that order, so code k of
level l is `level_offsets[l] + k` with every tokenizer.
"""

import dataclasses
import hashlib
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cost_hf.files import DamagedFileError, check_fields, read_object, write_json
from cost_hf.semantic_ids.digests import vocabulary_digest
from cost_hf.semantic_ids.item_ids import item_id_text
from cost_hf.semantic_ids.options import (
    ANCHOR,
    ANCHORED_INITS,
    MAX_TOKEN_ID,
    MAX_TOKENS,
    level_size_tuple,
    whole_number,
)
from cost_hf.semantic_ids.token_rows import RowInit, add_tokens, extend_embedding

if TYPE_CHECKING:  # catalogs import this module for the texts of tokens
    from cost_hf.semantic_ids.catalog import Catalog

FILE_NAME = "vocabulary.json"
FIELDS = {
    "level_sizes": list[int],
    "namespace": str,
    "first_id": int,
    "num_user_tokens": int,
    "pad_id": int,
    "eos_id": int,
    "unk_id": int,
    "digest": str,
}
PARALLEL = "has_parallel_levels"  # in the file only where it is true
DEFAULT_NAMESPACE = "s"
MAX_NAMESPACE = 16
TOKEN = re.compile(r"<(?:[a-z]+_)?([a-z]+)_([0-9]{1,10})>")


def level_name(level: int) -> str:
    """Return the letters of a level: 0 is a, 25 is z, 26 is aa.

    Examples:
        >>> level_name(0), level_name(26)
        ('a', 'aa')
    """
    letters = ""
    number = level + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = string.ascii_lowercase[digit] + letters
    return letters


def parse_sids(sids: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the codes `[N, L]` of token lists such as `["<a_183>", "<b_7>"]`; `<s_a_183>` is read alike.

    Raises:
        ValueError: for a token of another form or level, or lists of different lengths.
    """
    depth = len(sids[0]) if len(sids) else 0
    codes = np.empty((len(sids), depth), dtype=np.int64)
    names = [level_name(level) for level in range(depth)]
    for row, sid in enumerate(sids):
        matches = [TOKEN.fullmatch(token) if isinstance(token, str) else None for token in sid]
        if len(sid) != depth or [match and match[1] for match in matches] != names:
            raise ValueError(
                f"row {row}: expected {depth} tokens like <a_17> of levels {names}, got {list(sid)!r:.200}"
            )
        codes[row] = [int(match[2]) for match in matches if match]
    return codes


@dataclass(frozen=True)
class SidVocabulary:
    """Token ids of codes, markers and hashed users.

    Args:
        level_sizes: codes per level, the appended level included.
        namespace: first letter(s) of the level tokens; `u` serves semantic IDs of users.
        first_id: id of the first code of level a; 3 without a tokenizer.
        num_user_tokens: number of hashed user tokens, which follow the markers.
        pad_id, eos_id, unk_id: the tokenizer's ids; 0, 1, 2 without one.
        has_parallel_levels: whether levels do not depend on each other, so that the first tokens of an item say no more
            of it than others.

    Raises:
        ValueError: for invalid sizes, names or ids, or more than 4,194,304 tokens.

    Examples:
        >>> import torch
        >>> from cost_hf import SidVocabulary
        >>> vocabulary = SidVocabulary((4, 4))
        >>> vocabulary.encode(torch.tensor([[2, 3]]))
        tensor([[ 5, 10]])
        >>> vocabulary.decode(torch.tensor([[5, 10]]))
        tensor([[2, 3]])
        >>> vocabulary.tokens[2], vocabulary.tokens[7], vocabulary.size
        ('<s_a_2>', '<s_b_3>', 13)
    """

    level_sizes: tuple[int, ...]
    namespace: str = DEFAULT_NAMESPACE
    first_id: int = 3
    num_user_tokens: int = 0
    pad_id: int = 0
    eos_id: int = 1
    unk_id: int = 2
    has_parallel_levels: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "level_sizes", level_size_tuple(self.level_sizes, most=MAX_TOKENS))
        if sum(self.level_sizes) > MAX_TOKENS:
            raise ValueError(f"level_sizes must add up to at most {MAX_TOKENS} codes, got {sum(self.level_sizes)}")
        named = isinstance(self.namespace, str) and len(self.namespace) <= MAX_NAMESPACE
        if not (named and self.namespace.isascii() and self.namespace.isalpha() and self.namespace.islower()):
            raise ValueError(
                f"namespace must be 1 to {MAX_NAMESPACE} lower-case ASCII letters, got {self.namespace!r:.80}; the "
                "default is 's'"
            )
        users = whole_number(self.num_user_tokens, "num_user_tokens", least=0, most=MAX_TOKENS - sum(self.level_sizes))
        object.__setattr__(self, "num_user_tokens", users)
        for name in ("first_id", "pad_id", "eos_id", "unk_id"):
            number = whole_number(getattr(self, name), name, least=0, most=MAX_TOKEN_ID)
            object.__setattr__(self, name, number)
        used = {"pad_id": self.pad_id, "eos_id": self.eos_id, "unk_id": self.unk_id}
        inside = {name: value for name, value in used.items() if self.first_id <= value < self.size}
        if inside:
            raise ValueError(
                f"SID tokens take ids {self.first_id} … {self.size - 1} but {inside} must not be among them; "
                "raise first_id above every special id"
            )

    @classmethod
    def for_catalog(
        cls,
        catalog: "Catalog",
        *,
        namespace: str = DEFAULT_NAMESPACE,
        first_id: int | None = None,
        num_user_tokens: int = 0,
    ) -> "SidVocabulary":
        """Return the vocabulary of a catalog, which does not change with later updates of the catalog.

        Args:
            catalog: gives the codes per level, the appended level included.
            namespace: first letter(s) of the level tokens.
            first_id: id of the first code of level a; 3 by default.
            num_user_tokens: number of hashed user tokens.

        Examples:
            >>> from cost_hf import Catalog, SidVocabulary
            >>> catalog = Catalog.from_codes(["lamp", "desk"], [[0, 1], [1, 0]], level_sizes=(2, 2), append_size=4)
            >>> vocabulary = SidVocabulary.for_catalog(catalog)
            >>> vocabulary.level_sizes, vocabulary.begin_id
            ((2, 2, 4), 11)
            >>> vocabulary == SidVocabulary.for_catalog(catalog.without_items(["desk"]))
            True
        """
        start = 3 if first_id is None else first_id
        return cls(
            catalog.level_sizes,
            namespace=namespace,
            first_id=start,
            num_user_tokens=num_user_tokens,
            has_parallel_levels=catalog.has_parallel_levels,
        )

    @cached_property
    def level_offsets(self) -> Tensor:
        """Id of code 0 of every level, `[L]`."""
        sizes = torch.tensor(self.level_sizes)
        return self.first_id + sizes.cumsum(0) - sizes

    @cached_property
    def token_ids(self) -> Tensor:
        """Ids of all code tokens, `[sum(level_sizes)]`, level after level."""
        return torch.arange(self.first_id, self.begin_id)

    @property
    def begin_id(self) -> int:
        """Id of `<|sid_begin|>`."""
        return self.first_id + sum(self.level_sizes)

    @property
    def end_id(self) -> int:
        """Id of `<|sid_end|>`."""
        return self.begin_id + 1

    @property
    def size(self) -> int:
        """Number of rows of an embedding: the last id plus one."""
        return self.end_id + 1 + self.num_user_tokens

    @cached_property
    def tokens(self) -> list[str]:
        """Token texts; `tokens[i]` has the id `first_id + i`."""
        names = [level_name(level) for level in range(len(self.level_sizes))]
        codes = [
            f"<{self.namespace}_{name}_{code}>"
            for name, size in zip(names, self.level_sizes, strict=True)
            for code in range(size)
        ]
        marker = "sid" if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}_sid"
        users = [f"<user_{bucket}>" for bucket in range(self.num_user_tokens)]
        return [*codes, f"<|{marker}_begin|>", f"<|{marker}_end|>", *users]

    @cached_property
    def digest(self) -> str:
        """The vocabulary digest of namespace, sizes and token texts."""
        return vocabulary_digest(self.namespace, self.level_sizes, self.tokens)

    def encode(self, codes: Tensor) -> Tensor:
        """Return the token ids of codes `[..., l]`, l ≤ L levels from the first.

        Raises:
            ValueError: for a code outside its level, or another dtype than integers.
        """
        codes = _whole(codes, "codes")
        sizes = torch.tensor(self.level_sizes[: self._depth(codes)], device=codes.device)
        self._refuse((codes < 0) | (codes >= sizes), codes, "code")
        return codes + self.level_offsets[: codes.shape[-1]].to(codes.device)

    def decode(self, ids: Tensor) -> Tensor:
        """Return the codes of token ids `[..., l]`, l ≤ L levels from the first.

        Raises:
            ValueError: for an id that is not a token of its level, or another dtype than integers.
        """
        ids = _whole(ids, "token ids")
        codes = ids - self.level_offsets[: self._depth(ids)].to(ids.device)
        sizes = torch.tensor(self.level_sizes[: ids.shape[-1]], device=ids.device)
        self._refuse((codes < 0) | (codes >= sizes), ids, "token id")
        return codes

    def texts(self, codes: np.ndarray) -> list[list[str]]:
        """Return the token texts of codes `[N, l]`, l ≤ L levels from the first: N lists of l texts."""
        ids = self.encode(torch.tensor(codes)).tolist()
        return [[self.tokens[token - self.first_id] for token in own] for own in ids]

    def user_token_id(self, user_id: str) -> int:
        """Return the id of a user's hashed token; the same on every machine.

        Args:
            user_id: a string, or a whole number, which becomes its digits.

        Raises:
            ValueError: if the vocabulary has no user tokens, or for a value that is not an id.
        """
        if not self.num_user_tokens:
            raise ValueError(
                f"the vocabulary has no user tokens, got user {user_id!r}; build it with num_user_tokens above 0"
            )
        text = item_id_text(user_id)
        if text is None:
            raise ValueError(
                f"user ids must be strings, got {user_id!r:.80} ({type(user_id).__name__}); convert them by str"
            )
        # a lone surrogate is not UTF-8, but may be in a user id
        bucket = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        return self.end_id + 1 + bucket % self.num_user_tokens

    def extend(
        self,
        tokenizer: Any,
        model: Any,
        *,
        embedding_init: str = "normal",
        anchor: str = ANCHOR,
        code_vectors: Tensor | None = None,
        seed: int = 0,
    ) -> "SidVocabulary":
        """Add the tokens to a pretrained tokenizer and model, in place; return the vocabulary with the tokenizer's ids.

        Doing it twice changes nothing: existing tokens keep their ids and rows.

        Args:
            tokenizer: a transformers tokenizer.
            model: a transformers model with input embeddings, or None to extend the tokenizer alone.
            embedding_init: initialisation of new rows, a kind of `RowInit`.
            anchor: text whose mean row `text`, `codebook` and `mapped` start from.
            code_vectors: of all codes, level after level, `[n, D]`, NaN for codes without one; for `codebook` and
                `mapped`.
            seed: of the new rows.

        Raises:
            ValueError: for a tokenizer that holds only some of the tokens, or has no end token.
        """
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"expected a tokenizer with an eos token, got {tokenizer!r}; set tokenizer.eos_token first"
            )
        words = tuple(tokenizer(anchor, add_special_tokens=False)["input_ids"])
        start = RowInit(embedding_init, words if embedding_init in ANCHORED_INITS else (), code_vectors)
        first_id, new_from = add_tokens(tokenizer, self.tokens)
        pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        unk_id = pad_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        ids = {"first_id": first_id, "pad_id": pad_id, "eos_id": tokenizer.eos_token_id, "unk_id": unk_id}
        extended = dataclasses.replace(self, **ids)
        if model is not None:
            rows = torch.arange(extended.first_id, extended.size)
            extend_embedding(model, len(tokenizer), rows, new_from=new_from, embedding_init=start, seed=seed)
        return extended

    def save(self, directory: str | Path) -> None:
        """Write `vocabulary.json` into `directory`."""
        content = {name: getattr(self, name) for name in FIELDS}
        if self.has_parallel_levels:
            content[PARALLEL] = True
        write_json(Path(directory) / FILE_NAME, content)

    @classmethod
    def load(cls, directory: str | Path) -> "SidVocabulary":
        """Read `vocabulary.json`; raise ValueError if its digest does not match, or the file is damaged."""
        path = Path(directory) / FILE_NAME
        content = {PARALLEL: False} | read_object(path)
        fields = FIELDS | {PARALLEL: bool}
        check_fields(content, fields, source=path)
        if set(content) != set(fields):
            raise DamagedFileError(f"{path} has {sorted(content)}, expected {sorted(fields)}; copy it again")
        digest = content.pop("digest")
        try:
            vocabulary = cls(**content)
        except ValueError as error:
            raise DamagedFileError(f"{path}: {error}") from error
        if vocabulary.digest != digest:
            raise ValueError(
                f"{path} names the digest {digest!r} but its fields give {vocabulary.digest!r}; "
                "the file was edited or written by another version: write it again with SidVocabulary.save"
            )
        return vocabulary

    def _depth(self, values: Tensor) -> int:
        if not values.ndim or values.shape[-1] > len(self.level_sizes):
            raise ValueError(
                f"the last dimension is the level, at most {len(self.level_sizes)}; got {tuple(values.shape)}"
            )
        return values.shape[-1]

    def _refuse(self, is_wrong: Tensor, values: Tensor, kind: str) -> None:
        if not is_wrong.any():
            return
        index = is_wrong.nonzero()[0].tolist()
        level = index[-1]
        low = 0 if kind == "code" else int(self.level_offsets[level])
        raise ValueError(
            f"level {level_name(level)!r} takes {kind}s {low} … {low + self.level_sizes[level] - 1}, "
            f"got {int(values[tuple(index)])!r} at position {tuple(index)}; was it made with another vocabulary?"
        )


def _whole(values: Any, name: str) -> Tensor:
    """Return integers as an int64 tensor; raise ValueError for floats and bools."""
    table = torch.as_tensor(values)
    if table.numel() and (table.is_floating_point() or table.is_complex() or table.dtype == torch.bool):
        raise ValueError(
            f"{name} must be integers, got {table.dtype} of shape {tuple(table.shape)}; convert by .long()"
        )
    return table.long()
