"""Item texts: templates filled from the columns of a catalog, and HTML removed from them."""

import html
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pandas as pd

from cost_hf.data.cells import column_words, holds_words
from cost_hf.data.errors import DataError

BRACKETS = {"(": ")", "[": "]", "{": "}", '"': '"', "«": "»", "“": "”", "„": "“"}


def render_texts(items: pd.DataFrame, template: str | None) -> list[str]:
    """Fill the template for every item; an empty field is dropped with the separator before it and its brackets.

    Cells of any type are formatted by `cells.cell_words`.

    Args:
        items: catalog, N rows.
        template: text with `{column}` fields; None joins all text columns but `item_id` by ". ".

    Returns:
        N texts, empty where an item has none of the fields.

    Raises:
        DataError: for a malformed template, an unknown column, or items without any text column.

    Examples:
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": ["a", "b"], "title": ["Lamp", "Chair"], "brand": ["Ikea", None]})
        >>> render_texts(items, "{title}, by {brand}")
        ['Lamp, by Ikea', 'Chair']
    """
    whole = _whole_text(items, template)
    cells = {name: column_words(items[name]) for name in whole.names()}
    return [whole.fill(cells, row) for row in range(len(items))]


@dataclass(frozen=True)
class TemplateTexts:
    """How the texts of items are made of their columns: by a template, or of all text columns without one."""

    template: str | None = None

    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items; DataError where a column is missing."""
        return render_texts(items, self.template)

    def text_columns(self, items: pd.DataFrame) -> list[str]:
        """Return the columns of a table that texts are made of, sorted."""
        return text_columns(items, self.template)

    @property
    def named_columns(self) -> set[str] | None:
        """Columns that the template names; None without one."""
        if self.template is None:
            return None
        return {name for _, name, _, _ in string.Formatter().parse(self.template) if name}

    @property
    def made_of(self) -> str:
        """What the text of an item is made of, for messages."""
        return "all text columns" if self.template is None else f"the template {self.template!r}"


def check_frame(items: object) -> None:
    """Raise `DataError` for items that are no DataFrame.

    Examples:
        >>> check_frame([{"item_id": "a"}])
        Traceback (most recent call last):
        cost_hf.data.errors.DataError: expected a DataFrame of items, got a list; pass pandas.DataFrame(rows)
    """
    if not isinstance(items, pd.DataFrame):
        raise DataError(f"expected a DataFrame of items, got a {type(items).__name__}; pass pandas.DataFrame(rows)")


def text_columns(items: pd.DataFrame, template: str | None) -> list[str]:
    """Return the columns that item texts are made of, sorted; arguments and errors are those of `render_texts`.

    Examples:
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": ["a"], "title": ["Lamp"], "price": [9.5]})
        >>> text_columns(items, None)
        ['title']
    """
    return sorted(_whole_text(items, template).names())


def item_titles(items: pd.DataFrame) -> list[str | None] | None:
    """Return a title per item, None for an empty cell; None instead of a list where there is no column `title`.

    Titles that are not strings in the source, like a film called 1984, are converted to strings.
    """
    if "title" not in items:
        return None
    cells = zip(items["title"], column_words(items["title"]), strict=True)
    return [value if isinstance(value, str) and words else words or None for value, words in cells]


def is_text_column(values: pd.Series) -> bool:
    """Return whether a column is part of the item text if there is no template.

    It is if it is called `title`, or if any of its cells is a string or a list of strings; other cells are converted.
    """
    known = values.dropna()
    return len(known) > 0 and (values.name == "title" or any(map(holds_words, known)))


@dataclass(frozen=True)
class _Field:
    """A column, or a group in brackets, and the text before it."""

    before: str
    content: "str | _Group"


@dataclass
class _Group:
    """Fields that are kept or dropped together with the brackets around them; the whole template is one without."""

    fields: list[_Field] = field(default_factory=list)
    opening: str = ""
    closing: str = ""

    def names(self) -> set[str]:
        """Return the columns of the group."""
        parts = [{each.content} if isinstance(each.content, str) else each.content.names() for each in self.fields]
        return set().union(*parts)

    def fill(self, cells: dict[str, list[str]], row: int) -> str:
        """Return the text of the group for an item, "" if the item has none of the fields."""
        text = ""
        for number, each in enumerate(self.fields):
            content = each.content
            words = cells[content][row] if isinstance(content, str) else content.fill(cells, row)
            if not words:
                continue
            # a separator whose left neighbour was dropped keeps only its words: ", by " becomes "by "
            text += (each.before if text or number == 0 else each.before.lstrip(" .,;:|/-")) + words
        return self.opening + text + self.closing if text else ""


def _whole_text(items: pd.DataFrame, template: str | None) -> _Group:
    """Return the fields of a template, or of all text columns without one."""
    check_frame(items)
    if template is not None:
        return _parse_template(template, items)
    names = [str(name) for name in items.columns if name != "item_id" and is_text_column(items[name])]
    if not names:
        raise DataError(
            f"items has no text column besides item_id, only {list(map(str, items.columns))}; "
            "add one, or name columns to use in vectors.template"
        )
    return _Group([_Field("" if number == 0 else ". ", name) for number, name in enumerate(names)])


def _parse_template(template: str, items: pd.DataFrame) -> _Group:
    """Parse a template into fields with the text before each, and brackets with fields in them."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"vectors.template {template!r} is malformed ({error}); write fields as {{column}}") from error
    # brackets that are open, and the text read since the last field in each
    groups = [_Group()]
    texts = [""]
    for literal, name, spec, conversion in pieces:
        for letter in literal:
            _read_letter(letter, groups, texts)
        if name is None:
            continue
        if name not in items.columns or spec or conversion:
            suffix = " with a format" if spec or conversion else ""
            raise DataError(
                f"vectors.template {template!r} has the field {name!r}{suffix}: "
                f"expected a plain column name of items, one of {list(map(str, items.columns))}; correct the template"
            )
        groups[-1].fields.append(_Field(texts[-1], name))
        texts[-1] = ""
    while len(groups) > 1:  # unclosed brackets
        _dissolve(groups, texts)
    if not groups[0].fields:
        raise DataError(f"vectors.template {template!r} has no field; write at least one as {{column}}")
    groups[0].closing = texts[0]
    return groups[0]


def _read_letter(letter: str, groups: list[_Group], texts: list[str]) -> None:
    """Parse one character between fields: an opening or closing bracket, or plain text."""
    closes = len(groups) > 1 and BRACKETS[groups[-1].opening] == letter
    if closes and groups[-1].fields:
        group = groups.pop()
        ending = texts.pop()
        group.closing = ending + letter
        groups[-1].fields.append(_Field(texts[-1], group))
        texts[-1] = ""
    elif closes:
        _dissolve(groups, texts)
        texts[-1] += letter
    elif letter in BRACKETS:
        groups.append(_Group(opening=letter))
        texts.append("")
    else:
        texts[-1] += letter


def _dissolve(groups: list[_Group], texts: list[str]) -> None:
    """Turn the innermost bracket into plain text of the group around it."""
    group = groups.pop()
    ending = texts.pop()
    texts[-1] += group.opening
    for each in group.fields:
        groups[-1].fields.append(_Field(texts[-1] + each.before, each.content))
        texts[-1] = ""
    texts[-1] += ending


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
    """Return how many texts contain HTML tags or entities."""
    return sum(map(has_markup, texts))


def has_markup(text: str) -> bool:
    """Return whether a text contains an HTML tag or entity."""
    if "<" in text and TAG.search(text) is not None:
        return True
    return "&" in text and any(html.unescape(entity) != entity for entity in ENTITY.findall(text))


def plain_text(text: str) -> str:
    """Return a text without HTML tags, scripts and comments, with entities decoded; other texts are returned unchanged.

    Tags that break a line become a space. A `<` that starts no tag is kept.
    """
    if not has_markup(text):
        return text
    parser = _Words()
    parser.feed(text)
    parser.close()
    return " ".join("".join(parser.parts).split())


class _Words(HTMLParser):
    """Collects the visible text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a hidden part, or keep a tag unknown to HTML, such as `<3 years>`."""
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
        """Keep the text between tags."""
        self._add(data)

    def _tag(self, tag: str, written: str) -> None:
        if TAG.fullmatch(f"<{tag}>") is None:
            self._add(written)
        elif tag not in INLINE:
            self._add(" ")

    def _add(self, text: str) -> None:
        if self.hidden is None:
            self.parts.append(text)
