"""Text for a terminal: words of a catalog, a recipe or an error never move its cursor or change what it shows."""

import unicodedata

# categories of control, format (such as a change of writing direction), surrogate and separator characters
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # parts of words and of emoji


def terminal_text(text: object) -> str:
    r"""Return text with everything that a terminal would obey written as `\x1b` and its like; lines stay lines."""
    return "".join(_shown(character, kept="\n\t" + JOINERS) for character in str(text))


def terminal_line(text: object) -> str:
    r"""Return an id, a title or a name on one line: as `terminal_text`, with line breaks written as `\n`."""
    return "".join(_shown(character, kept=JOINERS) for character in str(text))


def _shown(character: str, *, kept: str) -> str:
    if character in kept or unicodedata.category(character) not in UNPRINTABLE:
        return character
    return character.encode("unicode_escape").decode("ascii")
