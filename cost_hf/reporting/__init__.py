"""Reports for people: formats of numbers, tables, figures, web pages, markdown and text for the terminal.

Every number comes from results.json, compare.json or the findings of a check; nothing is computed here but positions on
an axis and ratios of shown values.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.files import atomic_path
from cost_hf.reporting.html import to_html
from cost_hf.reporting.markdown import to_markdown
from cost_hf.reporting.pages import comparison_page, load_line, run_page
from cost_hf.reporting.terminal import compare_text, results_table, run_text

__all__ = [
    "REPORT_FILES",
    "compare_text",
    "load_line",
    "results_table",
    "run_text",
    "write_compare_report",
    "write_run_report",
]
REPORT_FILES = ("report.html", "report.md")


def write_compare_report(compare: Mapping[str, Any], directory: str | Path) -> None:
    """Write `report.html` and `report.md` of compare.json into `directory`, each atomically."""
    page = comparison_page(compare)
    for name, text in zip(REPORT_FILES, (to_html(page), to_markdown(page)), strict=True):
        _write(Path(directory) / name, text)


def write_run_report(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the web page of one run, from its results.json and examples.json, atomically."""
    _write(Path(path), to_html(run_page(results, examples)))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
