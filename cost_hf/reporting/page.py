"""What a report holds, before anyone decides how it looks: sections of tables, figures and examples.

The web page and the markdown text are two printers of one `Page`, so they cannot show different numbers. Texts are
plain; only drawings are markup. A part that has nothing to say is empty, and the printers leave it out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from markupsafe import Markup

NO_DRAWING = Markup("")


@dataclass(frozen=True)
class Cell:
    """One cell: a text, small print below it, a drawing beside it, a tint from 0 to 1 behind it."""

    text: str
    note: str = ""
    drawing: Markup = NO_DRAWING
    shade: float | None = None
    span: int = 1


@dataclass(frozen=True)
class Column:
    """A column's title, the unit or case count below it, and the axis of its drawings."""

    title: str
    note: str = ""
    axis: Markup = NO_DRAWING
    is_text: bool = False


@dataclass(frozen=True)
class Line:
    """One row of a table; the first cell names it."""

    cells: tuple[Cell, ...]
    family: str = ""
    is_main: bool = False


@dataclass(frozen=True)
class LineGroup:
    """Rows of a table under a heading of their own, where `title` is not empty."""

    lines: tuple[Line, ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption, small print below it; on a narrow screen the rows of a `cards` table become cards."""

    caption: str
    columns: tuple[Column, ...]
    groups: tuple[LineGroup, ...]
    note: str = ""
    family: str = ""
    cards: bool = False

    @property
    def lines(self) -> Iterator[Line]:
        """All rows in order."""
        return (line for group in self.groups for line in group.lines)


@dataclass(frozen=True)
class Chart:
    """A drawing with its caption."""

    caption: str
    drawing: Markup


@dataclass(frozen=True)
class ChartRow:
    """Charts of one system, side by side."""

    title: str
    family: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Example:
    """An item with its semantic ID and two lists of titles: nearest by text, and nearest by shared codes."""

    item: str
    sid: str
    lists: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Section:
    """A heading with a lead and its content.

    Attributes:
        callout: a sentence that must be read before the tables.
        key: how to read the drawings and tints; printers without them leave it out.
        families: marks that a legend explains.
        side_by_side: small tables stand in a grid.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[ChartRow, ...] = ()
    chart_definitions: Markup = NO_DRAWING
    examples: tuple[Example, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    callout: str = ""
    key: str = ""
    families: tuple[str, ...] = ()
    side_by_side: bool = False

    @property
    def is_empty(self) -> bool:
        """True where there is nothing but a heading."""
        return not (self.tables or self.charts or self.examples or self.facts)


@dataclass(frozen=True)
class Page:
    """A whole report: what it is about, the headline, what to know before reading, and the sections."""

    title: str
    kicker: str
    headline: str
    paragraphs: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    protocol: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default=())
