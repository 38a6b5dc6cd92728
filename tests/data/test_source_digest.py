"""The digest of the source: equal for equal content, whatever the format and the options."""

import json

import pandas as pd
import pytest

from cost_hf.data import DataOptions, read_tables

ITEMS = pd.DataFrame(
    {
        "item_id": ["007", "8", "9"],
        "title": ["Red", None, "Blue"],
        "year": [1984.0, 2001.0, None],
        "tags": [["a", "b"], [], ["c"]],
        "size": [{"w": 1}, None, {"w": 2, "h": 3}],
    }
)
CLICKS = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": ["8", "007", "9", "9"], "timestamp": [3, 4, 5, 6]})
FLAT = ITEMS.drop(columns=["tags", "size"])


def digest(items=ITEMS, clicks=CLICKS, **options):
    given = {"on_empty_text": "drop"} | options
    return read_tables(DataOptions(**given), items=items, interactions=clicks).source_digest


def write_jsonl(frame, path):
    rows = json.loads(frame.to_json(orient="records"))
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
    return path


def test_formats_of_the_same_content_agree(tmp_path):
    ITEMS.to_parquet(tmp_path / "items.parquet")
    FLAT.to_csv(tmp_path / "flat.csv", index=False)
    CLICKS.to_csv(tmp_path / "clicks.csv", index=False)

    nested = digest()

    assert digest(tmp_path / "items.parquet") == nested
    assert digest(write_jsonl(ITEMS, tmp_path / "items.jsonl"), tmp_path / "clicks.csv") == nested
    assert digest(tmp_path / "flat.csv") == digest(FLAT)
    assert digest(FLAT) != nested


def test_times_of_the_same_moment_agree():
    dates = pd.to_datetime(CLICKS["timestamp"], unit="s")

    assert digest(clicks=CLICKS.assign(timestamp=dates)) == digest()
    assert digest(clicks=CLICKS.assign(timestamp=dates.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))) == digest()


def test_order_of_columns_and_clicks_and_empty_columns_do_not_count():
    assert digest(ITEMS[ITEMS.columns[::-1]], CLICKS.iloc[::-1].assign(rating=None)) == digest()


@pytest.mark.parametrize(
    "options",
    [{"min_item_interactions": 2}, {"max_user_interactions": 1}, {"seed": 3}, {"split": "time"}],
    ids=lambda options: next(iter(options)),
)
def test_options_do_not_change_it(options):
    assert digest(**options) == digest()


def test_column_names_are_ours_before_it_is_taken():
    assert digest(clicks=CLICKS.rename(columns={"user_id": "uid"}), columns={"user_id": "uid"}) == digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda items, clicks: (items.assign(title=["Red", None, "blue"]), clicks),
        lambda items, clicks: (items.iloc[::-1], clicks),
        lambda items, clicks: (items.assign(tags=[["a b"], [], ["c"]]), clicks),
        lambda items, clicks: (items, clicks.assign(timestamp=[4, 3, 5, 6])),
        lambda items, clicks: (items, clicks.iloc[:3]),
        lambda items, clicks: (items, pd.concat([clicks, clicks])),
        lambda items, clicks: (items.assign(note=["x", None, None]), clicks),
        lambda items, clicks: (items.rename(columns={"tags": "words"}), clicks),
    ],
    ids=["a letter", "catalog order", "a list", "times", "a click less", "doubled", "a column more", "a column's name"],
)
def test_other_content_differs(change):
    assert digest(*change(ITEMS, CLICKS)) != digest()


def test_the_toy_set_has_one():
    options = {"reader": "synthetic", "synthetic_users": 5, "synthetic_items": 48}
    first, again, other = (read_tables(DataOptions(**options, seed=seed)).source_digest for seed in (0, 0, 1))

    assert first == again != other
