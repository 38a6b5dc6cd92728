"""Reports as GitHub-flavored markdown: the same sections and tables without the drawings."""

import re
from collections.abc import Iterator
from dataclasses import replace

from cost_hf.reporting.document import Cell, Command, Example, Line, Page, Section, Table
from cost_hf.terminal_text import terminal_line

SPECIAL = re.compile(r"([\\`*\[\]<>|#])")


def to_markdown(page: Page) -> str:
    """Return a page as markdown."""
    blocks = [f"# {sentence(page.headline)}", f"*{escape(page.kicker)}*"]
    blocks += [f"> **{escape(warning)}**" for warning in page.warnings]
    blocks += [sentence(text) for text in page.paragraphs]
    blocks += [f"{escape(command.label)}\n\n{_code(command)}" for command in page.commands]
    if page.facts:
        blocks.append(", ".join(f"{escape(name)}: {escape(text)}" for name, text in page.facts))
    blocks += [escape(text) for text in page.protocol]
    for section in page.sections:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Return a text on one line in which nothing is markup."""
    return escape_inline(text).strip()


def sentence(text: str) -> str:
    """Return a sentence in which only the backticks around row names are markup."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick is part of the text
        return escape(text)
    return "".join(f"`{part}`" if number % 2 else escape_inline(part) for number, part in enumerate(parts))


def escape_inline(text: str) -> str:
    """Return a part of a line in which nothing is markup; white space at its ends is kept."""
    return SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", text))


def _code(command: Command) -> str:
    """Return a block of code whose fence is longer than any run of backticks in it."""
    line = terminal_line(command.line)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{command.language}\n{line}\n{fence}"


def _section(section: Section) -> Iterator[str]:
    has_text = section.tables or section.examples or section.facts
    if not has_text:  # a section of charts
        return
    yield f"## {escape(section.title)}"
    yield from (escape(text) for text in section.lead)
    if section.callout:
        yield f"**{escape(section.callout)}**"
    for table in section.tables:
        yield f"### {escape(table.caption)}"
        if table.note:
            yield escape(table.note)
        yield _table(table)
    if section.examples:
        yield "\n".join(line for example in section.examples for line in _example(example))
    if section.facts:
        yield "\n".join(f"- {escape(name)}: {escape(text)}" for name, text in section.facts)


def _table(table: Table) -> str:
    header = [_joined(column.title, column.note) for column in table.columns]
    rules = ["---" if column.is_text else "---:" for column in table.columns]
    lines = [_line(header), _line(rules)]
    for group in table.groups:
        if group.title:
            note = f"**{escape(group.title)}**" + (f" ({escape(group.note)})" if group.note else "")
            lines.append(_line([note, *([""] * (len(table.columns) - 1))]))
        lines += [_line([text for cell in _titled(line) for text in _cell(cell)]) for line in group.lines]
    return "\n".join(lines)


def _titled(line: Line) -> tuple[Cell, ...]:
    """Return the cells with the note of the row's name in brackets."""
    name, *rest = line.cells
    return (replace(name, note=f"({name.note})") if name.note else name, *rest)


def _cell(cell: Cell) -> list[str]:
    text = escape(" ".join(part for part in (cell.text, cell.note) if part))
    return [text, *([""] * (cell.span - 1))]


def _example(example: Example) -> Iterator[str]:
    yield f"- **{escape(example.item)}** `{example.sid.replace('`', '')}`"
    for title, items in example.lists:
        yield f"  - {escape(title)}: {escape('; '.join(items))}"


def _joined(title: str, note: str) -> str:
    return escape(f"{title} ({note})" if note else title)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
