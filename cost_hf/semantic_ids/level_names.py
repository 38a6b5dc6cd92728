"""Letters of levels (a … z, aa …) and the reading of published token strings."""

import re
import string
from collections.abc import Sequence

import numpy as np

TOKEN = re.compile(r"<(?:[a-z]+_)?([a-z]+)_([0-9]{1,10})>")


def level_name(level: int) -> str:
    """Return the letters of a level: 0 is a, 25 is z, 26 is aa."""
    letters, number = "", level + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = string.ascii_lowercase[digit] + letters
    return letters


def parse_sids(sids: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the codes `[N, L]` of token lists such as `["<a_183>", "<b_7>"]`; `<s_a_183>` reads the same.

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
