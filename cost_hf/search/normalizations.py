"""Names of the scores of a search, readable without torch; `level_head` computes them."""

NORMALIZATIONS = ("vocabulary", "level")


def check_normalization(normalization: str, *, field: str = "normalization") -> None:
    """Raise ValueError for a name that is none of `NORMALIZATIONS`; `field` says where it was given."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"{field} must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
