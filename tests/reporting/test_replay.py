"""The report of a replay, from plain findings."""

import pytest

from cost_hf.reporting.html import to_html
from cost_hf.reporting.replay import replay_page, replay_text

RATE = {"value": 0.0523, "low": 0.0401, "high": 0.0654}


def row(name: str, **changes) -> dict:
    found = {
        "name": name,
        "variant": None,
        "models": ["a" * 64],
        "catalogs": 2,
        "first": "2026-03-01 00:00:00",
        "last": "2026-03-02 00:00:00",
        "lists": 1200,
        "users": 300,
        "impressions": 12_000,
        "clicked": 628,
        "cases": 800,
        "rates": {
            "ctr": RATE,
            "clicked_lists": RATE,
            "ctr.view": RATE,
            "recall@5": RATE,
            "ndcg@5": RATE,
            "mrr@5": RATE,
        },
        "ranks": [{"rank": str(rank), "impressions": 100, "clicked": 5, "ctr": 0.05} for rank in range(1, 21)]
        + [{"rank": "21+", "impressions": 10, "clicked": 0, "ctr": 0.0}],
    }
    return found | changes


def findings(**changes) -> dict:
    found = {
        "log": {
            "files": 1,
            "in_progress": 0,
            "damaged": 0,
            "first_damaged": "",
            "lists": 1300,
            "first": "2026-03-01 00:00:00",
            "last": "2026-03-02 00:00:00",
            "without_user": 90,
            "outside": 10,
            "judged": 1200,
            "cut_off": 0,
            "longest": 30,
        },
        "clicks": {
            "clicks": 5000,
            "users": 400,
            "first": "2026-03-01 00:00:00",
            "last": "2026-03-03 00:00:00",
            "on_lists": 650,
            "without_user": 0,
            "unreadable": 0,
        },
        "protocol": {
            "window_seconds": 86_400.0,
            "cutoffs": [5],
            "next_clicks": 1,
            "by": "model",
            "targets": "every click",
            "draws": 2000,
            "seed": 0,
        },
        "models": [row("aaaaaaaa")],
        "catalogs": [row("aaaaaaaa / cccccccc")],
        "baseline": None,
        "differences": [],
        "cautions": ["Clicks depend on what was shown."],
    }
    return found | changes


def test_text_and_page_show_the_same_rates():
    for text in (replay_text(findings()), to_html(replay_page(findings()))):
        assert "5.23\u00a0%" in text and "[4.01\u00a0%, 6.54\u00a0%]" in text
        assert ".0523" in text
        assert "90 without a user id, 10 at other times than the clicks" in " ".join(text.split())
        assert "Clicks depend on what was shown." in text


def test_types_of_events_have_a_table_where_there_are_any():
    events = "Items shown that had an event of each type"
    rates = {name: RATE for name in ("ctr", "clicked_lists")}
    without = findings(models=[row("aaaaaaaa", rates=rates)])

    assert events in replay_text(findings()) and events in to_html(replay_page(findings()))
    assert events not in replay_text(without) and events not in to_html(replay_page(without))


def test_the_page_has_all_ranks_and_the_terminal_the_first():
    assert "21+" in to_html(replay_page(findings())) and "21+" not in replay_text(findings())


def test_a_rate_without_an_interval_and_models_without_cases_are_shown():
    rates = {
        "ctr": {"value": 0.5, "low": None, "high": None},
        "clicked_lists": {"value": 0.5, "low": None, "high": None},
    }
    alone = findings(models=[row("aaaaaaaa", rates=rates, cases=0)])

    assert "50.00\u00a0%" in replay_text(alone) and "no list was followed by a click" in replay_text(alone)
    assert 'id="offline"' not in to_html(replay_page(alone))


def test_words_of_a_log_are_no_markup_and_move_no_cursor():
    hostile = findings(models=[row("<script>x</script>\x1b[2J")])

    assert "<script>" not in to_html(replay_page(hostile))
    assert "\x1b" not in replay_text(hostile)


@pytest.mark.parametrize(
    ("seconds", "text"), [(90.0, "90 s"), (1800.0, "30 min"), (86_400.0, "24 h"), (604_800.0, "7 days")]
)
def test_the_window_is_named_in_its_unit(seconds, text):
    found = findings()
    found["protocol"] |= {"window_seconds": seconds}

    assert f"at most {text} before" in " ".join(replay_text(found).split())
