"""The report of a check, from plain findings."""

import pytest

from cost_hf.reporting.check import check_text, command_line


def findings(**changes):
    """Return what a check found in a made-up shop."""
    size = {"level_sizes": [32, 32], "places": 1024, "collided": 0.31, "largest_group": 9}
    advised = {"level_sizes": [64, 64, 64], "places": 262144, "collided": 0.004, "largest_group": 3}
    found = {
        "source": "shop",
        "recipe": "made_up",
        "options": {"reader": "tables", "items": "products.csv", "interactions": None, "columns": {"item_id": "sku"}},
        "guess": {"columns": {"item_id": "sku"}, "reasons": {"item_id": "98 % of the clicks match"}},
        "flags": {"data.columns": "{item_id: sku}"},
        "clicks": {
            "users": 1200,
            "items": 400,
            "interactions": 9000,
            "density": 0.01875,
            "lengths": {"least": 1, "median": 5.0, "mean": 7.5, "ninety": 15.0, "most": 90},
            "short_users": 30,
            "unclicked_items": 12,
            "repeated_pairs": 450,
            "top_share": 0.52,
            "time": {"first": "2024-01-01", "last": "2024-06-30", "null_share": 0.0, "tied_share": 0.002},
            "splits": [
                {"name": "leave_one_out", "cases": 1170, "users": 1170, "unseen": 0.031, "failure": None},
                {"name": "time", "cases": 0, "users": 0, "unseen": 0.0, "failure": "no times"},
            ],
        },
        "texts": {
            "template": "{title}",
            "columns": [{"name": "title", "filled": 1.0, "words": 6.0}],
            "mean_words": 6.2,
            "shared": 4,
            "largest_shared": 2,
            "near_share": 0.03,
        },
        "vector_origin": "lsa",
        "code_sizes": [size, advised],
        "advised": advised,
        "power": {
            "users": 1170,
            "spread": 0.4,
            "level": 0.08,
            "detectable": 0.0327,
            "relative": 0.41,
            "pair": ["one", "other"],
        },
        "estimate": {
            "seconds": {"vectors": 10.0, "training": 1200.0},
            "memory_mb": 700.0,
            "threads": 2,
            "assumptions": ["10 epochs"],
        },
        "unused": [
            {"table": "interactions", "name": "kind", "content": "view 80%, buy 20%", "use": "--data.event_column kind"}
        ],
        "problems": [{"severity": "warning", "message": "few clicks", "remedy": "--data.min_item_interactions 5"}],
        "commands": ["cost-hf compare shop"],
    }
    return found | changes


def test_every_fact_is_in_the_report():
    text = " ".join(check_text(findings()).split())  # without the wrapping

    for part in (
        "shop: 1,200 users, 400 items, 9,000 clicks (density 1.875 %)",
        "--data.items products.csv",
        "guessed: item_id = 'sku' (98 % of the clicks match)",
        "--data.columns '{item_id: sku}'",
        "6 words on average; filled: title 100 %",
        "4 items have the text of another item (up to 2 with the same); 3 % have a near duplicate",
        "1 to 90 clicks per user, median 5, mean 7.5, 90th percentile 15; 30 users with fewer than 3 clicks",
        "450 clicks (5.0 %) repeat an item of the same user",
        "22.5 clicks per item; 12 items without clicks; the most clicked tenth has 52 % of all clicks",
        "2024-01-01 to 2024-06-30; < 1 % of the clicks have the time of another click of their user",
        "3.1 % of the targets are not in training",
        "time          not possible",
        "1,170 test users can detect NDCG@10 differences from about .0327",
        "41 % of a simple baseline's .0800",
        "3 × 64           262,144                < 1 %                3   <- recommended",
        "made_up, one seed:",
        "item texts under a minute, training 10–35 minutes",
        "assumes 10 epochs",
        "not used interactions.kind (view 80%, buy 20%): --data.event_column kind",
        " 1. warning: few clicks -> --data.min_item_interactions 5",
        "  cost-hf compare shop",
    ):
        assert " ".join(part.split()) in text


def test_no_line_is_wider_than_a_terminal():
    assert max(map(len, check_text(findings()).splitlines())) <= 110


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"power": None}, "no split, so no test users"),
        ({"estimate": "the backbone is not loaded"}, "not measured: the backbone is not loaded"),
        ({"problems": []}, "No problems found."),
    ],
)
def test_missing_measurements_are_named(changes, part):
    assert part in check_text(findings(**changes))


def test_texts_of_the_data_do_not_steer_the_terminal():
    assert "\x1b" not in check_text(findings(source="a\x1b[2Jb"))


def test_commands_are_wrapped_and_quoted():
    flags = {f"section.field_{number}": "a value with blanks" for number in range(4)}

    lines = command_line("cost-hf compare shop", flags).splitlines()

    assert len(lines) == 2
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert "--section.field_0 'a value with blanks'" in lines[0]
    assert max(map(len, lines)) <= 110
