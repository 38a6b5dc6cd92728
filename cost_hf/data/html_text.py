"""HTML in texts: how much there is, and plain text of it.

Item texts out of shop systems and feeds often hold tags and entities. Left in, `&amp;`, `br` and `strong` become words
that thousands of items share.
"""

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser

TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|figure|font|h[1-6]|head|hr|html|i|iframe|img|"
    r"li|link|meta|ol|p|pre|s|script|section|small|span|strong|style|sub|sup|table|tbody|td|th|thead|tr|u|ul|video)"
    r"(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
HIDDEN = ("script", "style")
INLINE = ("a", "abbr", "b", "big", "code", "em", "font", "i", "s", "small", "span", "strong", "sub", "sup", "u")


def count_markup(texts: Sequence[str]) -> int:
    """Return how many texts hold tags or entities of HTML."""
    return sum(map(has_markup, texts))


def has_markup(text: str) -> bool:
    """Say whether a text holds a tag or an entity that HTML knows."""
    if "<" in text and TAG.search(text) is not None:
        return True
    return "&" in text and any(html.unescape(entity) != entity for entity in ENTITY.findall(text))


def plain_text(text: str) -> str:
    """Return a text without tags, scripts and comments, its entities as characters; one without any stays as it is.

    Tags that break a line become a space. A `<` that begins no tag stays.
    """
    if not has_markup(text):
        return text
    parser = _Words()
    parser.feed(text)
    parser.close()
    return " ".join("".join(parser.parts).split())


class _Words(HTMLParser):
    """Collects what a page would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a hidden part, or keep a tag that HTML does not know, such as `<3 years>`."""
        if tag in HIDDEN:
            self.hidden = tag
        else:
            self._tag(tag, self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Treat `<br/>` as `<br>`."""
        if tag not in HIDDEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """End a hidden part."""
        if tag == self.hidden:
            self.hidden = None
        else:
            self._tag(tag, f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Keep what stands between tags."""
        self._add(data)

    def _tag(self, tag: str, written: str) -> None:
        if TAG.fullmatch(f"<{tag}>") is None:
            self._add(written)
        elif tag not in INLINE:
            self._add(" ")

    def _add(self, text: str) -> None:
        if self.hidden is None:
            self.parts.append(text)
