"""Reads a report as a browser would: tables with their captions, headings, references, unbalanced tags."""

from html.parser import HTMLParser

VOID = {"meta", "wbr", "br", "hr", "img", "link", "input"}
LOADING = {"src", "srcset", "data", "poster", "background", "action", "xlink:href"}
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class PageReader(HTMLParser):
    """What stands on a page.

    Attributes:
        tables: per caption the rows, each a list of cell texts.
        headings: (level, text) in order.
        ids: all ids; references: all local targets of links and of `use`.
        loads: whatever a browser would fetch.
        problems: tags that do not close in order.
        images: labels of the drawings.
    """

    def __init__(self, html):
        super().__init__()
        self.tables, self.headings, self.ids, self.references = {}, [], [], []
        self.loads, self.problems, self.images, self.text = [], [], [], []
        self._open, self._texts, self._rows = [], [], []
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if len(found) != len(attributes):
            self.problems.append(f"<{tag}> repeats an attribute")
        self.ids += [found["id"]] if "id" in found else []
        self._note_loads(tag, found)
        if found.get("role") == "img":
            self.images.append(found["aria-label"])
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("th", "td", "caption", *HEADINGS):
            self._texts.append([])
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> inside {self._open[-3:]}")
            return
        self._open.pop()
        if tag in ("th", "td"):
            self._rows[-1].append(_joined(self._texts.pop()))
        elif tag == "caption":
            self._caption = _joined(self._texts.pop())
        elif tag in HEADINGS:
            self.headings.append((int(tag[1]), _joined(self._texts.pop())))
        elif tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        is_drawing = "svg" in self._open
        self.text += [] if is_drawing or "style" in self._open else [data]
        if self._texts and not is_drawing:
            self._texts[-1].append(data)

    def row(self, caption, name):
        """Return the one row of a table whose first cell starts with `name`."""
        rows = [row for row in self.tables[caption] if row[0].split(" ")[0] == name]
        assert len(rows) == 1, f"{name} stands {len(rows)} times in {caption!r}"
        return rows[0]

    def _note_loads(self, tag, attributes):
        self.loads += [attributes[name] for name in LOADING if name in attributes]
        if tag in ("script", "link", "iframe", "img", "object", "embed", "base"):
            self.loads.append(f"<{tag}>")
        if "href" in attributes:
            target = attributes["href"]
            if target.startswith("#"):
                self.references.append(target[1:])
            elif tag != "a":
                self.loads.append(target)


def _joined(parts):
    return " ".join("".join(parts).split())
