"""The report of a drift check, from plain findings."""

import pytest

from cost_hf.reporting.drift import drift_page, drift_text, shown_value
from cost_hf.reporting.html import to_html


def statistic(name: str, group: str, status: str, **changes) -> dict:
    limits = {"usual": 0.04, "low": 0.03, "high": 0.05, "watch": [None, 0.06], "retrain": [None, 0.08]}
    found = {"name": name, "group": group, "label": name, "unit": "share", "value": 0.07, "limits": limits}
    return (
        found
        | {"distance": 1.5, "status": status, "reason": "" if status == "fine" else f"{name} is <b>high</b>"}
        | changes
    )


def findings(**changes) -> dict:
    found = {
        "source": "runs/<shop>",
        "verdict": "watch",
        "advice": "Run it again.",
        "reasons": ["words is <b>high</b>"],
        "statistics": [
            statistic("words", "texts", "watch"),
            statistic("error", "semantic IDs", "fine", unit="ratio", value=0.044),
        ],
        "not_applicable": {"clicks": "no clicks were given"},
        "notes": ["3 items have no text and are left out."],
        "protocol": {"draws": 400, "items": 7, "items_looked_at": 5, "item_sample": 5, "training_items": 90},
    }
    return found | changes


def test_text_and_page_show_verdict_reasons_values_and_what_is_missing():
    text = drift_text(findings())
    page = to_html(drift_page(findings()))

    assert text.startswith("watch: runs/<shop>") and "- words is <b>high</b>" in text
    assert "no statistics of clicks: no clicks were given" in text and max(map(len, text.splitlines())) <= 110
    for report in (text, page):
        assert "7.0\u00a0%" in report and "1.10×" in report and "of which 5 were looked at" in report
    assert "runs/&lt;shop&gt;" in page and "<b>" not in page
    assert "not applicable: no clicks were given" in page


def test_the_page_shows_the_worst_reasons_and_counts_the_others():
    page = drift_page(findings(reasons=[f"reason {number}" for number in range(9)]))

    assert page.paragraphs[1:5] == ("reason 0", "reason 1", "reason 2", "reason 3")
    assert page.paragraphs[5] == "5 other statistics of the table are unusual, too."


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.123, "share", "12.3\u00a0%"),
        (1.3, "share", "–"),
        (None, "number", "–"),
        (-1, "number", "–"),
        (12.5, "number", "12.5"),
    ],
)
def test_limits_that_no_value_reaches_are_dashes(value, unit, text):
    assert shown_value(value, unit, 1.0) == text
