"""Review dumps of every layout, made by hand here after their descriptions."""

import gzip
import json

import pandas as pd
import pytest

from cost_hf.data import DataError, DataOptions, read_tables
from cost_hf.data.amazon import read_amazon

REVIEWS_2014 = [
    {"reviewerID": "A1", "asin": "0001", "helpful": [2, 3], "overall": 5.0, "unixReviewTime": 1252800000},
    {"reviewerID": "A1", "asin": "0002", "helpful": [0, 0], "overall": 3.0, "unixReviewTime": 1252713600},
    {"reviewerID": "A2", "asin": "0001", "helpful": [0, 0], "overall": 1.0, "unixReviewTime": 1252800000},
]
METADATA_2014 = [
    {
        "asin": "0001",
        "title": "Pens &amp; Ink",
        "price": 3.17,
        "salesRank": {"Office Products": 12},
        "brand": "It's",
        "categories": [["Office Products", "Pens, Pencils & More", "Pens"], ["Toys", "Art"]],
    },
    {"asin": "0002", "description": "Blue  'n' white", "categories": [["Office Products"]], "related": {}},
    {"asin": "0003", "imUrl": "http://x/3.jpg"},
]
REVIEWS_2018 = [
    {"overall": 4.0, "verified": True, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1514764800, "vote": "3"},
    {"overall": 5.0, "verified": True, "reviewerID": "A1", "asin": "B2", "unixReviewTime": 1514851200, "style": {}},
    {"overall": 4.0, "verified": True, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1514764800},
]
METADATA_2018 = [
    {
        "category": ["Office", "Desks, Chairs", "</span></span>", "Steel legs"],
        "description": ["<p>Sturdy<br>desk</p>", "", "5 &lt; 6"],
        "title": "Desk <b>XL</b> &quot;Oak&quot;",
        "brand": "Woods",
        "feature": ["Wide", "<style>.a{color:red}</style>Tall"],
        "main_cat": "Office &amp; School",
        "price": "$1,065.50",
        "asin": "B1",
    },
    {"category": [], "description": [], "title": "var aPageStart = (new Date()).getTime();", "brand": "", "asin": "B2"},
    {"category": [], "title": "Again", "price": ".a-box-inner{width:100px}", "asin": "B1"},
]
REVIEWS_2023 = [
    {"rating": 5.0, "title": "t", "asin": "C0", "parent_asin": "C1", "user_id": "AE1", "timestamp": 1588687728923},
    {"rating": 2.0, "title": "t", "asin": "C2", "parent_asin": "C2", "user_id": "AE1", "timestamp": 1588687729001},
]
METADATA_2023 = [
    {
        "main_category": "Office Products",
        "title": "Stapler",
        "features": ["Light", "Red"],
        "description": ["A stapler."],
        "price": "from 14.99",
        "store": "Acme",
        "categories": ["Office Products", "Staplers"],
        "details": {"Brand": "Other"},
        "parent_asin": "C1",
    },
    {"main_category": None, "title": "Clip", "price": None, "store": None, "details": {"Brand": "Clips"}},
]
METADATA_2023[1]["parent_asin"] = "C2"


def write(path, records, *, form=json.dumps):
    content = "".join(form(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def dump_2014(tmp_path):
    write(tmp_path / "reviews_Office_Products.json.gz", REVIEWS_2014)
    write(tmp_path / "meta_Office_Products.json.gz", METADATA_2014, form=repr)
    return tmp_path


@pytest.fixture
def dump_2018(tmp_path):
    write(tmp_path / "Office_Products_5.json.gz", REVIEWS_2018)
    write(tmp_path / "meta_Office_Products.json.gz", METADATA_2018)
    return tmp_path


@pytest.fixture
def dump_2023(tmp_path):
    write(tmp_path / "Office_Products.jsonl.gz", REVIEWS_2023)
    write(tmp_path / "meta_Office_Products.jsonl.gz", METADATA_2023)
    return tmp_path


def read(directory, **options):
    return read_amazon(DataOptions(reader="amazon", path=str(directory), **options))


def item(raw, item_id):
    row = raw.items.set_index("item_id").loc[item_id]
    return {name: None if pd.isna(value) else value for name, value in row.items()}


def clicks(raw):
    return raw.interactions.to_dict("split")["data"]


def test_layout_of_2014_reads_python_literals_as_metadata(dump_2014):
    raw = read(dump_2014)

    assert list(raw.interactions.columns) == ["user_id", "item_id", "timestamp", "rating"]
    assert clicks(raw)[:2] == [["A1", "0001", 1252800000, 5.0], ["A1", "0002", 1252713600, 3.0]]
    assert item(raw, "0001") == {
        "title": "Pens & Ink",
        "brand": "It's",
        "type": "Office Products",
        "categories": "Office Products, Pens Pencils & More, Pens",
        "description": None,
        "features": None,
        "price": 3.17,
    }
    assert item(raw, "0002")["description"] == "Blue 'n' white"


def test_layout_of_2018_loses_markup_and_what_is_no_category(dump_2018):
    raw = read(dump_2018)

    assert item(raw, "B1") == {
        "title": 'Desk XL "Oak"',
        "brand": "Woods",
        "type": "Office & School",
        "categories": "Office, Desks Chairs",
        "description": "Sturdy desk 5 < 6",
        "features": "Wide Tall",
        "price": 1065.5,
    }
    assert item(raw, "B2")["title"] is None


def test_layout_of_2023_has_parents_stores_and_milliseconds(dump_2023):
    raw = read(dump_2023)

    first, second = (pd.Timestamp(time, unit="ms") for time in (1588687728923, 1588687729001))
    assert clicks(raw) == [["AE1", "C1", first, 5.0], ["AE1", "C2", second, 2.0]]
    assert item(raw, "C1")["brand"] == "Acme"
    assert item(raw, "C1")["price"] == 14.99
    assert item(raw, "C1")["features"] == "Light Red"
    assert item(raw, "C2") == dict.fromkeys(item(raw, "C2")) | {"title": "Clip", "brand": "Clips"}


def test_benchmark_csv_of_2023_reads_like_its_json(dump_2023):
    expected = read(dump_2023).interactions
    (dump_2023 / "Office_Products.jsonl.gz").unlink()
    lines = ["user_id,parent_asin,rating,timestamp"]
    lines += [f"{row['user_id']},{row['parent_asin']},{row['rating']},{row['timestamp']}" for row in REVIEWS_2023]
    write(dump_2023 / "Office_Products.csv", lines, form=str)

    pd.testing.assert_frame_equal(read(dump_2023).interactions, expected)


def test_plain_files_read_like_gzip(dump_2014):
    expected = read(dump_2014)
    for path in list(dump_2014.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()

    raw = read(dump_2014)

    pd.testing.assert_frame_equal(raw.items, expected.items)
    pd.testing.assert_frame_equal(raw.interactions, expected.interactions)


def test_repeated_reviews_and_metadata_are_dropped_and_counted(dump_2018):
    raw = read(dump_2018)

    assert len(raw.interactions) == 2
    assert raw.items["item_id"].tolist() == ["B1", "B2"]
    assert raw.counts == {"dropped_repeated_metadata": 1, "dropped_repeated_reviews": 1}


def test_price_column_is_left_out_where_no_item_has_one(dump_2023):
    write(dump_2023 / "meta_Office_Products.jsonl.gz", METADATA_2023[1:])

    assert "price" not in read(dump_2023).items


@pytest.mark.parametrize(
    ("price", "expected"),
    [("$7.86", 7.86), ("$3.00 - $4.50", 3.0), ("1,299", 1299.0), ("", None), ("See price in cart", None), (5, 5.0)],
)
def test_price_texts_become_numbers_or_nothing(dump_2023, price, expected):
    write(dump_2023 / "meta_Office_Products.jsonl.gz", [METADATA_2023[0], METADATA_2023[1] | {"price": price}])

    assert item(read(dump_2023), "C2")["price"] == expected


def test_missing_metadata_and_empty_texts_follow_the_options(dump_2014):
    write(dump_2014 / "meta_Office_Products.json.gz", METADATA_2014[1:], form=repr)
    options = {"reader": "amazon", "path": str(dump_2014)}
    with pytest.raises(DataError, match=r"got '0001' .*data\.on_unknown_item: drop"):
        read_tables(DataOptions(**options))
    with pytest.raises(DataError, match=r"item_id '0003'\): expected a text, got ''.*data\.on_empty_text: drop"):
        read_tables(DataOptions(**options, on_unknown_item="drop"))

    tables = read_tables(DataOptions(**options, on_unknown_item="drop", on_empty_text="drop"))

    assert tables.items["item_id"].tolist() == ["0002"]
    assert tables.counts["dropped_unknown_item_interactions"] == 2
    assert tables.counts["dropped_empty_text_items"] == 1


def test_users_alone_are_filtered_and_the_catalog_is_what_they_reviewed(dump_2014):
    options = DataOptions(
        reader="amazon", path=str(dump_2014), on_empty_text="drop", min_user_interactions=2, min_item_interactions=1
    )

    tables = read_tables(options)

    assert tables.interactions["item_id"].tolist() == ["0002", "0001"]
    assert set(tables.items["item_id"]) == {"0001", "0002"}


def test_second_reviews_file_is_an_error_until_one_is_named(dump_2014):
    write(dump_2014 / "reviews_Office_Products_5.json.gz", REVIEWS_2014[:1])
    with pytest.raises(DataError, match=r"got \['reviews_Office_Products\.json\.gz', .*with data\.interactions"):
        read(dump_2014)

    assert len(read(dump_2014, interactions="reviews_Office_Products_5.json.gz").interactions) == 1


def test_directory_without_metadata_lists_what_was_looked_for(dump_2023):
    (dump_2023 / "meta_Office_Products.jsonl.gz").unlink()
    (dump_2023 / "stats.json").write_text("{\n}\n")
    with pytest.raises(
        DataError, match=r"expects one reviews file and one metadata file.*got \[\] with metadata among"
    ):
        read(dump_2023)


def test_missing_path_is_an_error_with_a_remedy():
    with pytest.raises(DataError, match=r"data\.reader amazon needs data\.path, got none; set it to the directory"):
        read_amazon(DataOptions(reader="amazon"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reviewerID": "A1", "asin"', r"line 4: expected one object per line \(JSONDecodeError\), got '\{"),
        ("[1]", r"line 4: expected one object per line, got '\[1\]'"),
        ('{"reviewerID": "A1", "asin": "0001"}', r"line 4: expected reviewerID, asin, unixReviewTime \(KeyError"),
        ('{"reviewerID": "", "asin": "0001", "unixReviewTime": 1}', r"line 4: .*ids must be non-empty strings"),
        ('{"reviewerID": "A1", "asin": "0001", "unixReviewTime": "x"}', r"line 4: .*ValueError"),
    ],
    ids=["cut", "list", "no time", "empty user", "word as time"],
)
def test_malformed_review_is_named_with_what_was_expected(dump_2014, line, message):
    write(dump_2014 / "reviews_Office_Products.json.gz", [*map(json.dumps, REVIEWS_2014), line], form=str)
    with pytest.raises(DataError, match=r"reviews_Office_Products\.json\.gz, " + message):
        read(dump_2014)


def test_literals_are_read_and_never_run(dump_2014, tmp_path):
    target = tmp_path / "made"
    call = "{'asin': __import__('pathlib').Path(" + repr(str(target)) + ").touch()}"
    write(dump_2014 / "meta_Office_Products.json.gz", [repr(METADATA_2014[0]), call], form=str)
    with pytest.raises(DataError, match=r"meta_Office_Products\.json\.gz, line 2: expected one object per line"):
        read(dump_2014)

    assert not target.exists()


def test_product_without_an_id_is_named(dump_2023):
    write(dump_2023 / "meta_Office_Products.jsonl.gz", [METADATA_2023[0], {"title": "x"}])
    with pytest.raises(DataError, match=r"line 2: expected a product with asin or parent_asin"):
        read(dump_2023)


def test_seconds_in_the_layout_of_milliseconds_are_an_error(dump_2023):
    write(dump_2023 / "Office_Products.jsonl.gz", [REVIEWS_2023[0] | {"timestamp": 1588687728}])
    with pytest.raises(DataError, match=r"line 1: .*1588687728 is not an epoch time in milliseconds"):
        read(dump_2023)


def test_csv_without_a_header_is_an_error(dump_2014):
    write(dump_2014 / "ratings.csv", ["A1,0001,5.0,1252800000"], form=str)
    with pytest.raises(DataError, match=r"ratings\.csv, line 1: expected a header like user_id,parent_asin"):
        read(dump_2014, interactions="ratings.csv")


def test_csv_row_of_another_width_is_an_error(dump_2023):
    lines = ["user_id,parent_asin,rating,timestamp", "AE1,C1,5.0,1588687728923", "AE1,C2"]
    write(dump_2023 / "few.csv", lines, form=str)
    with pytest.raises(DataError, match=r"few\.csv, line 3: expected 4 columns \(user_id, parent_asin"):
        read(dump_2023, interactions="few.csv")


def test_csv_with_a_column_twice_is_an_error(dump_2023):
    write(dump_2023 / "twice.csv", ["user_id,parent_asin,rating,timestamp,rating"], form=str)
    with pytest.raises(DataError, match=r"twice\.csv, line 1: expected each column once"):
        read(dump_2023, interactions="twice.csv")


def test_half_a_character_is_an_error_with_its_line(dump_2023):
    write(dump_2023 / "Office_Products.jsonl.gz", [REVIEWS_2023[0], REVIEWS_2023[1] | {"title": "\ud83d"}])
    with pytest.raises(DataError, match=r"Office_Products\.jsonl\.gz, line 2: expected text, got half of a character"):
        read(dump_2023)


def test_reviews_within_a_second_are_ordered_by_milliseconds(dump_2023):
    times = {"C1": 1588687728900, "C2": 1588687728100}
    reviews = [REVIEWS_2023[0] | {"parent_asin": item, "timestamp": time} for item, time in times.items()]
    write(dump_2023 / "Office_Products.jsonl.gz", reviews)

    for seed in range(4):
        tables = read_tables(DataOptions(reader="amazon", path=str(dump_2023), seed=seed, on_empty_text="drop"))
        assert tables.interactions["item_id"].tolist() == ["C2", "C1"]
