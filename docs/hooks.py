"""Pages that mkdocs makes of the package when it builds: methods, configuration, results, changelog."""

import re
from pathlib import Path

from configuration import configuration_pages
from method_pages import method_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import cost_hf

ROOT = Path(__file__).parent.parent
COPIED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks/benchmarks.md",
    "model_cards/overview.svg": "overview.svg",
}
# links that hold in the repository, and what they are on the site
LINKS = {
    "../../benchmarks/README.md": "benchmarks/benchmarks.md",
    "../../benchmarks/": "benchmarks/",
    "../../model_cards/": "",
    "../../../docs/pages/": "../",
    "../docs/pages/": "../",
    "docs/pages/": "",
}
API_PAGES = ("api.md", "extension_api.md")


def generated_pages() -> dict[str, str]:
    """Return the text of every page that is made from the package, by its path below `pages`."""
    results = [path for path in sorted((ROOT / "benchmarks" / "results").rglob("*")) if path.is_file()]
    copied = COPIED | {str(path.relative_to(ROOT)): str(path.relative_to(ROOT)) for path in results}
    pages = {target: (ROOT / source).read_text(encoding="utf-8") for source, target in copied.items()}
    return pages | method_pages() | configuration_pages()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    methods = [path for path in method_pages() if not path.endswith("index.md")]
    sections = {
        "Methods": ["methods/index.md", *methods],
        "Configuration": list(configuration_pages()),
    }
    config.nav = _with_sections(config.nav, sections)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and check that the API reference names everything that is public."""
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    reference = "".join((Path(config.docs_dir) / page).read_text(encoding="utf-8") for page in API_PAGES)
    missing = [name for name in cost_hf.__all__ if not re.search(rf"^::: cost_hf\.(\w+\.)*{name}$", reference, re.M)]
    if missing:
        raise PluginError(f"the API reference lacks {', '.join(missing)}; add `::: cost_hf.NAME` to pages/api.md")
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links that hold in the repository into those of the site."""
    for link, target in LINKS.items():
        markdown = markdown.replace(f"]({link}", f"]({target}")
    return re.sub(r"\]\(\.\./(\w+)/README\.md", r"](\1.md", markdown)  # of a method to another one


def _with_sections(nav: list, sections: dict[str, list[str]]) -> list:
    """Return the navigation with the pages of the named sections in it."""
    filled = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            if title in sections:
                entry = {title: sections[title]}
            elif isinstance(value, list):
                entry = {title: _with_sections(value, sections)}
        filled.append(entry)
    return filled
