"""Names of the scores of a search, readable without torch; `beam_steps.LevelHead` computes them."""

NORMALIZATIONS = ("vocabulary", "level")


def check_normalization(normalization: str, *, field: str = "normalization") -> None:
    """Raise ValueError for a name that is not in `NORMALIZATIONS`; `field` names the argument in the message."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"{field} must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
