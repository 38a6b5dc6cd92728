"""The content of a report, independent of its format: sections of tables, figures and examples.

The web page and the markdown text are made from one `Page`, so they show the same numbers. Texts are plain; only
drawings are markup. Empty parts are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from markupsafe import Markup

NO_DRAWING = Markup("")


@dataclass(frozen=True)
class Cell:
    """One cell: a text, small print below it, a drawing beside it, and the strength of its tint from 0 to 1."""

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
    """One row of a table; the first cell is its name."""

    cells: tuple[Cell, ...]
    family: str = ""
    is_main: bool = False


@dataclass(frozen=True)
class LineGroup:
    """Rows of a table, under a heading where `title` is not empty."""

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
    """An item with its semantic ID and lists of titles: nearest by item vector, and nearest by shared codes."""

    item: str
    sid: str
    lists: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Section:
    """A heading with a lead and its content.

    Attributes:
        callout: a sentence to be read before the tables.
        key: how to read the drawings and tints; left out in formats without them.
        families: marks of the legend.
        side_by_side: arrange small tables in a grid.
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
        """Whether there is nothing but a heading."""
        return not (self.tables or self.charts or self.examples or self.facts)


@dataclass(frozen=True)
class Command:
    """A line to be copied, and what it does; `language` is `bash` or `python`."""

    label: str
    line: str
    language: str


@dataclass(frozen=True)
class Page:
    """A whole report: subject, headline, commands, warnings, figures, protocol and sections."""

    title: str
    kicker: str
    headline: str
    paragraphs: tuple[str, ...]
    commands: tuple[Command, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    protocol: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default=())
