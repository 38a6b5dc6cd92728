"""Check that built pages load nothing from the network: python docs/check_site.py build/docs"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADING = {"script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset")}
LINKS = ("stylesheet", "preconnect", "preload", "prefetch", "icon", "dns-prefetch", "modulepreload")  # rel of <link>
EXTERNAL = re.compile(r"^\s*(https?:)?//")


class Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.external: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the addresses of the tags that a browser loads by itself."""
        values = {name: value or "" for name, value in attrs}
        names = LOADING.get(tag, ())
        if tag == "link" and set(values.get("rel", "").split()) & set(LINKS):
            names = ("href",)
        self.external += [values[name] for name in names if EXTERNAL.match(values.get(name, ""))]


def main(site: Path) -> int:
    """Print every external address that pages and style sheets load; return 1 if there are any, or no pages."""
    pages = sorted(site.rglob("*.html"))
    found = []
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        found += [f"{page}: {address}" for address in loads.external]
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", sheet.read_text(encoding="utf-8"))
        found += [f"{sheet}: {address}" for address in urls if EXTERNAL.match(address)]
    print("\n".join(found) or f"{len(pages)} pages, nothing loaded from elsewhere")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
