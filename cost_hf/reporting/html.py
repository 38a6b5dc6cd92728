"""Reports as HTML: one self-contained file without scripts in which every text from data is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cost_hf.reporting import numbers
from cost_hf.reporting.document import Page
from cost_hf.reporting.drawing import chip, mark_definitions


def to_html(page: Page) -> str:
    """Return a page as a self-contained HTML document."""
    environment = Environment(
        loader=PackageLoader("cost_hf", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"chip": chip, "breakable": breakable, "names": names}
    return environment.get_template("page.html.jinja").render(page=page, marks=mark_definitions(), dash=numbers.DASH)


def breakable(text: str) -> Markup:
    """Return a text that may break after the underscores of a name."""
    return escape(text).replace("_", Markup("_<wbr>"))


def names(text: str) -> Markup:
    """Return a sentence whose row names, between backticks as in markdown, are set as code."""
    parts = [breakable(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a lone backtick is part of the text
        return breakable(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )
